"""Where values leave the graph: calls whose result has none although what went in is part of it, each with its line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gradientflow.depth.probe import calls
from gradientflow.depth.probe.frames import locate
from gradientflow.depth.probe.names import op_name
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.traced import Trace
from gradientflow.records import Cut

_MAX_CUTS = 200
_MOST_HOOKS = 100
_LEAVING = frozenset({"numpy", "item", "tolist", "__array__", "__float__"})  # calls that take values out of PyTorch


def unseen(trace: Trace, registry: Registry, args: tuple[Any, ...]) -> int | None:
    """Remember parameters that are used with gradients switched off, and the line of the first use of each; return its cut."""
    used = {i for t in calls.tensors(args) if (i := registry.find(t)) is not None}
    fresh = used - trace.without_grad
    if fresh:
        trace.without_grad |= fresh
        where = locate(4, modules=False, limit=8)
        file, line = next((f for f in reversed(where.stack) if f[0] == where.file), (where.file, where.line))
        room = max(0, _MAX_CUTS - len(trace.cuts))
        trace.cuts += [Cut(-1, "no_grad", file, line, i) for i in sorted(fresh)][:room]
    return _off(trace, min(used)) if used else None


def _off(trace: Trace, param: int, name: str = "no_grad") -> int | None:
    """Return the cut that stands for the use of parameters without their gradients on the line that runs."""
    where = locate(5, modules=False, limit=1)
    here = (-1, name, where.file, where.line)
    known = next(
        (k for k, c in enumerate(trace.cuts) if (c.op, c.name, c.file, c.line) == here and c.value is None), None
    )
    if known is None and len(trace.cuts) < _MAX_CUTS:
        trace.cuts.append(Cut(*here, param))
        known = len(trace.cuts) - 1
    return known


def cut(
    trace: Trace, registry: Registry, func: Callable[..., Any], raw: str, args: tuple[Any, ...], out: Any
) -> int | None:
    """Remember a call whose result has left the graph although what went in is part of it; return the cut's index."""
    if raw == "__get__" and op_name(func) != "data":
        return None
    node = next((n for t in calls.tensors(args) if (n := calls.grad_fn(t)) is not None), None)
    if node is None and op_name(func) in ("data", "detach"):
        weight = registry.find(args[0]) if args and args[0].requires_grad else None
        return _off(trace, weight, op_name(func)) if weight is not None else None
    before = trace.severed.of(args[0]) if node is None and raw in _LEAVING and args else None
    if before is not None:  # a number of what was taken out already
        known = trace.cuts[before]
        return _took(trace, known.op, op_name(func), out, known.param)
    empty = raw.endswith("_like") or raw.startswith("new_")
    if node is None or empty or not (raw in _LEAVING or calls.tensors(out)):
        return None
    index = trace.owner.get(node)
    return _took(trace, index, op_name(func), out) if index is not None else None


def derived(trace: Trace, roots: list[Tensor], out: Any) -> None:
    """Remember a derivative that was taken without `create_graph`: whatever is made of it trains nothing."""
    node = next((n for t in roots if (n := calls.grad_fn(t)) is not None), None)
    index = trace.owner.get(node) if node is not None else None
    if index is not None:
        trace.severed.see((), calls.tensors(out), _took(trace, index, "grad"))


def _took(trace: Trace, index: int, name: str, out: Any = None, param: int | None = None) -> int | None:
    """Put a cut on record, with the number that was taken out, and return its index."""
    if len(trace.cuts) >= _MAX_CUTS:
        return None
    where = locate(5, modules=False, limit=1)
    number = float(out) if isinstance(out, (int, float)) else None
    trace.cuts.append(Cut(index, name, where.file, where.line, param, number))
    return len(trace.cuts) - 1


def hooked(trace: Trace, args: tuple[Any, ...], name: str) -> None:
    """Note a hook that the script puts on the result of an operation."""
    node = calls.grad_fn(args[0]) if args and isinstance(args[0], Tensor) else None
    index = trace.owner.get(node) if node is not None else None
    if index is not None and len(trace.hooks) < _MOST_HOOKS:
        where = locate(3, modules=False, limit=1)
        trace.hooks.append(Cut(index, name, where.file, where.line))
