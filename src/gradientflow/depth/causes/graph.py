"""One probe as a graph: which operations the loss depends on, which of them are layers, and the gradient's path.

A *layer* is an operation that joins data with a weight of two or more dimensions (linear, convolution, embedding,
`x @ W`). The *first layer* is the layer that ran first, the *last layer* the one nearest the loss on the path. What
lies between the last layer's output and the first layer's is the *body*: only there are decades judged, so that a
factor on the loss, a mean over the batch or a sum over pixels changes nothing.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection
from functools import cached_property

from gradientflow.limits import Limit
from gradientflow.ops import MAY_HOLD_WEIGHTS, NORMAL
from gradientflow.records import Meta, Op, Operand, Param, ParamState, Probe

NEARLY = Limit("times_the_smallest_normal_number", 100.0, "chosen: two decades, which one operation may take by itself")
CALLS = Limit("calls_of_a_recurrence", 4, "chosen: a weight used two or three times is shared, not recurrent")
REPEATS = Limit("calls_of_a_loop_without_layers", 8, "chosen: twice as many, where no weight vouches for it")
CHAINED = Limit("calls_that_depend_on_the_last", 0.9, "chosen: of all; a tenth may break the chain")


class Graph:
    """A probe with its structure worked out.

    Args:
        probe: the probe.
        meta: the run's description, for the parameters.
        own: parameters; the path then ends at the first layer that holds one of them, and not at the first of all.
    """

    def __init__(self, probe: Probe, meta: Meta, own: Collection[int] | None = None) -> None:
        self.probe = probe
        self.meta = meta
        self.own = own
        self.params: list[Param] = meta.params
        self.states: dict[int, ParamState] = {s.param: s for s in probe.params}

    @cached_property
    def reached(self) -> list[int]:
        """Operations the loss depends on, in order of execution."""
        if self.probe.root is None:
            return []
        seen: set[int] = set()
        todo = [self.probe.root]
        while todo:
            index = todo.pop()
            if index in seen:
                continue
            seen.add(index)
            todo.extend(o.op for o in self.probe.ops[index].operands if o.op is not None)
        return sorted(seen)

    @cached_property
    def weights(self) -> set[int]:
        """Parameters that are weights. A plain tensor that requires grad is one where an optimizer holds it, or where the
        script has no other kind; beside real parameters it is data that is differentiated (a PINN's inputs, say).
        """
        used = {o.param for i in self.reached for o in self.probe.ops[i].operands if o.param is not None}
        sure = {i for i in used if self.params[i].is_parameter or self.params[i].optimizer is not None}
        return sure or used

    @cached_property
    def weights_only(self) -> set[int]:
        """Operations computed from parameters alone: penalties, normalised or masked weights."""
        found: set[int] = set()
        for index in self.reached:
            op = self.probe.ops[index]
            if op.kind == "embedding" or op.kind == "random":
                continue
            inputs = op.operands
            if inputs and all(o.param in self.weights or (o.op is not None and o.op in found) for o in inputs):
                found.add(index)
        return found

    def weights_of(self, op: Op) -> list[int]:
        """Parameters with two or more dimensions that an operation consumes, directly or through operations on them,
        each once.
        """
        found: dict[int, None] = {}
        seen: set[int] = set()  # each operation once: many routes may lead to one
        todo = op.operands[::-1]
        while todo:
            operand = todo.pop()
            if operand.param is not None and operand.param in self.weights:
                if len(self.params[operand.param].shape) >= 2:
                    found[operand.param] = None
            elif operand.op is not None and operand.op in self.weights_only and operand.op not in seen:
                seen.add(operand.op)
                todo.extend(reversed(self.probe.ops[operand.op].operands))
        return list(found)

    @cached_property
    def layers(self) -> list[int]:
        """Layers the loss depends on and whose gradient was measured, in order of execution."""
        return [index for index in self.joints if self.probe.ops[index].grad is not None]

    @cached_property
    def joints(self) -> list[int]:
        """Layers the loss depends on, whether or not a gradient was measured yet, in order of execution."""
        layers = []
        for index in self.reached:
            op = self.probe.ops[index]
            if index in self.weights_only or op.kind not in MAY_HOLD_WEIGHTS or not op.value.shape:
                continue
            data = any(
                o.param not in self.weights and (o.op is None or o.op not in self.weights_only) for o in op.operands
            )
            if (data or op.kind == "embedding") and self.weights_of(op):
                layers.append(index)
        return layers

    @cached_property
    def consumers(self) -> dict[int, list[int]]:
        """For each operation, the operations that consume its output."""
        found: dict[int, list[int]] = defaultdict(list)
        for index in self.reached:
            for source in dict.fromkeys(o.op for o in self.probe.ops[index].operands if o.op is not None):
                found[source].append(index)
        return found

    def operand(self, consumer: int, source: int) -> Operand | None:
        """Return the operand of `consumer` that is the output of `source`."""
        return next((o for o in self.probe.ops[consumer].operands if o.op == source), None)

    def share(self, consumer: int, source: int) -> float | None:
        """Return the norm of the gradient that `consumer` sends to `source`."""
        operand = self.operand(consumer, source)
        return operand.grad.norm if operand is not None and operand.grad is not None else None

    def shares_into(self, source: int) -> dict[int, float]:
        """Return the norm of the gradient that each consumer sends to `source`."""
        return {c: s for c in self.consumers[source] if (s := self.share(c, source)) is not None}

    @cached_property
    def path(self) -> list[int]:
        """The gradient's main way: from the loss to the first layer, each tensor reached by its largest share."""
        index = self.first_layer
        if index is None or self.probe.root is None:
            return []
        distance = self._distance_to_root
        path = [index]
        while index != self.probe.root:
            shares = self.shares_into(index)
            best = max(
                self.consumers[index],
                key=lambda c: (_rounded(shares.get(c, 0.0)), distance.get(c, 0)),
                default=None,
            )
            if best is None:
                return []
            path.append(best)
            index = best
        return path[::-1]

    @cached_property
    def first_layer(self) -> int | None:
        """The layer that ran first, of those that hold a parameter of `own` where that is given."""
        if self.own is None:
            return self.layers[0] if self.layers else None
        return next((i for i in self.layers if any(p in self.own for p in self.weights_of(self.probe.ops[i]))), None)

    @cached_property
    def _distance_to_root(self) -> dict[int, int]:
        longest: dict[int, int] = {}
        for index in reversed(self.reached):
            longest[index] = max((longest[c] + 1 for c in self.consumers[index] if c in longest), default=0)
        return longest

    @cached_property
    def last_layer(self) -> int | None:
        """The layer on the path that is nearest the loss."""
        layers = set(self.layers)
        return next((index for index in self.path if index in layers), None)

    @cached_property
    def body(self) -> list[int]:
        """The path from the last layer down to the first; where the gradient underflows on the way, down to there."""
        if self.last_layer is None:
            return []
        whole = self.path[self.path.index(self.last_layer) :]
        return whole if self.underflow is None else [i for i in whole if i >= self.underflow] or whole

    @cached_property
    def underflow(self) -> int | None:
        """The last operation on the path whose gradient is not zero, where it is too small for its number format there: what is
        exactly zero behind it is rounded away, and not cut off.
        """
        ops = self.probe.ops
        for index, following in itertools.pairwise(self.path):
            here, after = ops[index].grad, ops[following].grad
            if here is None or after is None or here.nonfinite:
                continue
            if here.norm > 0 and after.norm == 0:
                # (a product is rounded away where a factor is below the smallest normal number, or not far above)
                return index if here.max < NORMAL.get(ops[index].value.dtype, 0.0) * NEARLY else None
        return None

    @cached_property
    def head(self) -> list[int]:
        """Operations of the loss side: on the way from the loss to the last layer's output, loss first."""
        if self.last_layer is None:
            return []
        return self.path[: self.path.index(self.last_layer)]

    @cached_property
    def body_decades(self) -> float | None:
        """log10 of ‖gradient at the first layer's output‖ / ‖gradient at the last layer's output‖."""
        if len(self.body) < 2:
            return None
        first, last = self.probe.ops[self.body[-1]].grad, self.probe.ops[self.body[0]].grad
        if first is None or last is None or first.nonfinite or last.nonfinite or not last.norm:
            return None
        return math.log10(first.norm / last.norm) if first.norm > 0 else -math.inf

    @property
    def finite(self) -> bool:
        """Whether loss, gradients and weights are all finite here."""
        loss = self.probe.loss
        if loss is not None and not math.isfinite(loss):
            return False
        ops = self.probe.ops
        return not any(ops[i].grad is not None and ops[i].grad.nonfinite for i in self.reached) and not any(  # type: ignore[union-attr]
            s.nonfinite for s in self.probe.params
        )

    def gain(self, index: int, source: int) -> float | None:
        """Return ‖share sent to `source`‖ / ‖gradient at the output of `index`‖."""
        share, grad = self.share(index, source), self.probe.ops[index].grad
        return share / grad.norm if share is not None and grad is not None and grad.norm > 0 else None

    # ── recurrence ───────────────────────────────────────────────────────────────────────────────────────────────

    def recurrences(self) -> list[list[int]]:
        """Return, for each weight used again and again on its own output, its layers in order of time."""
        uses: dict[int, list[int]] = defaultdict(list)
        for index in self.joints:
            for weight in dict.fromkeys(self.weights_of(self.probe.ops[index])):
                uses[weight].append(index)
        found = []
        for calls in uses.values():
            if len(calls) >= CALLS and calls not in found and self._chained(calls):
                found.append(calls)
        return found

    def repeats(self) -> list[list[int]]:
        """Return operations of one line that run again and again on their own result, in a script without layers."""
        if self.layers:
            return []
        sites: dict[tuple[str | None, int | None, str], list[int]] = defaultdict(list)
        for index in self.reached:
            op = self.probe.ops[index]
            if op.grad is not None:
                sites[op.file, op.line, op.name].append(index)
        return [calls for calls in sites.values() if len(calls) >= REPEATS and self._chained(calls)]

    def _chained(self, calls: list[int]) -> bool:
        """Whether each call depends on the one before (allowing a tenth of exceptions)."""
        return self.latest(calls)[1] >= CHAINED * (len(calls) - 1)

    def latest(self, calls: list[int]) -> tuple[dict[int, int], int]:
        """Return, for each operation, the last of `calls` that it depends on (−1: none), and how many calls depend on another."""
        members = set(calls)
        latest: dict[int, int] = {}
        links = 0
        for index in self.reached:
            before = -1
            for operand in self.probe.ops[index].operands:
                if operand.op is not None:
                    before = max(before, latest.get(operand.op, -1))
            if index in members:
                links += before >= 0
                before = index
            latest[index] = before
        return latest, links


def _rounded(share: float) -> float:
    """Shares within a hundredth of a decade count as equal, so that the longer way decides."""
    return round(math.log10(share), 2) if share > 0 and math.isfinite(share) else -math.inf
