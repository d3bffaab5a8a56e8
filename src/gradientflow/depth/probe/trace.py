"""The forward half of a probe: every operation as the user wrote it, with its line, module, value and place in the graph.

A `TorchFunctionMode` sees each torch call. After the call the autograd nodes that are new belong to that operation;
edges that leave them name its operands. Nothing is patched, and outside a probe the mode is off the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from gradientflow.depth.probe import calls, cutting
from gradientflow.depth.probe.attention import score_stat
from gradientflow.depth.probe.births import IS_LEAF, Births
from gradientflow.depth.probe.frames import Where, locate
from gradientflow.depth.probe.functions import function_of, row_of
from gradientflow.depth.probe.names import called
from gradientflow.depth.probe.near import nearness
from gradientflow.depth.probe.opaque import OPAQUE, capture, noise_before
from gradientflow.depth.probe.origins import Origins
from gradientflow.depth.probe.passing import callers_frame, passed_on
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.stats import rows_apart, value_stat
from gradientflow.depth.probe.taken import reads, span
from gradientflow.depth.probe.tape import Tape
from gradientflow.depth.probe.tracebacks import take_out
from gradientflow.depth.probe.traced import Edge, Trace, Traced
from gradientflow.ops import kind_of, writes
from gradientflow.records import Op, Operand
from gradientflow.torch_internals import readable, saving_is_hooked, transformed, weak

BACKWARD_CALLS: dict[Any, str] = {
    Tensor.backward: "backward",
    torch.autograd.backward: "backward",
    torch.autograd.grad: "grad",
}
_MAX_NODES = 50_000
_MAX_OPS = 20_000
_SWEEP = 200  # operations between two looks for graphs that the script has dropped
_MAX_CALLS = 64  # of opaque recurrences, kept to be run again
_HOOKING = frozenset({"register_hook", "register_post_accumulate_grad_hook", "retain_grad"})
_GRAD_FN = Tensor.grad_fn.__get__  # type: ignore[union-attr]
_QUIET = frozenset(  # what only looks at a tensor: its result is in no graph, and nobody is born
    getattr(Tensor, name).__get__
    for name in [
        "grad",
        "shape",
        "dtype",
        "device",
        "layout",
        "requires_grad",
        "ndim",
        "is_sparse",
        "is_cuda",
        "is_meta",
    ]
)
_INHERIT = frozenset({"norm", "activation", "pool", "elementwise", "random", "singular"})


class Tracer(TorchFunctionMode):
    """The function mode of a probe.

    Args:
        registry: who is who among the parameters.
        births: listens while the model is built; None afterwards.
        on_backward: called instead of the script's backward call with (call, roots, inputs, run), inputs being what
            `torch.autograd.grad` is to differentiate by; must call `run()` once and return its result.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(
        self,
        registry: Registry,
        births: Births | None,
        on_backward: Callable[[str, list[Tensor], list[Tensor], Callable[[], Any]], Any],
        shield: Callable[..., Any],
    ) -> None:
        super().__init__()
        self.registry = registry
        self.births = births
        self.later = births  # looks for optimizers that are made later on
        self.modules = births.modules if births is not None else {}
        self.on_backward = on_backward
        self.shield = shield
        self.recording = False
        self.listening = True  # act on backward calls
        self.awake: Callable[[], None] = nothing  # called on every torch call that is seen
        self.between: Callable[..., Any] | None = (
            None  # makes the calls between backward and the step, and watches them
        )
        self.thread = get_ident()  # the one that is watched; the mode may still lie on another's stack
        self.under_transform = False  # torch calls were seen inside a transform of torch.func
        self.trace = Trace()
        self.tape: Tape | None = None  # keeps the calls of the forward pass, to run it again
        self.origins = Origins()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        caller = callers_frame()
        try:
            return self._run(caller, func, args, kwargs or {})
        except BaseException as problem:
            take_out(problem, caller)
            raise

    def _run(
        self, caller: FrameType | None, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if getattr(func, "__name__", "") == "__get__" and func in _QUIET:
            return passed_on(caller, func, args, kwargs)
        self.awake()
        if not (self.recording or self.listening or self.births or self.between) or get_ident() != self.thread:
            return passed_on(caller, func, args, kwargs)
        if transformed():
            self.under_transform = True
            return passed_on(caller, func, args, kwargs)
        if self.listening and (call := _backward_call(func)) is not None:
            return self._backward(caller, call, func, args, kwargs)
        if self.births is None and self.later is not None and func == IS_LEAF:
            self.shield(self.later.look_for_optimizer)
        noise = None
        if self.recording and getattr(func, "__name__", "") in OPAQUE:
            noise = self.shield(noise_before, func.__name__, args)
        drawn = self.shield(self.tape.before, func, args) if self.recording and self.tape is not None else None
        if self.between is None:
            out = passed_on(caller, func, args, kwargs)
        else:
            into = kwargs.get("out", kwargs.get("tensor"))  # (by its name in `torch.nn.init`)
            out = self.between(func, args, lambda: passed_on(caller, func, args, kwargs), into)
        if self.births is not None or self.recording:
            self.shield(self._see, func, args, kwargs, out, drawn)
            if self.recording and getattr(func, "__name__", "") in OPAQUE:
                self.shield(self._keep, func.__name__, args, out, noise)
        return out

    def fresh(self, rest: Trace | None = None) -> None:
        """Begin a new window: forget the last one and its graph, but for what of it the new one goes on with."""
        self.trace = rest if rest is not None else Trace()
        self.registry.forget_paths()
        self.origins.prune()

    # ── backward calls ───────────────────────────────────────────────────────────────────────────────────────────

    def _backward(
        self,
        caller: FrameType | None,
        call: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        first = args[0] if args else kwargs.get("tensors", kwargs.get("outputs"))
        given = first if isinstance(first, (list, tuple)) else [first]
        roots = [t for t in given if isinstance(t, Tensor)]
        create_graph = kwargs.get("create_graph", False) or (call != "grad" and len(args) > 3 and bool(args[3]))
        if not roots or (
            create_graph and call == "grad"
        ):  # a gradient inside the loss (a penalty): not the way back itself
            out = passed_on(caller, func, args, kwargs)
            if self.recording:
                self.shield(self._see, func, args, kwargs, out)
            return out
        inputs = calls.tensors(args[1] if len(args) > 1 else kwargs.get("inputs")) if call == "grad" else []
        if self.recording:
            self.shield(self._functions, roots)
        out = self.on_backward(call, roots, inputs, lambda: passed_on(caller, func, args, kwargs))
        if call == "grad" and self.recording:  # what it returns is no part of the graph
            self.shield(cutting.derived, self.trace, roots, out)
        return out

    # ── one operation ────────────────────────────────────────────────────────────────────────────────────────────

    def _see(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, drawn: Any = None
    ) -> None:
        raw = getattr(func, "__name__", "")
        if not all(map(readable, [*calls.tensors(args), *calls.tensors(list(kwargs.values())), *calls.tensors(out)])):
            return
        if self.births is not None:
            self.births.see(func, raw, args, kwargs, out)
        self.origins.see(args, out, raw, func if self.recording else None)
        if not self.recording:
            return
        looks = raw == "__get__" and func == _GRAD_FN and out is not None  # (whoever reads grad_fn may hook the node)
        if raw in _HOOKING or looks:
            self.trace.hook(raw, args[0])
            if not looks:
                cutting.hooked(self.trace, args, raw)
            return
        inplace = writes(raw)
        outputs = [t for t in calls.tensors(out) if calls.grad_fn(t) is not None]
        if not outputs and inplace and args and isinstance(args[0], Tensor) and calls.grad_fn(args[0]) is not None:
            outputs = [args[0]]
        if not outputs:
            off = None if torch.is_grad_enabled() else cutting.unseen(self.trace, self.registry, args)
            cut = cutting.cut(self.trace, self.registry, func, raw, args, out)
            self.trace.severed.see(calls.tensors(args), calls.tensors(out), off if cut is None else cut)
            return
        if self.tape is not None:
            self.tape.see(func, args, kwargs, out, drawn, inplace)
        self._functions([*calls.tensors(args), *calls.tensors(list(kwargs.values()))])
        fresh = [t for t in outputs if t.grad_fn not in self.trace.owner]
        if fresh and len(self.trace.ops) < _MAX_OPS:
            self._record(func, args, kwargs, fresh, inplace)
        elif fresh and not self.trace.full:
            self.trace.full = True
            self.trace.note(f"only the first {_MAX_OPS} operations of the step were traced")

    def _record(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: list[Tensor],
        inplace: bool,
    ) -> None:
        trace = self.trace
        index = len(trace.ops)
        where = locate(4)
        trace.last_where = where
        trace.checkpointed |= where.checkpointed
        trace.hooked |= saving_is_hooked()
        if where.modules:
            trace.roots.setdefault(id(where.modules[-1]), (where.modules[-1], where))
        name = called(func, args, kwargs)
        kind = kind_of(name)
        operands: list[Operand] = []
        edges = self._claim(index, outputs, operands)
        inputs = calls.tensors(args) + calls.tensors(list(kwargs.values()))
        data = inputs[:1] if kind == "norm" else inputs  # not the running averages of a normalisation
        self._consumed(data, calls.masks(args, kwargs, name), operands)
        channel = self._channel(kind, operands, outputs[0])
        if kind == "singular":
            nearness(trace, self.registry, inputs, operands)
        module, module_class = self._module(where)
        made = self.modules.get(id(where.modules[0]), (None, None, None)) if where.modules else (None, None, None)
        shown = outputs[0]
        if name == "grad":  # by several: one that is not zero stands for all
            shown = next((t for t in outputs if bool(t.detach().any())), shown)
        value = value_stat(shown, name, channel)
        if kind == "linear":
            value.spread = rows_apart(outputs[0])
        if kind == "attention":
            value.saturated, value.scores = score_stat(name, args, kwargs)
        trace.ops.append(
            Op(
                index=index, name=name, kind=kind, file=where.file, line=where.line, function=where.function,
                module=module, module_class=module_class, operands=operands, value=value, inplace=inplace,
                scalars=calls.scalars(args, kwargs), stack=where.stack, inside=where.inside or not where.modules, ready=where.ready,
                made_file=made[0], made_line=made[1], made_key=made[2],
                span=span(name, args, kwargs), reads=reads(name, args, kwargs),
            )
        )  # fmt: skip
        nodes = [(t.grad_fn, t.output_nr, t.numel()) for t in outputs if t.grad_fn]
        trace.traced.append(Traced(nodes, edges, channel, [weak(t) for t in outputs]))
        if len(trace.traced) % _SWEEP == 0:
            trace.sweep()
            if self.tape is not None:
                self.tape.sweep()

    def _consumed(self, data: Sequence[Tensor], masks: Sequence[Tensor], operands: list[Operand]) -> None:
        """Add what an operation consumes that has no place in the graph: data, with its value and where it comes from."""
        for t in data:
            if t.requires_grad:
                self._shaped(t, operands)
            if t.requires_grad or not t.numel():
                continue
            own = self.origins.own(t)
            if t.is_floating_point():
                file, line, born = self.origins.of(t)
                cut = self.trace.severed.of(t)
                known, mask = self.registry.find(t), any(t is m for m in masks)
                operands.append(
                    Operand(
                        param=known, value=value_stat(t), file=file, line=line, born=born, cut=cut, mask=mask, own=own
                    )
                )
            elif t.dim():  # indices, masks: data without statistics
                operands.append(Operand(shape=list(t.shape), own=own))

    def _module(self, where: Where) -> tuple[str | None, str | None]:
        """Return the path and the class of the innermost module that runs; None where none does."""
        if not where.modules:
            return None, None
        inner, root = where.modules[0], where.modules[-1]
        parts = (self.registry.root_label(root), self.registry.path_of(inner, root))
        return ".".join(part for part in parts if part) or type(root).__name__, type(inner).__name__

    def _functions(self, tensors: list[Tensor]) -> None:
        """Give a row of its own to every function of the script's that made one of these tensors: no mode sees its call."""
        for t in tensors:
            node = calls.grad_fn(t)
            if node is None or node in self.trace.owner or len(self.trace.ops) >= _MAX_OPS:
                continue
            function = function_of(node)
            if function is None:
                continue
            index, operands, where = len(self.trace.ops), list[Operand](), locate(4)
            edges = self._claim(index, [t], operands)
            self.trace.ops.append(row_of(index, function, t, operands, where, self.registry))
            self.trace.traced.append(Traced([(node, t.output_nr, t.numel())], edges, -1, [weak(t)]))

    def _keep(self, name: str, args: tuple[Any, ...], out: Any, noise: Tensor | None) -> None:
        """Keep what is needed to run an opaque recurrence again, step by step."""
        index = self.trace.owner.get(calls.grad_fn(out[0])) if calls.grad_fn(out[0]) is not None else None  # type: ignore[arg-type]
        if index is None:
            return
        if len(self.trace.calls) >= _MAX_CALLS:
            self.trace.note(f"time: only the first {_MAX_CALLS} recurrent calls of the step were kept")
            return
        found = capture(index, name, args, out, noise)
        if isinstance(found, str):
            self.trace.note(f"gradient over time not measured: {found}")
        elif found is not None:
            self.trace.calls[index] = found

    def _claim(self, index: int, outputs: list[Tensor], operands: list[Operand]) -> list[Edge]:
        """Give every new autograd node behind `outputs` to operation `index`; list the edges that leave them."""
        owner = self.trace.owner
        todo: list[Node] = []
        for t in outputs:
            node = t.grad_fn
            if node is not None and node not in owner:
                owner[node] = index
                todo.append(node)
        edges: list[Edge] = []
        position: dict[tuple[str, int], int] = {}
        budget = _MAX_NODES
        while todo and budget:
            node = todo.pop()
            budget -= 1
            for slot, (target, nr) in enumerate(node.next_functions):
                if target is None:
                    continue
                variable = getattr(target, "variable", None)
                if isinstance(variable, Tensor):
                    key = ("param", self.registry.index_of(variable))
                elif target in owner and owner[target] != index:
                    key = ("op", owner[target])
                elif target not in owner:
                    owner[target] = index
                    todo.append(target)
                    continue
                else:
                    continue
                if key not in position:
                    position[key] = len(operands)
                    operands.append(Operand(op=key[1]) if key[0] == "op" else Operand(param=key[1]))
                edges.append(Edge(node, slot, target, nr, position[key]))
        if not budget:
            self.trace.note("one operation hides a graph too large to follow")
        return edges

    def _shaped(self, t: Tensor, operands: list[Operand]) -> None:
        """Note the shape of an operand that is another than that of the operation that made it: one of its further results."""
        node = calls.grad_fn(t)
        index = self.trace.owner.get(node) if node is not None else None
        operand = next((o for o in operands if o.op == index), None) if index is not None else None
        if operand is not None and index is not None and list(t.shape) != self.trace.ops[index].value.shape:
            operand.shape = list(t.shape)

    def _channel(self, kind: str, operands: list[Operand], out: Tensor) -> int:
        if kind == "conv":
            return 1 if out.dim() > 2 else -1
        if kind in _INHERIT:
            for operand in operands:
                if operand.op is not None:
                    channel = self.trace.traced[operand.op].channel
                    return channel if out.dim() > abs(channel) else -1
        return -1


def _backward_call(func: Any) -> str | None:
    """Return which way into the backward pass a function is, None where it is none. PyTorch calls it by what stands under its
    name by then: the script may have put a function of its own there, around the one that was.
    """
    known = BACKWARD_CALLS.get(func) if func.__hash__ is not None else None
    if known is None and (func is Tensor.backward or func is torch.autograd.backward):
        return "backward"
    return "grad" if known is None and func is torch.autograd.grad else known


def nothing() -> None:
    """Do nothing."""
