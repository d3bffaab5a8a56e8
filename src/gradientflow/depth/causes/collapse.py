"""Collapse: the gradient came through at the start, and later hardly any of it does, in a run that gets nowhere.

Not an exact zero (that is `dead`), and not a network that never passed it (that is `flow`): training itself drove the units
to where their slopes are next to nothing. If they were driven there by a step as large as the weights, the step is the
cause; if they sat at the end of their range from the first step on, it is what enters them.
"""

from __future__ import annotations

import math
from statistics import median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.limits import Limit, told
from gradientflow.ops import SATURATING
from gradientflow.records import Finding, Op

PROBES = Limit("probes", 4, "chosen: two at the start and two at the end")
SOUND = Limit("decades_first", -2.0, "chosen: a gradient that came through; what never did is judged as depth")
LOST = Limit("decades_lost", 3.0, "chosen: between the first probes and the last, and left of the gradient at the end")
HALF_WAY = Limit("share_of_decades_lost", 0.5, "chosen: where half of them are gone, it has begun")
ENDS = Limit("saturated_first", 0.5, "chosen: most outputs at the end of their range, at the first step")
LARGE_UPDATE = Limit("relative_update", 0.2, "chosen: of the weights' size, by one update")


def collapsed(case: Case) -> list[Finding]:
    """Compare the decades of the first probes with those of the last, where the loss makes no headway."""
    graphs = [g for g in case.finite if g.body_decades is not None and math.isfinite(g.body_decades)]
    if len(graphs) < PROBES or not case.stuck or case.main.optimizer is None:
        return []
    before = max(g.body_decades or 0.0 for g in graphs[:2])
    late = [g.body_decades or 0.0 for g in graphs[-2:]]
    after = max(late)
    if before < SOUND or after > -LOST or before - after < LOST:
        return []
    since = next(g.probe.step for g in graphs if (g.body_decades or 0.0) < before - LOST * HALF_WAY)
    evidence = {
        "step": graphs[-1].probe.step, "decades": rounded(after), "threshold_decades": -float(LOST), "decades_first": rounded(before),
        "since_step": since, **told(SOUND, gates=(PROBES, LOST, HALF_WAY)),
    }  # fmt: skip
    words = (
        f"At step {graphs[0].probe.step} the gradient changes by {before:+.1f} decades between the last layer and the first, from step "
        f"{since} on by {after:.0f}: hardly anything reaches the first layers any more, and the loss stays at {case.main.end:.4g}."
    ).replace("by -", "by −")
    squeezed = _squeezed(graphs[0])
    if squeezed is not None:
        op, share = squeezed
        place = places.of_op(op, case.meta)
        return [
            Finding(
                "vanishing", "saturating-activation", 0.85, place,
                f"{words} {share:.0%} of what {op.name} at {place.file}:{place.line} puts out is at the end of its range from the "
                f"first step on: what enters it is too large.",
                evidence | {"activation": op.name, "saturated_first": rounded(share), **told(ENDS)},
                remedies("add-norm", "scale-input", "swap-activation", "rescale-init", at=place),
            )
        ]  # fmt: skip
    moves = [
        (s.update / s.weight, s)
        for s in case.main.steps
        if s.step <= since and s.update and s.weight and math.isfinite(s.update)
    ]
    size, step = max(moves, key=lambda pair: pair[0], default=(0.0, None))
    if step is None or size < LARGE_UPDATE:
        return []
    made = places.of_optimizer(case.main.optimizer, case.meta)
    return [
        Finding(
            "vanishing", "step-too-large", 0.85, made,
            f"{words} Step {step.step} changed the weights by {size:.0%} of their own size (learning rate {step.lr or 0.0:.3g}).",
            evidence | {"relative_update": rounded(size), **told(LARGE_UPDATE), "learning_rate": step.lr},
            remedies("lower-step", "warmup", "clip-gradient", at=made),
        )
    ]  # fmt: skip


def _squeezed(graph: Graph) -> tuple[Op, float] | None:
    """Return the saturating activation of the body with the largest share at its ends, if most of them are there."""
    ops = [graph.probe.ops[i] for i in graph.reached if graph.probe.ops[i].name in SATURATING]
    shares = [(op.value.saturated, op) for op in ops if op.value.saturated is not None]
    if not shares or median(s for s, _ in shares) < ENDS:
        return None
    share, op = max(shares, key=lambda pair: pair[0])
    return op, share
