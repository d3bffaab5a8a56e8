"""The second budget: the decades from the gradient that backward left to the update, stage by stage, over training."""

from __future__ import annotations

import itertools
import math

from gradientflow.depth.causes.case import Case, rounded
from gradientflow.records import Factor, GroupStep, StepBudget


def step_budgets(case: Case) -> list[StepBudget]:
    """Return the budget of every group at every probed step that was followed to the weights, in order.

    Example:
        >>> from gradientflow.records import Meta, Run
        >>> step_budgets(Case(Run(Meta("train.py", [], "", "", "", ""))))
        []
    """
    names = {o.index: o.name for o in case.meta.optimizers}
    return [
        _budget(names.get(probe.optimizer or 0, "?"), probe.optimizer or 0, probe.step, group)
        for probe in case.run.probes
        if probe.transit is not None
        for group in probe.transit.groups
    ]


def _budget(optimizer: str, index: int, step: int, group: GroupStep) -> StepBudget:
    stages = [Factor(b.name, *_factor(a.norm, b.norm)) for a, b in itertools.pairwise(group.stages)]
    first, last = group.stages[0].norm, group.stages[-1].norm
    return StepBudget(
        optimizer=optimizer, group=group.group, step=step, gradient=_told(first), update=_told(last), stages=stages,
        total_decades=_factor(first, last)[1], eps_rules=rounded(group.eps_rules), lost=rounded(group.lost), boxed=group.boxed,
        index=index,
    )  # fmt: skip


def _factor(before: float, after: float) -> tuple[float | None, float | None]:
    """Return what a stage multiplied by, and its decades; nothing where nothing came in; no decades where nothing came out."""
    if not (math.isfinite(before) and math.isfinite(after)) or before <= 0:
        return None, None
    return after / before, math.log10(after / before) if after > 0 and after / before > 0 else None


def _told(norm: float) -> float:
    return norm if math.isfinite(norm) else math.nan
