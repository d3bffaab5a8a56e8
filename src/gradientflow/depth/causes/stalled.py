"""A run that does not learn, and of which no rule says why: what was ruled out, and what was not looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from gradientflow.depth.causes import losses
from gradientflow.depth.causes.case import IGNORANT, Case, rounded
from gradientflow.depth.causes.remade import begins_anew
from gradientflow.depth.causes.trend import Trend
from gradientflow.limits import Limit, told
from gradientflow.records import Certificate, Finding

ENOUGH = Limit("losses", 40, "chosen: fewer need not move a loss")
FALL = Limit(
    "fall_over_noise", 3.0, "chosen: three standard errors between the means of the first and the last stretch"
)
LITTLE = Limit(
    "progress", 0.02, "chosen: 96 % of the loss it began with is left, where the best constant answer is not known"
)
STRETCH = Limit("share_of_a_stretch", 0.2, "chosen: of the losses, at either end")


def fall(trend: Trend) -> float | None:
    """Return how far the loss fell from the first stretch to the last, in standard errors; None where there are too few."""
    seen = trend.losses
    if len(seen) < ENOUGH:
        return None
    n = max(5, int(STRETCH * len(seen)))
    first, last = seen[:n], seen[-n:]
    error = math.sqrt((stdev(first) ** 2 + stdev(last) ** 2) / n)
    difference = fmean(first) - fmean(last)
    return difference / error if error > 0 else (math.inf if difference > 0 else -math.inf if difference < 0 else 0.0)


def learns_nothing(case: Case) -> bool | None:
    """Whether the loss stays where it began, or at the level of an answer that ignores the data; None: that cannot be told."""
    measured = [t for t in case.trends if t.measured]
    if len(measured) != 1:  # (optimizers that play against each other trade their losses)
        return None
    trend = measured[0]
    fell = fall(trend)
    if fell is None or min(trend.losses) < 0 < max(trend.losses):  # (a loss around zero has no level)
        return None
    if case.chases:  # (nor has one that is held against the network's own answers)
        return None
    own = trend.optimizer  # (nor has one whose every step is a training of its own)
    if own is not None and case.remade.get(own.index) and begins_anew(case, own):
        return None
    if case.ignorant:
        return trend.start <= trend.end or fell < FALL or trend.progress < LITTLE
    return fell < FALL and trend.progress < LITTLE


def stalled(case: Case, certificates: Sequence[Certificate]) -> Finding | None:
    """Return what is told of a run that does not learn, where no rule found a fault.

    Args:
        case: the run.
        certificates: what was checked of it.
    """
    if not case.graphs or learns_nothing(case) is not True:
        return None
    trend = case.main
    held = [c.name for c in certificates if c.state == "held"]
    open_ = [c.name for c in certificates if c.state == "not-measured"]
    text = (
        f"The loss does not fall ({trend.start:.4g} to {trend.end:.4g} in {len(trend.losses)} steps), and no fault of the gradient was "
        f"found. Ruled out: {', '.join(held) or 'nothing'}. Not looked at: {', '.join([*open_, 'labels', 'order of the data'])}."
    )
    evidence = {
        "loss_start": rounded(trend.start), "loss_end": rounded(trend.end), "fall_over_noise": rounded(fall(trend)),
        "progress": rounded(trend.progress), "at_the_level_of_a_constant": case.ignorant,
    } | told(FALL, LITTLE, gates=(ENOUGH, STRETCH, IGNORANT))  # fmt: skip
    return Finding("stalled", "unexplained", 0.6, losses.line(case.graphs[-1:]), text, evidence, [])
