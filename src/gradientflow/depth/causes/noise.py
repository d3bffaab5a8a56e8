"""Noise: small batches whose gradients differ so much that the steps cancel.

Over a batch of b a squared Gaussian residual varies by √(2/b) of its mean. Where the loss jumps by that much and falls no
further, while the weights travel many times their own size without getting anywhere, it is chance that moves them.
"""

from __future__ import annotations

import itertools
import math
from statistics import fmean, median, pvariance

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import Trend
from gradientflow.limits import Limit, told
from gradientflow.records import Finding

LARGEST = Limit("batch", 16, "chosen: above it the variance of a batch is small beside its mean")
STEPS = Limit("losses", 100, "chosen: quarters of 25 losses, whose means can be compared")
PROGRESS = Limit("progress", 0.3, "chosen: a run that learns this well is not drowned")
FALLS = Limit(
    "standard_errors", 3.0, "three standard errors between the means of the last quarters: the loss still falls"
)
SWING = Limit(
    "swing_over_chance", 0.7, "chosen: of √(2/b), which chance alone gives; and never more than this of the level"
)
ONE_BY_ONE = Limit("batch_of_next_to_nothing", 2, "chosen: one or two samples need no walk of the weights to be noisy")
TRAVELLED = Limit("travelled", 5.0, "chosen: sizes of the weights, in the second half of the run")
ARRIVED = Limit("weights_moved", 1.0, "chosen: weights that double get somewhere")


def noisy(case: Case) -> list[Finding]:
    """Small batches whose loss jumps about a level that no longer falls, and weights that walk without arriving."""
    trend = case.main
    batches = [g.probe.batch for g in case.finite if g.probe.batch is not None]
    alone = len([t for t in case.trends if t.measured]) == 1
    if (
        not batches
        or len(trend.losses) < STEPS
        or trend.progress > PROGRESS
        or not alone
        or case.chases
        or trend.first_bad is not None
    ):
        return []
    batch = int(median(batches))
    half = trend.losses[len(trend.losses) // 2 :]
    third, fourth = half[: len(half) // 2], half[len(half) // 2 :]
    level = median(abs(x) for x in half)
    error = math.sqrt(pvariance(third) / len(third) + pvariance(fourth) / len(fourth))
    if batch > LARGEST or level <= 0 or min(trend.losses) < 0 or fmean(third) - fmean(fourth) > FALLS * error:
        return []
    swing = median(abs(b - a) for a, b in itertools.pairwise(half)) / level
    expected = SWING * min(1.0, math.sqrt(2.0 / batch))
    walked, moved = _walk(trend)
    if swing < expected or (batch > ONE_BY_ONE and not (walked > TRAVELLED and moved < ARRIVED)):
        return []
    place = places.of_optimizer(trend.optimizer, case.meta)
    return [
        Finding(
            "noisy", "small-batch-noise", 0.75, place,
            f"Each step sees {batch} sample(s), and the loss jumps by {swing:.2g} of its level from step to step (chance alone "
            f"gives about {math.sqrt(2.0 / batch):.2g}) without falling any more; in the second half of the run the weights travel "
            f"{walked:.3g} times their own size and their size changes by {moved:.0%}: noise drowns the gradient.",
            {"batch": batch, "swing_over_level": rounded(swing), "threshold_swing_over_level": rounded(expected),
             "travelled": rounded(walked), "progress": rounded(trend.progress), "weights_moved": rounded(moved), "losses": len(trend.losses),
             **told(LARGEST, STEPS, PROGRESS, TRAVELLED, ARRIVED, gates=(FALLS, SWING, ONE_BY_ONE))},
            remedies("larger-batch", "lower-step", at=place),
        )
    ]  # fmt: skip


def _walk(trend: Trend) -> tuple[float, float]:
    """Return, over the second half of the run, (length of the way over the weights' size, relative change of that size)."""
    steps = [s for s in trend.steps[len(trend.steps) // 2 :] if s.update is not None and s.weight]
    if not steps:
        return 0.0, 0.0
    first, last = steps[0].weight or 1.0, steps[-1].weight or 1.0
    return math.fsum((s.update or 0.0) / (s.weight or 1.0) for s in steps), abs(last - first) / first
