"""Updates that the weights' number format swallows: they are smaller than half a unit in the last place.

The format is the cause where the updates are such as single precision would take. Where that would lose them too, or where the
gradient died on the way, lost updates are what is left of another fault: they stand behind whatever else was found.
"""

from __future__ import annotations

import math
from statistics import median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import ALIVE, LEARNS, Trend, alive
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, GroupStep

LOST = Limit("updates_lost", 0.5, "chosen: of the entries whose update is not zero, those whose weight stays as it is")
EPS_RULES = Limit("eps_rules", 0.5, "chosen: of the entries; there eps made the update small, before rounding lost it")
A_RUN = Limit("losses", 20, "chosen: fewer need not move, however large the updates")
SINGLE = Limit(
    "update_over_weights", 2.0**-24, "half a unit in the last place of float32 (IEEE 754), beside a weight of 1"
)
ENERGY = Limit("energy_lost", 0.1, "chosen: of ‖Δw‖², in those entries; less is lost where little was to be done")


def swallowed(case: Case) -> list[Finding]:
    """Most updates of a run that hardly learns do not land."""
    return [f for trend in case.trends if (f := _judged(case, trend)) is not None]


def group_steps(case: Case, trend: Trend) -> list[tuple[int, GroupStep]]:
    """Every group's way on an optimizer's probed steps, with the step's number."""
    index = trend.optimizer.index if trend.optimizer is not None else None
    return [
        (p.step, g) for p in case.run.probes if p.transit is not None and p.optimizer == index for g in p.transit.groups
    ]


def eps_share(case: Case, trend: Trend) -> float:
    """Return the share of an optimizer's entries whose step eps decides, on the typical probed step; 0 where there is no eps."""
    seen = [g.eps_rules for _, g in group_steps(case, trend) if g.eps_rules is not None]
    return median(seen) if seen else 0.0


def _judged(case: Case, trend: Trend) -> Finding | None:
    seen = [(step, g) for step, g in group_steps(case, trend) if g.lost is not None]
    if not seen or len(trend.losses) < A_RUN or not trend.measured or trend.progress > LEARNS:
        return None
    lost = median(g.lost or 0.0 for _, g in seen)
    energy = median(g.lost_energy or 0.0 for _, g in seen)
    if lost < LOST or energy < ENERGY or eps_share(case, trend) >= EPS_RULES:
        return None
    formats = sorted({case.meta.params[i].dtype for _, g in seen for i in g.params if i < len(case.meta.params)})
    place = places.of_optimizer(trend.optimizer, case.meta)
    name = trend.optimizer.name if trend.optimizer is not None else "the optimizer"
    sizes = [s for step, g in seen if (s := _size(case, trend, step, g)) is not None]
    small = bool(sizes) and median(sizes) < SINGLE
    own = alive(trend) and not small
    return Finding(
        "crawling", "rounding", 0.9 if own else 0.6, place,
        f"{lost:.0%} of the updates of {name} do not land: they are smaller than half a unit in the last place of the weights "
        f"({', '.join(formats)}), and the loss only goes from {trend.start:.4g} to {trend.end:.4g}.",
        {"step": seen[-1][0], "updates_lost": rounded(lost), "energy_lost": rounded(energy), "format": ", ".join(formats),
         "update_over_weights": rounded(median(sizes)) if sizes else None}
        | told(LOST, ENERGY, SINGLE, gates=(A_RUN, LEARNS, EPS_RULES, ALIVE)),
        remedies("wide-weights", "raise-step", at=place),
    )  # fmt: skip


def _size(case: Case, trend: Trend, step: int, group: GroupStep) -> float | None:
    """Return the size of the update that the rule demands over that of the weights, per entry of each."""
    weight = next((s.weight for s in trend.steps if s.step == step), None)
    held = trend.optimizer.params if trend.optimizer is not None else []
    entries = sum(math.prod(case.meta.params[i].shape) for i in held if i < len(case.meta.params))
    if not weight or not entries or not group.entries:
        return None
    return (group.stages[-2].norm / math.sqrt(group.entries)) / (weight / math.sqrt(entries))
