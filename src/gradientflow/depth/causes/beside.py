"""Weights that do not do within a step what the optimizer is: something beside its rule moves them, at each step or now and then."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.lost import group_steps
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.signs import ROSE
from gradientflow.depth.causes.trend import LEARNS, SPIKE, Trend
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Foreign, GroupStep, Place

EXPLAINED = Limit("unexplained", 0.01, "chosen: of the update, beyond what rounding can do")
HELD_BACK = Limit("update_undone", 0.5, "chosen: half of the update; then a constraint may be why a loss stands still")
TWICE = Limit("steps_with_it", 2, "chosen: once is an accident, in a run of which more steps were looked at")


def beside(case: Case) -> list[Finding]:
    """Updates that are not, beyond rounding and any constraint, what the rule of their optimizer says."""
    return [f for trend in case.trends if (f := _judged(case, trend)) is not None]


def altered(group: GroupStep) -> bool:
    """Whether something other than a constraint, or another process, has a part in a group's step."""
    return (group.unexplained or 0.0) > EXPLAINED and (group.foreign is None or not group.foreign.shape)


def _judged(case: Case, trend: Trend) -> Finding | None:
    seen = [(n, g) for n, g in group_steps(case, trend) if g.unexplained is not None]
    alone = (
        len([t for t in case.trends if t.measured]) == 1
    )  # (optimizers that play against each other stand still, too)
    held = alone and trend.stuck
    wrong = [(n, g) for n, g in seen if altered(g) or (held and _held_back(g))]
    if len({n for n, _ in wrong}) < min(TWICE, len({n for n, _ in seen})) or not wrong or trend.first_bad is not None:
        return None
    step, worst = max(wrong, key=lambda entry: entry[1].unexplained or 0.0)
    foreign = named([g for _, g in wrong])
    place = at(foreign) or places.of_optimizer(trend.optimizer, case.meta)
    name = trend.optimizer.name if trend.optimizer is not None else "the optimizer"
    by = f"{foreign.name} ({foreign.file}:{foreign.line})" if foreign is not None and foreign.file else "something else"
    symptom, what = _symptom(trend)
    return Finding(
        symptom, "step-altered", 0.85 if symptom != "disconnected" else 0.7, place,
        f"The weights do not move as {name} says: at step {step} {by} moves {who(case, worst)} within the step by "
        f"{worst.unexplained:.2g} of the update that the rule demands, as in {len({n for n, _ in wrong})} of "
        f"{len({n for n, _ in seen})} steps looked at{what}.",
        {"step": step, "unexplained": rounded(worst.unexplained), "steps_with_it": len({n for n, _ in wrong}),
         "steps_looked_at": len({n for n, _ in seen}), "names": names(case, worst)}
        | told(EXPLAINED, TWICE, gates=(ROSE, SPIKE, LEARNS, HELD_BACK)),
        remedies("keep-weights", at=place),
    )  # fmt: skip


def _held_back(group: GroupStep) -> bool:
    """Whether a constraint undoes most of what the rule demands."""
    foreign = group.foreign
    return (group.unexplained or 0.0) > HELD_BACK and foreign is not None and foreign.shape not in ("", "shared")


def _symptom(trend: Trend) -> tuple[str, str]:
    """Return what the loss shows of it, and how that is said."""
    loss = f"from {trend.start:.4g} to {trend.end:.4g}"
    if not trend.measured:
        return "disconnected", ""
    if trend.end - trend.start > ROSE * trend.spread and trend.ends_above:
        return "diverging", f", and the loss rises {loss}"
    if trend.spike > SPIKE:
        return "oscillating", f", and the loss jumps before it comes {loss}"
    if trend.progress < LEARNS:
        return "crawling", f", and the loss only goes {loss}"
    return "disconnected", f"; the loss goes {loss} all the same"


def named(groups: Sequence[GroupStep]) -> Foreign | None:
    """Return what moved weights beside the rule, with its line where that was seen once."""
    found = [g.foreign for g in groups if g.foreign is not None]
    return next((f for f in reversed(found) if f.file is not None), found[-1] if found else None)


def at(foreign: Foreign | None) -> Place | None:
    """Return the line of the call that wrote, where it was seen."""
    return Place(foreign.file, foreign.line, None, foreign.name) if foreign is not None and foreign.file else None


def names(case: Case, group: GroupStep) -> list[str]:
    """Return the names of the parameters that were moved, most moved first."""
    params = group.foreign.params if group.foreign is not None else []
    return [case.meta.params[i].name for i in params if i < len(case.meta.params)]


def who(case: Case, group: GroupStep) -> str:
    """Name the parameters that were moved in a sentence."""
    found = names(case, group)
    return ", ".join(found[:3]) or f"weights of group {group.group}"
