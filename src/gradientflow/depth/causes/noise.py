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
from gradientflow.records import Finding

LARGEST = 16  # samples per step
STEPS = 100
PROGRESS = 0.3
TRAVELLED = 5.0  # sizes of the weights, in the second half of the run


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
        or trend.first_bad is not None
    ):
        return []
    batch = int(median(batches))
    half = trend.losses[len(trend.losses) // 2 :]
    third, fourth = half[: len(half) // 2], half[len(half) // 2 :]
    level = median(abs(x) for x in half)
    error = math.sqrt(pvariance(third) / len(third) + pvariance(fourth) / len(fourth))
    if batch > LARGEST or level <= 0 or min(trend.losses) < 0 or fmean(third) - fmean(fourth) > 3.0 * error:
        return []
    swing = median(abs(b - a) for a, b in itertools.pairwise(half)) / level
    expected = min(0.7, 0.7 * math.sqrt(2.0 / batch))
    walked, moved = _walk(trend)
    if swing < expected or (batch > 2 and not (walked > TRAVELLED and moved < 1.0)):
        return []
    place = places.of_optimizer(trend.optimizer, case.meta)
    return [
        Finding(
            "noisy", "small-batch-noise", 0.75, place,
            f"Each step sees {batch} sample(s), and the loss jumps by {swing:.2g} of its level from step to step (chance alone "
            f"gives about {math.sqrt(2.0 / batch):.2g}) without falling any more; in the second half of the run the weights travel "
            f"{walked:.3g} times their own size and their size changes by {moved:.0%}: noise drowns the gradient.",
            {"batch": batch, "swing_over_level": rounded(swing), "threshold_swing_over_level": rounded(expected),
             "travelled": rounded(walked), "threshold_travelled": TRAVELLED, "progress": rounded(trend.progress)},
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
