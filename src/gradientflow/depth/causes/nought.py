"""A loss that is multiplied by zero: its gradient is zero whatever the network does."""

from __future__ import annotations

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.records import Finding, Op

_SCALING = frozenset({"mul", "div", "neg", "mean", "sum", "squeeze", "reshape", "view", "to", "float", "clone"})


def times_nought(case: Case) -> list[Finding]:
    """Find a factor of zero on all of the loss, at every step that was looked at. (On a part of it, it is a weight.)"""
    found = [_zeroed(g) for g in case.finite]
    ops = [op for op in found if op is not None]
    if not ops or len(ops) < len(found):
        return []
    op = ops[-1]
    place = places.of_op(op, case.meta)
    return [
        Finding(
            "dead", "zero-derivative", 0.95, place,
            f"The whole loss is multiplied by 0 at {place.file}:{place.line}, at each of {len(ops)} steps looked at: its gradient is zero "
            f"whatever the network does, and nothing can be learnt.",
            {"step": case.finite[-1].probe.step, "factor": 0.0, "probes_with_it": len(ops)}, remedies("keep-gradient", at=place),
        )
    ]  # fmt: skip


def _zeroed(graph: Graph) -> Op | None:
    """Return the operation that multiplies a loss by zero, on the way that all of its gradient takes."""
    at = graph.probe.root
    while at is not None:
        op = graph.probe.ops[at]
        alive = [o.op for o in op.operands if o.op is not None]
        data = [o.value for o in op.operands if o.op is None and o.param is None and o.value is not None]
        if op.name == "mul" and len(alive) == 1 and (0.0 in op.scalars or any(v.min == v.max == 0.0 for v in data)):
            return op
        at = alive[0] if op.name in _SCALING and len(alive) == 1 else None
    return None
