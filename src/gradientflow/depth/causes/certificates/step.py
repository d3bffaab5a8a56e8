"""Certificate: the update is in full what the optimizer makes of its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradientflow.depth.causes import beside, places
from gradientflow.depth.causes.case import Case, counted, rounded
from gradientflow.depth.causes.certificates import broken
from gradientflow.depth.causes.lost import group_steps
from gradientflow.limits import Limit
from gradientflow.records import Certificate, Finding, Foreign, GroupStep

NAME = "step"
CAUSES = (
    "step-too-large",
    "step-too-small",
    "schedule-ended",
    "rounding",
    "over-regularised",
    "optimizer-remade",
    "steps-missing",
)
SHOWN = 0.001  # a share that is worth a word
BLURRED = Limit("update_within_rounding", 0.1, "chosen: of the update; what else was done may hide in as much")
DONE = {
    "clamped": "its entries are held within bounds", "zeroed": "entries are set to zero", "kept": "entries are held where they were",
    "rescaled": "its length is held", "decayed": "it is shrunk a little", "constrained": "its entries and length are held",
    "noised": "normal noise is added to them", "shared": "other processes may write to it",
}  # fmt: skip


def step(case: Case, findings: Sequence[Finding]) -> Certificate:
    """On every probed step Δw is what the optimizer's rule says, from lr, momentum, preconditioner, eps and decay of its group."""
    altered = next((f for f in findings if f.cause == "step-altered"), None)
    if altered is not None:
        keys = ("step", "unexplained", "steps_with_it", "steps_looked_at", "names")
        told = broken.told(NAME, altered, {k: altered.evidence[k] for k in keys})
        told.why = altered.summary.rstrip(".")
        return told
    if (found := broken.by(NAME, findings, lambda f: f.cause in CAUSES)) is not None:
        return found
    seen = [(n, g) for trend in case.trends for n, g in group_steps(case, trend)]
    known = [(n, g) for n, g in seen if g.unexplained is not None]
    if not known:
        boxed = sorted({o.name for o in case.meta.optimizers}) if any(g.boxed for _, g in seen) else []
        why = (
            f"the rule of {', '.join(boxed)} is not known: one box"
            if boxed
            else "no probed step was followed to its weights"
        )
        if seen and not boxed:
            bad = not any(math.isfinite(g.stages[0].norm) for _, g in seen)
            why = "the gradient of every probed step is not finite" if bad else "no weight was to move on a probed step"
        return Certificate(NAME, "not-measured", why)
    worst = max(known, key=lambda entry: entry[1].unexplained or 0.0)
    lost = max(g.lost or 0.0 for _, g in known)
    eps = max((g.eps_rules or 0.0 for _, g in known), default=0.0)
    numbers = {"steps": len({n for n, _ in known}), "unexplained": rounded(worst[1].unexplained), "lost": rounded(lost),
               "eps_rules": rounded(eps)}  # fmt: skip
    entries = sum(g.entries for n, g in known if n == known[-1][0])
    if (worst[1].unexplained or 0.0) > beside.EXPLAINED:
        same = [g for _, g in known if g.group == worst[1].group and g.foreign is not None]
        return _beside(case, *worst, beside.named(same), numbers)
    blurred = max((g.apart or 0.0 for _, g in known), default=0.0)
    if blurred > BLURRED:
        formats = sorted({case.meta.params[i].dtype for _, g in known for i in g.params if i < len(case.meta.params)})
        return Certificate(
            NAME, "not-measured",
            f"the updates and what the rule says are apart by up to {blurred:.2g} of the update, and rounding of the weights "
            f"({', '.join(formats)}) alone explains that", numbers | {"within_rounding": rounded(blurred)},
        )  # fmt: skip
    numbers["odd_groups"] = len(odd := _odd_groups(case))
    also = f"; at most {lost:.1%} of the updates were lost to rounding" if lost >= SHOWN else ""
    small = f"; eps rules up to {eps:.0%} of the entries" if eps >= SHOWN else ""
    return Certificate(
        NAME, "held",
        f"on {counted(len({n for n, _ in known}), 'probed step')} the update of {counted(entries, 'weight')} is what the optimizer's rule "
        f"says{also}{small}"
        f"{''.join(odd)}", numbers,
    )  # fmt: skip


def _beside(case: Case, step: int, group: GroupStep, named: Foreign | None, numbers: dict[str, Any]) -> Certificate:
    """Say what something beside the rule did to a group's step that breaks nothing: a constraint, or once."""
    shape = group.foreign.shape if group.foreign is not None else ""
    at = f" ({named.file}:{named.line})" if named is not None and named.file else ""
    what = f"{beside.who(case, group)}: {DONE.get(shape, 'once')}{at}"
    numbers = numbers | {"step": step, "names": beside.names(case, group), "shape": shape}
    return Certificate(
        NAME, "not-measured" if shape == "shared" else "held",
        f"the weights follow the optimizer's rule but for {group.unexplained:.2g} of the update at step {step}, which something else did "
        f"within the step, to {what}", numbers,
    )  # fmt: skip


def _odd_groups(case: Case) -> list[str]:
    """Say which groups an option of their own keeps where they are, or can hardly be meant, and where their optimizer was made."""
    found = []
    for trend in case.trends:
        groups: dict[int, list[GroupStep]] = {}
        for _, group in group_steps(case, trend):
            groups.setdefault(group.group, []).append(group)
        place = places.of_optimizer(trend.optimizer, case.meta)
        where = f" ({place.file}:{place.line})" if place is not None else ""
        held = trend.optimizer.params if trend.optimizer is not None else []
        frozen = [i for i in held if not case.meta.params[i].requires_grad]
        if frozen:
            found.append(
                f"; but {len(frozen)} of its {len(held)} parameters{where} are frozen (requires_grad is False)"
            )
        for number, seen in groups.items():
            why = _odd(seen)
            if why is not None:
                place = places.of_group(trend.optimizer, case.meta, number)
                where = f" ({place.file}:{place.line})" if place is not None else ""
                found.append(f"; but group {number}{where}, of {seen[-1].entries} weights, {why}")
    return found


def _odd(seen: Sequence[GroupStep]) -> str | None:
    """Say which option of a group lets no gradient into its weights, or can hardly be meant."""
    if all(g.options.get("lr") == 0 for g in seen):
        return "has a learning rate of 0 and does not move"
    if all(g.options.get("dampening") == 1 and g.options.get("momentum") for g in seen):
        return "has a dampening of 1: no gradient but its first comes into the step"
    betas = seen[-1].options.get("betas")
    if isinstance(betas, list) and len(betas) == 2 and betas[0] > betas[1]:
        return f"has betas of {betas[0]:g} and {betas[1]:g}: its momentum looks back further than its scale (are they swapped?)"
    return None
