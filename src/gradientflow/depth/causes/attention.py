"""A softmax inside the network that is one-hot from the start: queries and keys get no gradient.

Scores of spread σ over n keys freeze onto a few of them for σ > √(2 ln n) (the random energy model, Derrida 1981), and a
one-hot softmax passes nothing on. With queries and keys of unit variance and the factor 1/√d the spread is 1.
"""

from __future__ import annotations

from gradientflow.depth.causes import places, theory
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Op

ONE_HOT = Limit("one_hot_rows", 0.5, "chosen: share of rows, where the scores are beyond the freezing point")
LEARNS = Limit("one_hot_rows", 0.9, "chosen: the same in a run that learns")
PROGRESS = Limit("progress_of_a_run_that_learns", 0.6, "chosen: a quarter of the loss it began with is left")


def attention(case: Case) -> list[Finding]:
    """Judge every attention at the first probe: rows that are one-hot before anything was learnt."""
    if not case.finite:
        return []
    graph = case.finite[0]
    learns = case.main.measured and case.main.progress >= PROGRESS
    limit = LEARNS if learns else ONE_HOT
    for op in _inner(graph):
        keys, spread = _scores(graph, op)
        frozen = theory.freezing(keys)
        if (op.value.saturated or 0.0) <= limit or (spread is not None and spread <= frozen):
            continue
        place = places.of_op(op, case.meta)
        measured = (
            f" (their spread is {spread:.3g}; a softmax over {keys} freezes above {frozen:.2g})" if spread else ""
        )
        return [
            Finding(
                "vanishing", "attention-saturation", 0.7 if learns else 0.9, place,
                f"{op.value.saturated:.0%} of the rows of {op.name} at {place.file}:{place.line} are one-hot at step "
                f"{graph.probe.step}: what goes into it gets almost no gradient. Its scores are too large{measured}.",
                {"step": graph.probe.step, "one_hot_rows": rounded(op.value.saturated), **told(limit, gates=(PROGRESS,)),
                 "spread_of_scores": rounded(spread), "threshold_spread_of_scores": rounded(frozen), "keys": keys},
                remedies("rescale-init", "add-norm", "scale-input", at=place),
            )
        ]  # fmt: skip
    return []


def _inner(graph: Graph) -> list[Op]:
    """Attention kernels, and softmaxes before the last layer."""
    ops = [graph.probe.ops[i] for i in graph.reached]
    return [
        op for op in ops
        if op.value.saturated is not None and op.value.shape and (
            op.kind == "attention"
            or (op.name == "softmax" and op.value.shape[-1] > 1 and graph.last_layer is not None and op.index < graph.last_layer)
        )
    ]  # fmt: skip


def _scores(graph: Graph, op: Op) -> tuple[int, float | None]:
    """Return (number of keys, spread of the scores)."""
    if op.kind == "attention":
        shape, time = op.value.shape, 0 if op.name == "multi_head_attention_forward" else -2
        return (shape[time] if len(shape) > 1 else 2), op.value.scores
    made = next((graph.probe.ops[o.op].value for o in op.operands if o.op is not None), None)
    return op.value.shape[-1], made.std if made is not None and made.inf == 0 else None
