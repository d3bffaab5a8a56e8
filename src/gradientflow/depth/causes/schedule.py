"""A learning rate that is zero, from the start or from the end of a schedule that ends too early; or that falls out of sight."""

from __future__ import annotations

import math

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.steps import FADED, STEPS
from gradientflow.depth.causes.trend import ALIVE, LEARNS_WELL, Trend, alive
from gradientflow.limits import Limit, told
from gradientflow.records import Finding

AT_REST = Limit("share_at_rest", 0.4, "chosen: of the steps, behind the last that moved the weights")


def schedule_ended(case: Case) -> list[Finding]:
    """The learning rate has gone to nothing long before the script ends, and there was something left to learn."""
    return [f for trend in case.trends if (f := _judged(case, trend)) is not None]


def _judged(case: Case, trend: Trend) -> Finding | None:
    rates = [s.lr for s in trend.steps if s.lr is not None and math.isfinite(s.lr)]
    if trend.optimizer is None or len(rates) < STEPS or not trend.measured or trend.progress > LEARNS_WELL:
        return None
    top = max(map(abs, rates))
    at_rest = 0
    for rate in reversed(rates):
        if abs(rate) > FADED * top:
            break
        at_rest += 1
    share = at_rest / len(rates)
    if share < AT_REST or not alive(trend):
        return None
    schedule = places.of_schedule(case.meta)
    place = schedule or places.of_optimizer(trend.optimizer, case.meta)
    evidence = {
        "learning_rate_last": rates[-1], "learning_rate_largest": top, "steps_at_rest": at_rest, "share_at_rest": rounded(share),
        "loss_start": rounded(trend.start), "loss_end": rounded(trend.end),
    } | told(AT_REST, gates=(STEPS, FADED, ALIVE, LEARNS_WELL))  # fmt: skip
    if top == 0.0 and any(s.update for s in trend.steps):
        at_rest_too = [k for k, g in enumerate(trend.optimizer.groups) if g.options.get("lr") == 0]
        own = places.of_group(trend.optimizer, case.meta, at_rest_too[0] if at_rest_too else 0)
        text = (
            f"The learning rate of the largest group is exactly 0 at each of {len(rates)} steps: its weights stay where they are, only "
            f"those of other groups move, and the loss goes from {trend.start:.4g} to {trend.end:.4g}."
        )
        return Finding("crawling", "step-too-small", 0.9, own, text, evidence, remedies("raise-step", at=own))
    if top == 0.0:
        text = (
            f"The learning rate is exactly 0 at each of {len(rates)} steps: the gradient is alive, and no weight moves."
        )
        return Finding("crawling", "step-too-small", 0.95, place, text, evidence, remedies("raise-step", at=place))
    if rates[-1] != rates[-1 - at_rest // 2]:  # it has no end: it goes on falling
        text = (
            f"The learning rate falls and goes on falling: from {top:.3g} to below a thousandth of it at step {len(rates) - at_rest} "
            f"of {len(rates)}, to {rates[-1]:.3g} at the last. The gradient is alive, and the loss stays at "
            f"{trend.end:.4g}. Is it counted in epochs, and stepped per batch?"
        )
        return Finding("crawling", "step-too-small", 0.9, place, text, evidence, remedies("raise-step", at=place))
    text = (
        f"The schedule ends at step {len(rates) - at_rest} of {len(rates)}: from there on the learning rate is {rates[-1]:.3g} (it was "
        f"{top:.3g}), the gradient is alive, and the loss stays at {trend.end:.4g}. Is it counted in epochs, and stepped per batch?"
    )
    return Finding("crawling", "schedule-ended", 0.9, place, text, evidence, remedies("raise-step", at=place))
