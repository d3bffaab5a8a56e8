"""Inside the network: a normaliser where an activation should be, and weights drawn so large that activations sit at their ends.

Both keep the gradient's size about right, or lose it at once in every layer alike: the decades between the last layer and the
first need not show them. What shows them is the value that comes out, and a run that does not learn.
"""

from __future__ import annotations

from statistics import median

from gradientflow.depth.causes import flow, places
from gradientflow.depth.causes.case import IGNORANT, Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS
from gradientflow.limits import Limit, told
from gradientflow.ops import SATURATING
from gradientflow.records import Finding, Op

WIDE = Limit("units_of_a_normaliser", 8, "chosen: over fewer, a normaliser is a choice between a few: gates, experts")
SLIGHT = Limit("normaliser_gain", 0.3, "chosen: of the gradient; softmax over n units passes about 1/n")
OVERSIZED = Limit("weight_gain_over_critical", 3.0, "chosen: threefold in every layer, with slopes that make up for it")
AT_ENDS = Limit("saturated_first", 0.5, "chosen: of the outputs, at the end of their range at the first step")
_NORMALISERS = frozenset({"softmax", "softmin", "normalize"})
_PASSED = frozenset({"shape", "random"})  # kinds that change nothing about a value's size


def hidden(case: Case) -> list[Finding]:
    """Look at the first probe of a run that does not learn."""
    graph = next((g for g in case.finite if g.probe.step <= flow.EARLY), None)
    if graph is None or not case.main.measured or not (case.main.progress < LEARNS or case.ignorant):
        return []
    found = _normalised(case, graph) or _oversized(case, graph)
    return [found] if found is not None else []


def _normalised(case: Case, graph: Graph) -> Finding | None:
    """A softmax (or a division by the length) between two layers, in the place of an activation."""
    rows = []
    for index in graph.body:
        op = graph.probe.ops[index]
        made = next((o.op for o in op.operands if o.op is not None), None)
        gain = graph.gain(index, made) if made is not None else None
        wide = bool(op.value.shape) and op.value.shape[-1] >= WIDE
        if op.name in _NORMALISERS and wide and gain is not None and gain < SLIGHT and _feeds_a_layer(graph, index):
            rows.append((gain, op))
    if not rows:
        return None
    gain, op = min(rows, key=lambda row: row[0])
    place = places.of_op(op, case.meta)
    units = op.value.shape[-1]
    return Finding(
        "vanishing", "saturating-activation", 0.85, place,
        f"{op.name} at {place.file}:{place.line} stands between two layers as if it were an activation: over {units} units what it "
        f"puts out is about {op.value.rms:.2g} each and hardly differs between samples, and it passes ×{gain:.2g} of the gradient "
        f"({len(rows)} such in a row).",
        {"step": graph.probe.step, "activation": op.name, "normaliser_gain": rounded(gain), "units": units, "normalisers": len(rows),
         "progress": rounded(case.main.progress)} | told(SLIGHT, gates=(WIDE, LEARNS, IGNORANT, flow.EARLY)),
        remedies("swap-activation", "add-norm", at=place),
    )  # fmt: skip


def _feeds_a_layer(graph: Graph, index: int) -> bool:
    """Whether the value goes into a layer as it is, and nowhere else: no attention, no gate, no probabilities that a loss reads."""
    layers, todo = set(graph.layers), [index]
    while todo:
        for consumer in graph.consumers[todo.pop()]:
            if graph.probe.ops[consumer].kind in _PASSED:
                todo.append(consumer)
            elif consumer not in layers:
                return False
    return True


def _oversized(case: Case, graph: Graph) -> Finding | None:
    """Weights several times too large in front of saturating activations: the values cannot grow, they sit at their ends."""
    account = flow.account(graph)
    ends = [op for i in graph.body if _saturates(op := graph.probe.ops[i])]
    if len(account.gains) < 2 or not ends or account.critical <= 0:
        return None
    times = median(account.gains) / account.critical
    share = median(op.value.saturated or 0.0 for op in ends)
    if times < OVERSIZED or share < AT_ENDS:
        return None
    place = flow.init_place(case, graph, account) or places.of_op(ends[-1], case.meta)
    decades = graph.body_decades or 0.0
    return Finding(
        "exploding" if decades > 0 else "vanishing", "init-too-large", 0.8, place,
        f"The weights pass on ×{times * account.critical:.3g} where ×{account.critical:.2g} would keep the size: they were drawn without a "
        f"factor of 1/√(inputs). {share:.0%} of what {ends[0].name} puts out is at the end of its range at step {graph.probe.step}, "
        f"where it has no slope, and the loss stays at {case.main.end:.4g}.",
        {"step": graph.probe.step, "weight_gain": rounded(times * account.critical), "weight_gain_over_critical": rounded(times),
         "saturated_first": rounded(share), "decades": rounded(decades)}
        | told(OVERSIZED, AT_ENDS, gates=(LEARNS, IGNORANT, flow.EARLY)),
        remedies("rescale-init", "add-norm", at=place),
    )  # fmt: skip


def _saturates(op: Op) -> bool:
    return op.name in SATURATING and op.value.saturated is not None
