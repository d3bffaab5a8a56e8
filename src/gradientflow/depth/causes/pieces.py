"""A state that is taken out of the graph again and again within one pass: the gradient over time ends at each of those cuts."""

from __future__ import annotations

from collections import defaultdict

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import IGNORANT, Case, rounded
from gradientflow.depth.causes.graph import CALLS, Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS
from gradientflow.limits import Limit, told
from gradientflow.ops import MAY_HOLD_WEIGHTS
from gradientflow.records import Finding, Op, Place

PIECES = Limit(
    "pieces", 2, "chosen: cut within one pass; a state that is only carried in from the pass before is cut once"
)


def cut_in_pieces(case: Case) -> list[Finding]:
    """Find calls of one layer that get a detached state several times in a pass, in a run that does not learn."""
    graph = next(iter(case.finite), None)
    if graph is None or not case.main.measured or not (case.main.progress < LEARNS or case.ignorant):
        return []
    found = _cut_loop(graph)
    if found is None:
        return []
    calls, cuts = found
    parts = len(cuts) + (calls[0].index != cuts[0].index)
    length = len(calls) / parts
    place = _cut_at(graph) or places.of_op(cuts[0], case.meta)
    return [
        Finding(
            "disconnected", "disconnected-parameters", 0.75, place,
            f"The state of {calls[0].name} at {calls[0].file}:{calls[0].line} is taken out of the graph {len(cuts)} times in {len(calls)} "
            f"calls of one pass: no gradient reaches further back than {length:.0f} of them, and the loss stays at {case.main.end:.4g}. What "
            f"lies further back cannot be learnt.",
            {"step": graph.probe.step, "time_steps": len(calls), "pieces": parts, "steps_in_reach": rounded(length),
             "progress": rounded(case.main.progress)} | told(PIECES, gates=(CALLS, LEARNS, IGNORANT)),
            remedies("reconnect", at=place),
        )
    ]  # fmt: skip


def _cut_loop(graph: Graph) -> tuple[list[Op], list[Op]] | None:
    """Return (the calls of a layer over time, those of them whose state was detached), for the layer most often cut."""
    sites: dict[tuple[str | None, int | None, tuple[int, ...]], list[Op]] = defaultdict(list)
    for op in graph.probe.ops:  # (also those that a cut keeps from the loss)
        weights = tuple(o.param for o in op.operands if o.param is not None)
        if op.kind in MAY_HOLD_WEIGHTS and weights:
            sites[op.file, op.line, weights].append(op)
    reached = set(graph.reached)
    loops = [
        (calls, cut)
        for calls in sites.values()
        if len(calls) >= CALLS and len(cut := [op for op in calls if _given_own(op)]) >= PIECES
        if any(op.index in reached for op in calls)
    ]
    return max(loops, key=lambda pair: len(pair[1]), default=None)


def _given_own(op: Op) -> bool:
    return any(o.own and o.op is None and o.param is None for o in op.operands)


def _cut_at(graph: Graph) -> Place | None:
    """Return the line of the cut that is met most often."""
    lines: dict[tuple[str | None, int | None, str], int] = defaultdict(int)
    for cut in graph.probe.cuts:
        if cut.op >= 0 and cut.file is not None:
            lines[cut.file, cut.line, cut.name] += 1
    if not lines:
        return None
    (file, line, name), _ = max(lines.items(), key=lambda item: item[1])
    return Place(file, line, None, name)
