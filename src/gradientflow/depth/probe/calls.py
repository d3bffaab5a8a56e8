"""What a torch call is made of: the tensors and numbers among its arguments, and whether it may be looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

# PyTorch's own: its tracing modes and tensors (fake, functional, proxy) carry this name; a mode of the script's has none.
_TRACING = "_mode_key"
_MODE_AT: Callable[[int], Any] = torch._C._get_dispatch_stack_at


def transformed() -> bool:
    """Return whether this call is being transformed or recorded (torch.func, torch.jit.trace, torch.export, fake tensors):
    its tensors hold no numbers, and calls of ours would be recorded too.
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
        or torch._ops._len_torch_dispatch_stack_pre_dispatch() > 0  # type: ignore[no-untyped-call]
        or any(hasattr(_MODE_AT(i), _TRACING) for i in range(torch._C._len_torch_dispatch_stack()))
    )


def readable(t: Tensor) -> bool:
    """Return whether a tensor holds numbers of its own. One that does not (fake, functional, batched by `vmap`, on the meta
    device, of symbolic size) is never computed with, nor is its shape compared: that alone can add a guard to a graph.
    """
    kind = type(t)
    if kind is not Tensor and kind is not torch.nn.Parameter and hasattr(kind, _TRACING):
        return False
    return not (
        t.is_meta
        or t._has_symbolic_sizes_strides
        or torch._C._functorch.is_functorch_wrapped_tensor(t)
        or torch._C._functorch.is_legacy_batchedtensor(t)
        or torch._is_functional_tensor(t)
    )


def saving_is_hooked() -> bool:
    """Return whether what is saved for the backward pass goes through hooks of the script's."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def grad_fn(t: Tensor) -> Node | None:
    """Return a tensor's autograd node; None also for views that PyTorch refuses to differentiate."""
    if not t.requires_grad:
        return None
    try:
        return t.grad_fn
    except RuntimeError:  # a view made under no_grad whose base was written to since
        return None


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, one level of lists and tuples deep."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        found: list[Tensor] = []
        for entry in value:
            if isinstance(entry, Tensor):
                found.append(entry)
            elif isinstance(entry, (list, tuple)):
                found.extend(t for t in entry if isinstance(t, Tensor))
        return found
    return []


def scalars(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[float]:
    """Return the first few plain numbers among a call's arguments."""
    values = [*args, *kwargs.values()]
    return [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)][:6]
