"""A sign that is wrong: the updates climb the gradient, or the objective has no floor."""

from __future__ import annotations

import itertools
from statistics import median

from gradientflow.depth.causes import losses, places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LOSSES, STUCK, Trend
from gradientflow.limits import Limit, told
from gradientflow.records import Finding

BEGUN = Limit("losses_of_a_run_begun", 5, "chosen: fewer show no direction")
LOOKED_AT = Limit("steps_looked_at", 3, "chosen: as many updates whose direction was measured")
CLIMBS = Limit(
    "cosine_with_descent",
    -0.1,
    "chosen: descent has a cosine above 0 (−1 climbs straight up); chance in many dimensions is near 0",
)
ROSE = Limit("rise_over_spread", 3.0, "chosen: three times the usual change between neighbouring losses")
COURSE = Limit("losses_of_a_course", 10, "chosen: the fewest whose quarters show that a loss falls ever faster")
BOTTOMLESS = Limit("times_start", 50.0, "chosen: below zero by fifty times what the loss began with")


def wrong_sign(case: Case) -> list[Finding]:
    """The loss runs away because of a sign: the updates climb the gradient, or the objective has no floor."""
    found = []
    for trend in case.trends:
        if len(trend.losses) < BEGUN:
            continue
        finding = _climbs(case, trend) or _one_group_climbs(case, trend) or _bottomless(case, trend)
        if finding is not None:
            found.append(finding)
    return found


def _climbs(case: Case, trend: Trend) -> Finding | None:
    """Updates point up the gradient, step after step, and the loss rises."""
    cosines = [s.along for s in trend.steps if s.along is not None]
    if len(cosines) < LOOKED_AT or median(cosines) > CLIMBS or not trend.measured:
        return None
    if trend.end - trend.start <= ROSE * trend.spread and trend.first_bad is None:
        return None
    options = trend.optimizer.options if trend.optimizer is not None else {}
    place = places.of_optimizer(trend.optimizer, case.meta) or losses.line(case.finite[:1])
    why = (
        "it was made with maximize=True"
        if options.get("maximize")
        else "the sign of the loss or of the update is wrong"
    )
    return Finding(
        "diverging", "wrong-sign", 0.9, place,
        f"The updates climb the gradient instead of descending it (cosine with −gradient {median(cosines):.2f} over "
        f"{len(cosines)} steps looked at), and the loss rises from {trend.start:.4g} to {trend.end:.4g}: {why}.",
        {"cosine_with_descent": rounded(median(cosines)), "steps_looked_at": len(cosines),
         "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)} | told(CLIMBS, LOOKED_AT, gates=(BEGUN, LOSSES, ROSE)),
        remedies("flip-sign", at=place),
    )  # fmt: skip


def _one_group_climbs(case: Case, trend: Trend) -> Finding | None:
    """Layers of one parameter group are moved up the gradient, those of the others down, and the loss gets nowhere.

    (Weights of the loss's terms, which are no layers, may climb: they are to be hard on what is worst.)
    """
    optimizer = trend.optimizer
    groups = optimizer.groups if optimizer is not None else []
    up = [k for k, g in enumerate(groups) if g.options.get("maximize")]
    if not up or len(up) == len(groups) or not trend.stuck or not case.finite:
        return None
    graph = case.finite[0]
    layers = {w for i in graph.layers for w in graph.weights_of(graph.probe.ops[i])}
    if not layers & {i for k in up for i in groups[k].params}:
        return None
    place = places.of_group(optimizer, case.meta, up[0])
    return Finding(
        "diverging" if trend.ends_above and trend.end - trend.start > ROSE * trend.spread else "crawling", "wrong-sign", 0.85, place,
        f"Group {up[0]} of {len(groups)} is made with maximize=True: its layers climb the gradient that the others descend, and the loss "
        f"goes from {trend.start:.4g} to {trend.end:.4g}.",
        {"groups_that_climb": len(up), "groups": len(groups), "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)}
        | told(STUCK, gates=(BEGUN, ROSE)),
        remedies("flip-sign", at=place),
    )  # fmt: skip


def _bottomless(case: Case, trend: Trend) -> Finding | None:
    """The loss falls below zero without a floor."""
    if len(trend.losses) < COURSE:
        return None
    lowest = min(trend.losses)
    quarter = max(1, len(trend.losses) // 4)
    fall = [trend.losses[0], trend.losses[quarter], trend.losses[2 * quarter], lowest]
    runaway = all(b < a for a, b in itertools.pairwise(fall)) and lowest < 0
    times = -lowest / max(abs(trend.start), trend.spread, 1e-300)
    if not (runaway and times > BOTTOMLESS and fall[2] - fall[3] > fall[1] - fall[2]):
        return None
    place = losses.line(case.finite[:1])
    return Finding(
        "diverging", "wrong-sign", 0.85, place,
        f"The loss falls from {trend.start:.4g} to {lowest:.4g}, ever faster and without a floor: the objective has "
        f"no minimum, as when its sign is wrong.",
        {"loss_start": rounded(trend.start), "loss_lowest": rounded(lowest), "times_start": rounded(times)}
        | told(BOTTOMLESS, gates=(BEGUN, COURSE)),
        remedies("flip-sign", at=place),
    )  # fmt: skip
