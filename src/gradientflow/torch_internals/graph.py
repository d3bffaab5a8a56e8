"""The graph of autograd: weak references to its tensors, its nodes, its hooks, and the backward call that is running."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gradientflow.torch_internals.frames import frame_of_any_thread
from gradientflow.torch_internals.wall import lean_on

_weak = lean_on(
    "torch._C._WeakTensorRef", "remembers a tensor without keeping it alive", "tensors are remembered by weakref",
)  # fmt: skip
_task = lean_on(
    "torch._C._current_graph_task_id", "tells one backward call from the next",
    "losses of steps that are not probed may be counted twice",
)  # fmt: skip
_engine = lean_on(
    "torch.autograd.graph._engine_run_backward", "its frame holds the tensors that backward was called on",
    "the loss is known on probed steps only",
)  # fmt: skip
_python_node = lean_on(
    "torch._C._FunctionBase", "the nodes of every torch.autograd.Function", "sharpness is not measured",
)  # fmt: skip
_module_hooks = lean_on(
    "torch.nn.modules.module._global_backward_hooks", "whether the script hooks the backward pass of every module",
    "sharpness is not measured",
)  # fmt: skip
_module_pre_hooks = lean_on(
    "torch.nn.modules.module._global_backward_pre_hooks", "whether the script hooks the backward pass of every module",
    "sharpness is not measured",
)  # fmt: skip


class _Weak:
    """A weak reference with the one question that PyTorch's own answers."""

    def __init__(self, t: Tensor) -> None:
        self._ref = weakref.ref(t)

    def expired(self) -> bool:
        return self._ref() is None


def weak(t: Tensor) -> Any:
    """Return a weak reference to a tensor; its `expired()` says whether the tensor is gone."""
    made = _weak.ask(None, t)
    return made if made is not None else _Weak(t)


def backward_task() -> int | None:
    """Return the number of the backward call that is running; None where it cannot be told."""
    found = _task.ask(None)
    return found if isinstance(found, int) else None


def backward_roots() -> Sequence[Any]:
    """Return what the running backward call was called on, read off the frame of PyTorch's own function."""
    if _engine.value is None:
        return ()
    frame = frame_of_any_thread("_engine_run_backward", "graph.py")
    found = frame.f_locals.get("t_outputs") if frame is not None else ()
    if found is None:
        _engine.broken = "holds no `t_outputs`"
    return found or ()


def is_python_node(node: Any) -> bool:
    """Whether a node of the graph runs Python code; taken for granted where that cannot be told."""
    kind = _python_node.value
    return kind is None or isinstance(node, kind)


def function_behind(node: Any) -> type | None:
    """Return the `torch.autograd.Function` that a node of Python code was made by; None where that cannot be told."""
    found = getattr(type(node), "_forward_cls", None) if is_python_node(node) else None
    return found if isinstance(found, type) else None


def any_global_backward_hook() -> bool:
    """Whether the script hooks the backward pass of all modules; taken for granted where that cannot be told."""
    return (
        bool(_module_hooks.value)
        or bool(_module_pre_hooks.value)
        or bool(_module_hooks.broken + _module_pre_hooks.broken)
    )


def hooks_of(thing: Any) -> bool:
    """Whether a tensor or a module has backward hooks of the script's."""
    return bool(getattr(thing, "_backward_hooks", None) or getattr(thing, "_backward_pre_hooks", None))


def backward_hooks(t: Tensor) -> dict[int, Any] | None:
    """Return the hooks on a tensor's gradient, as PyTorch holds them: a live dict; None where there was never one."""
    return getattr(t, "_backward_hooks", None)


def forget_backward_hooks(t: Tensor) -> None:
    """Leave a tensor as one that never had a hook on its gradient."""
    if backward_hooks(t):
        t._backward_hooks = None


def accumulation_hooks(t: Tensor) -> dict[int, Any] | None:
    """Return the hooks that run when a leaf's gradient was added up: a live dict, which PyTorch keeps for good."""
    return getattr(t, "_post_accumulate_grad_hooks", None)


def forward_hooks_of(module: nn.Module) -> list[Any]:
    """Return the hooks on a module's forward pass."""
    return [h for name in ("_forward_hooks", "_forward_pre_hooks") for h in getattr(module, name, {}).values()]


def output_metadata(node: Any, nr: int) -> tuple[tuple[int, ...], Any, Any] | None:
    """Return (shape, dtype, device) of one output of a node of the graph; None where PyTorch does not tell."""
    try:
        known = node._input_metadata[nr]
        return tuple(known.shape), known.dtype, known.device
    except (AttributeError, IndexError, TypeError, RuntimeError):
        return None


def trains(node: Any) -> bool:
    """Whether a normalisation's node was made in training mode; taken for granted of all others."""
    return bool(getattr(node, "_saved_training", True))
