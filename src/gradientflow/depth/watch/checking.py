"""Two checks on a probed step, on the graph that the script just built and before its own backward: does one sample's output hang
on the other samples, and do the script's own functions heed the gradient they are given.

Under the refusals of the sharpness: no second pass where it could run code of the script's a second time. (A function of the
script's is called again only where its source shows that this changes nothing.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from gradientflow.depth.causes import samples
from gradientflow.depth.causes.addends import behind
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.probe.functions import function_of, linearity
from gradientflow.depth.probe.jacobian import way_out
from gradientflow.depth.probe.measure import BackwardMeasure
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.probe.traced import Trace
from gradientflow.depth.watch.allowance import CHECKS, SHARE_OF_EXTRAS, allowed
from gradientflow.depth.watch.sharp import second_pass_refused
from gradientflow.depth.watch.shield import Effort
from gradientflow.limits import APART, Limit
from gradientflow.records import Isolation, Linearity, Meta, Probe
from gradientflow.torch_internals import any_global_backward_hook, output_metadata

LOOKS = Limit("probes_with_a_check", 4, "chosen: what mixes samples does so at every step")
PASSES = Limit("passes_to_find_the_mixer", 60, "chosen: some halvings of a network of a thousand operations")


class Checks:
    """Makes both checks, each on the first probes only and within an allowance."""

    def __init__(self) -> None:
        self._looks = 0
        self._spent = 0.0
        self._functions: dict[type, Linearity] = {}
        self._generator = torch.Generator().manual_seed(0)

    def measure(self, root: Tensor, backward: BackwardMeasure, probe: Probe) -> None:
        """Write into the probe what was found, or why nothing was.

        Args:
            root: what backward is about to be called on.
            backward: the backward half of the probe, surveyed.
            probe: its record so far.
        """
        effort, trace = Effort(), backward.trace
        if self._looks >= LOOKS or self._spent > allowed(CHECKS, SHARE_OF_EXTRAS, probe.at):
            return
        self._looks += 1
        self._heed(backward)
        reason = second_pass_refused(root, trace)
        if reason is not None:
            probe.isolation = reason
            return
        graph = Graph(
            msgspec.structs.replace(probe, ops=trace.ops), Meta("", [], "", "", "", "", backward.registry.params)
        )
        try:
            probe.isolation = _Isolating(trace, graph, self._generator).measure()
        except RuntimeError as problem:  # a graph that may be walked only once
            let_through(problem)
            probe.isolation = f"{str(problem).splitlines()[0][:120]}"
        self._spent += effort.seconds

    def _heed(self, backward: BackwardMeasure) -> None:
        """Ask each function of the script's once, in the probes that reach it."""
        trace = backward.trace
        refused = "the script has hooks of its own in the graph" if trace.hooked or any_global_backward_hook() else ""
        refused = refused or ("the script uses activation checkpointing" if trace.checkpointed else "")
        for index in sorted(backward.reached):
            if trace.ops[index].custom is None:
                continue
            node = trace.traced[index].outputs[0][0]
            function = function_of(node)
            if function is None:
                continue
            if refused:
                trace.ops[index].custom = Linearity(why=refused)
                continue
            if function not in self._functions:
                self._functions[function] = linearity(node, function, self._generator)
            trace.ops[index].custom = self._functions[function]


