"""Plans for remedies where data enters and where the answer is compared."""

from __future__ import annotations

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.remedies.data.limits import OUT_OF_LINE
from gradientflow.depth.remedies.planner import Planner, named, unique
from gradientflow.limits import Limit
from gradientflow.ops import COMPARING
from gradientflow.records import Change, Finding, Op

LARGE = Limit(
    "size_over_largest_input", 0.3, "chosen: of several inputs those that are as large as the largest, or nearly"
)
FOLLOWED = Limit("operations", 8, "chosen: what a loss by hand does with a difference stands in the next few lines")


def scale_input(plan: Planner, finding: Finding) -> list[Change]:
    """Where data enters the first layers."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    entering = plan.case.inputs(graph)
    large = [e for e in entering if e[2].rms > LARGE * max(v.rms for _, _, v in entering)]
    at = unique(plan.place(op) for op, _, _ in large)
    return [Change("scale-input", f"inputs standardised column by column before {named(at)}", at)] if at else []


def scale_target(plan: Planner, finding: Finding) -> list[Change]:
    """Where the loss compares an answer with data."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    for index in graph.head:
        op = graph.probe.ops[index]
        if op.name in COMPARING and any(o.op is None and o.param is None and o.value for o in op.operands):
            at = [plan.place(op)]
            power = 2.0 if op.name != "sub" else _power(graph, op)
            return [Change("scale-target", f"targets standardised in the loss at {named(at)}", at, {"power": power})]
    return []


def _power(graph: Graph, op: Op) -> float:
    """Return how a loss by hand grows with the difference: 1 for |d|, or the root of a mean of squares; else 2."""
    names: list[str] = []
    todo = list(graph.consumers[op.index])
    while todo and len(names) < FOLLOWED:
        index = todo.pop(0)
        names.append(graph.probe.ops[index].name)
        todo += graph.consumers[index][:1]
    return 1.0 if "abs" in names or "sqrt" in names or names[:1] == ["norm"] else 2.0


def drop_bad_batch(plan: Planner, finding: Finding) -> list[Change]:
    """Rows with absurd values repaired where data enters, and steps out of line not taken."""
    graph = plan.graph(finding)
    entering = plan.case.inputs(graph) if graph is not None else []
    at = unique(plan.place(op) for op, _, _ in entering)
    text = f"absurd and missing values replaced by the column's median{' before ' + named(at) if at else ''}, and steps left out whose gradient is not finite or {OUT_OF_LINE:g} times the usual"
    return [Change("drop-bad-batch", text, at)]
