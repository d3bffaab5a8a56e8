"""An optimizer that forgets: made anew at each step, or its state thrown away, so that momentum and scale are always those of one
gradient.
"""

from __future__ import annotations

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.joined import MANY, SHORT
from gradientflow.depth.causes.lost import group_steps
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import Trend
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Optimizer

LOOKS = Limit("later_steps_looked_at", 3, "chosen: steps behind the first, at which there is something to remember")
USUAL = Limit(
    "share_of_steps", 0.8, "chosen: of them; an optimizer that is made anew for each stage remembers in between"
)


def forgetful(case: Case) -> list[Finding]:
    """Find optimizers whose state is, at every step, that of a first step."""
    return [f for t in case.trends if (f := _judged(case, t)) is not None]


def _judged(case: Case, trend: Trend) -> Finding | None:
    optimizer = trend.optimizer
    first = min((s.step for s in trend.steps), default=0)
    fresh: dict[int, bool] = {}
    for step, group in group_steps(case, trend):
        if step > first and group.unexplained is not None:
            fresh[step] = fresh.get(step, True) and group.fresh
    if optimizer is None or len(fresh) < LOOKS or sum(fresh.values()) < USUAL * len(fresh):
        return None
    made = case.remade.get(optimizer.index, 0)
    if made and (begins_anew(case, optimizer) or _trained_before(case, optimizer)):
        return None
    place = places.of_optimizer(optimizer, case.meta) if made else places.of_forgetting(case.meta)
    place = place or places.of_optimizer(optimizer, case.meta)
    what = (
        f"A new {optimizer.name} is made for each of {made} steps"
        if made
        else f"What {optimizer.name} remembers is thrown away ahead of each step"
    )
    adaptive = optimizer.adaptive
    harm = (
        "each entry moves by the whole learning rate, whatever the size of its gradient"
        if adaptive
        else f"its momentum of {optimizer.options.get('momentum')} never builds up"
    )
    where = f" ({place.file}:{place.line})" if place is not None and place.file else ""
    return Finding(
        "crawling", "optimizer-remade", 0.8, place,
        f"{what}{where}: at {sum(fresh.values())} of {len(fresh)} later steps looked at its state is that of a first step, so that {harm}.",
        {"optimizers_made": made or 1, "steps": optimizer.steps, "fresh_states": sum(fresh.values()), "later_steps_looked_at": len(fresh)}
        | told(LOOKS, gates=(USUAL, MANY, SHORT)),
        remedies("keep-optimizer", at=place),
    )  # fmt: skip


def begins_anew(case: Case, optimizer: Optimizer) -> bool:
    """Whether the weights are, ahead of each of these steps, bit for bit what they were ahead of the others: then each step is a
    training of its own (an adaptation to one sample, say), and there is nothing to remember.
    """
    looks = [p.params for p in case.run.probes if p.optimizer == optimizer.index and p.params]
    starts = {tuple((s.param, s.norm, s.mean) for s in states) for states in looks}
    return len(looks) >= LOOKS and len(starts) == 1


def _trained_before(case: Case, optimizer: Optimizer) -> bool:
    """Whether another optimizer, which remembers, trains the same weights for as many steps or more: these are not the training."""
    return any(
        set(optimizer.params) <= set(o.params) and o.steps >= optimizer.steps
        for o in case.meta.optimizers
        if o.index != optimizer.index and o.index not in case.remade
    )