class _Isolating:
    """One look: from a sample's output back to the first layer, and, where samples mix, to the operation that mixes them."""

    def __init__(self, trace: Trace, graph: Graph, generator: torch.Generator) -> None:
        self._trace, self._graph, self._generator = trace, graph, generator
        self._passes = 0

    def measure(self) -> Isolation | str:
        """Return what was found, or why nothing was."""
        compared = samples.compared(self._graph)
        if compared is None:
            return "no loss compares an answer with targets of as many rows"
        target, batch = compared
        ahead = behind(self._graph, target)
        source = self._start(ahead, target, batch)
        if source is None:
            return "no layer's output has an axis as long as the batch"
        handles, normed = self._pass_by_norms(ahead, source)
        try:
            outside = self._outside(target, source, batch, self._second_axis(target, source))
            if outside is None:
                return "no gradient of one sample's output arrives at the first layer"
            mixers = self._mixers(ahead, target, source, batch) if outside > APART else []
        finally:
            for handle in handles:
                handle.remove()
        return Isolation(source, target, batch, outside, mixers, normed)

    def _start(self, ahead: set[int], target: int, batch: int) -> int | None:
        """Return the first operation on data behind whose output samples can be told apart."""
        joints = [i for i in self._graph.joints if i in ahead]
        for index in sorted(ahead):
            if not joints or index < joints[0] or index >= target or index in self._graph.weights_only:
                continue
            if self._axes(index, batch):
                return index
        return None

    def _shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an operation's output, of several that which goes on; nothing where none or more than one does."""
        edge = way_out(self._trace, index)
        known = output_metadata(edge.node, edge.output_nr) if edge is not None else None
        return known[0] if known is not None else ()

    def _axes(self, index: int, batch: int) -> list[tuple[int, int]]:
        """Return (axis, entries that one step along it is made of in rows) of an operation's output that may count samples."""
        shape = self._shape(index)
        found = [(k, 1) for k, size in enumerate(shape) if size == batch]
        if not found and len(shape) > 2 and shape[0] * shape[1] == batch:
            found = [(0, shape[1]), (1, -shape[1])]
        return found

    def _pass_by_norms(self, ahead: set[int], source: int) -> tuple[list[torch.utils.hooks.RemovableHandle], bool]:
        """Let batch normalisation pass its gradient on unchanged, while we look."""
        handles = []
        for index in ahead:
            if (
                index > source
                and self._graph.probe.ops[index].name == "batch_norm"
                and self._graph.probe.ops[index].span is not None
            ):
                handles += [node.register_hook(_unchanged) for node, _, _ in self._trace.traced[index].outputs]
        return handles, bool(handles)

    # ── one pass ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _second_axis(self, target: int, source: int) -> list[tuple[int, tuple[int, int]]]:
        """Return the second axis of answers that may come time first, samples second."""
        shape, start = self._shape(target), self._shape(source)
        both = len(start) > 2 and len(shape) > 1 and start[1] == shape[1] > 1
        return [(1, (1, 1))] if both else []

    def _outside(
        self, index: int, source: int, batch: int, also: Sequence[tuple[int, tuple[int, int]]] = ()
    ) -> float | None:
        """Return the share of the gradient of one sample at an operation's output that arrives at other samples of the source's;
        over the axes that may be meant, the smallest.
        """
        shape = self._shape(index)
        axes = [k for k, size in enumerate(shape) if size == batch][:1]
        pairs = [*((k, axis) for k in axes for axis in self._axes(source, batch)), *also]
        shares = [s for k, axis in pairs if (s := self._share(index, source, k, axis)) is not None]
        return min(shares) if shares else None

    def _share(self, index: int, source: int, at: int, axis: tuple[int, int]) -> float | None:
        target, start = way_out(self._trace, index), way_out(self._trace, source)
        known = output_metadata(target.node, target.output_nr) if target is not None else None
        if target is None or start is None or known is None:
            return None
        shape, dtype, device = known
        row = shape[at] // 2
        v = torch.zeros(shape, dtype=dtype, device=device)
        part = v.select(at, row)
        drawn = torch.randint(0, 2, part.shape, generator=self._generator)
        part.copy_(drawn.to(device=device, dtype=dtype) * 2 - 1)
        self._passes += 1
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            [target], [start], [v], retain_graph=True, allow_unused=True
        )
        g = found[0]
        if g is None:
            return None
        k, width = axis
        place = row if width == 1 else row // width if width > 0 else row % -width
        others = [d for d in range(g.dim()) if d != k]
        squares = g.detach().double().abs().square()
        squares = squares.sum(others) if others else squares
        whole = float(squares.sum())
        if not whole or not math.isfinite(whole) or place >= squares.shape[0]:
            return None
        return float((squares.sum() - squares[place]) / whole)

    # ── who mixes ────────────────────────────────────────────────────────────────────────────────────────────────

    def _mixes(self, index: int, source: int, batch: int) -> bool:
        outside = self._outside(index, source, batch)
        return outside is not None and outside > APART

    def _mixers(self, ahead: set[int], target: int, source: int, batch: int) -> list[int]:
        """Return the operations between the last outputs that do not mix and the first that does."""
        while self._passes < PASSES:
            between = [
                i
                for i in sorted(behind(self._graph, target) & ahead)
                if source <= i <= target and self._batched(i, source, batch)
            ]
            low, high = 0, len(between) - 1  # the source does not mix, the target does
            while high - low > 1 and self._passes < PASSES:
                middle = (low + high) // 2
                low, high = (low, middle) if self._mixes(between[middle], source, batch) else (middle, high)
            first = between[high]
            through, before = self._before(first, source, batch)
            earlier = next((i for i in before if i != source and self._mixes(i, source, batch)), None)
            if earlier is None:
                return sorted(through)
            target = earlier
        return []

    def _batched(self, index: int, source: int, batch: int) -> bool:
        ok = batch in self._shape(index)
        return index == source or (ok and source in behind(self._graph, index))

    def _before(self, index: int, source: int, batch: int) -> tuple[set[int], set[int]]:
        """Return (an operation and those before it without an axis for samples, the next that have one)."""
        through, before, todo = {index}, set[int](), [index]
        while todo:
            for operand in self._graph.probe.ops[todo.pop()].operands:
                at = operand.op
                if at is None or at < source or at in through or source not in behind(self._graph, at):
                    continue
                if self._batched(at, source, batch):
                    before.add(at)
                else:
                    through.add(at)
                    todo.append(at)
        return through, before


def _unchanged(passed: tuple[Tensor | None, ...], arrived: Sequence[Tensor | None]) -> tuple[Tensor | None, ...] | None:
    """A hook of a normalisation's node: what arrives is passed on to its input."""
    inner, outer = passed[0] if passed else None, arrived[0] if arrived else None
    if inner is None or outer is None or inner.shape != outer.shape:
        return None
    return (outer.to(inner.dtype), *passed[1:])
