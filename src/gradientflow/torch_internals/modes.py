"""Modes and transformations: what sees a call of PyTorch beside us, and how our own calls are seen by nobody."""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import chain, repeat, starmap
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from gradientflow.torch_internals.wall import any_says, lean_on

_UNTRACED = "operations are not traced line by line"
_function_modes = lean_on("torch._C._len_torch_function_stack", "how many function modes are active", _UNTRACED)
_push_mode = lean_on(
    "torch._C._push_on_torch_function_stack", "puts our function mode under those of the script", _UNTRACED
)
_pop_mode = lean_on("torch._C._pop_torch_function_stack", "takes function modes off, to put ours under them", _UNTRACED)
_function_mode_at = lean_on("torch._C._get_function_stack_at", "which function modes are active", _UNTRACED)
_grad_enabled = lean_on(
    "torch._C._set_grad_enabled",
    "puts the grad mode back where a signal came between the halves of a block of ours",
    "a signal at the wrong moment may leave gradients switched off",
)
_disable_function = lean_on(
    "torch._C.DisableTorchFunction", "our own calls are seen by no mode and no tensor subclass",
    "tensor subclasses of the script may see calls of ours",
)  # fmt: skip
_dispatch_modes = lean_on(
    "torch._C._len_torch_dispatch_stack", "whether the script has a dispatch mode on",
    "dispatch modes of the script may see calls of ours",
)  # fmt: skip
_no_dispatch = lean_on(
    "torch.utils._python_dispatch._disable_current_modes", "our own calls are seen by no dispatch mode",
    "dispatch modes of the script may see calls of ours",
)  # fmt: skip
_device_context = lean_on(
    "torch.utils._device.DeviceContext", "the mode of `torch.set_default_device`, which must stay lowest",
    "operations are not traced under `torch.set_default_device`",
    lazy=True,
)  # fmt: skip


def modes_can_be_moved() -> bool:
    """Whether function modes can be put on the stack and taken off it."""
    return all(i.value is not None for i in (_function_modes, _push_mode, _pop_mode, _function_mode_at))


def function_modes() -> list[Any]:
    """Return the function modes of this thread, the lowest first."""
    return [_function_mode_at.ask(None, i) for i in range(_function_modes.ask(0))] if modes_can_be_moved() else []


def set_function_modes(modes: list[Any]) -> None:
    """Put these modes in place of those of this thread: in one call into C, which no signal of the script's can cut in two."""
    if not modes_can_be_moved():
        return
    try:
        deque(
            chain(starmap(_pop_mode.value, repeat((), _function_modes.value())), map(_push_mode.value, modes)), maxlen=0
        )
    except TypeError as problem:
        _push_mode.broken = f"failed ({problem})"


def set_grad_enabled(enabled: bool) -> None:
    """Switch gradients on or off for this thread."""
    _grad_enabled.ask(None, enabled)


def is_default_device(mode: Any) -> bool:
    """Whether a mode is that of `torch.set_default_device`, which insists on being the lowest."""
    kind = _device_context.value
    return kind is not None and isinstance(mode, kind) and hasattr(mode, "old_device")


def unseen() -> contextlib.AbstractContextManager[Any]:
    """Return a block in which torch calls are seen by no function mode and no tensor subclass."""
    made = _disable_function.ask(None)
    return made if made is not None else contextlib.nullcontext()


def undispatched() -> contextlib.AbstractContextManager[Any]:
    """Return a block in which torch calls are seen by no dispatch mode of the script's; cheap where there is none."""
    if not _dispatch_modes.ask(0):
        return contextlib.nullcontext()
    made = _no_dispatch.ask(None)
    return made if made is not None else contextlib.nullcontext()


_MAY_TRACE = "calls inside torch.func or torch.jit.trace may be looked into, where tensors hold no numbers"
_interpreter = lean_on(
    "torch._C._functorch.peek_interpreter_stack", "whether torch.func transforms this call", _MAY_TRACE
)
_jit = lean_on("torch._C._get_tracing_state", "whether torch.jit.trace records this call", _MAY_TRACE)
_saving = lean_on(
    "torch._C._autograd._top_saved_tensors_default_hooks", "whether saved tensors go through hooks of the script's",
    "hooks on saved tensors may be called once more by the sharpness",
)  # fmt: skip


_mode_at = lean_on(
    "torch._C._get_dispatch_stack_at", "which dispatch modes are on: those that trace are PyTorch's own", _MAY_TRACE
)
_pre_dispatch = lean_on(
    "torch._ops._len_torch_dispatch_stack_pre_dispatch", "whether torch.export traces this call", _MAY_TRACE
)
_wrapped = lean_on("torch._C._functorch.is_functorch_wrapped_tensor", "whether torch.func wraps a tensor", _MAY_TRACE)
_batched = lean_on(
    "torch._C._functorch.is_legacy_batchedtensor", "whether a batched gradient call wraps a tensor", _MAY_TRACE
)
_functional = lean_on("torch._is_functional_tensor", "whether a tensor stands for another one in a trace", _MAY_TRACE)
_STANDING_FOR_OTHERS = (_wrapped, _batched, _functional)
_TRACING = (
    "_mode_key"  # PyTorch's tracing modes and tensors (fake, functional, proxy) have it; none of a script's own does
)


def transformed() -> bool:
    """Whether this call is being transformed or recorded (torch.func, torch.jit.trace, torch.export, fake tensors): its
    tensors hold no numbers, and calls of ours would be recorded too.
    """
    return (
        _interpreter.ask(None) is not None
        or _jit.ask(None) is not None
        or _pre_dispatch.ask(0) > 0
        or any(hasattr(_mode_at.ask(None, i), _TRACING) for i in range(_dispatch_modes.ask(0)))
    )


def readable(t: Tensor) -> bool:
    """Whether a tensor holds numbers of its own. One that does not (fake, functional, batched by `vmap`, on the meta device,
    of symbolic size) is never computed with, nor is its shape compared: that alone can add a guard to a graph.
    """
    kind = type(t)
    if kind is not Tensor and kind is not Parameter and hasattr(kind, _TRACING):
        return False
    return not (t.is_meta or getattr(t, "_has_symbolic_sizes_strides", False) or any_says(_STANDING_FOR_OTHERS, t))


def saving_is_hooked() -> bool:
    """Whether what is saved for the backward pass goes through hooks of the script's."""
    return _saving.ask(None, True) is not None
