"""The verdict on one look, of one backward pass: findings that need a second look get it, and loose wires are told.

The other rules judge runs. Of a run of one backward pass they say only what is in it, with one exception: that something
*stays* dead, or equal, is a claim about time. Such a finding stands only if it is still there after some steps of a copy: a
gate or an output layer that starts at zero on purpose wakes up at the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradientflow.depth.causes.cut import cut_off
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.verdict import judge
from gradientflow.depth.causes.wiring import EQUAL_WEIGHTS
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Run, Verdict

_UNSEEN = "step size, oscillation and what dies in training need a run: give an optimizer, or `gradientflow run`"
_LASTING = ("dead", "symmetric-init")  # symptoms and causes that are claims about time
EQUAL_GRADIENTS = Limit(
    "alike_later",
    0.999,
    "chosen: how alike the rows of a gradient are that keeps equal units equal; random rows: 1/rows",
)


@dataclass(frozen=True)
class Later:
    """What a copy showed after some steps: the run, and how alike the rows of each parameter's gradient are, by its name."""

    run: Run
    alike: dict[str, float]

    @property
    def parted(self) -> set[str]:
        """The parameters whose units get different gradients."""
        return {name for name, alike in self.alike.items() if alike < EQUAL_GRADIENTS}


def settle(verdict: Verdict, run: Run, again: Callable[[], Later | None]) -> None:
    """Make the verdict on one look say what one look can: see the head of this file.

    Args:
        verdict: as the rules gave it; changed in place.
        run: the look.
        again: looks at a copy some steps later; None where that is not possible.
    """
    lasting = [f for f in verdict.findings if f.symptom in _LASTING or f.cause in _LASTING]
    if lasting:
        _confirm(verdict, run, lasting, again())
    if not verdict.findings and any(s.nonfinite or not math.isfinite(s.loss or 0.0) for s in run.steps):
        verdict.findings.append(_unplaced())
    loose = cut_off(run)
    if loose is not None:
        whole = loose.evidence["without_gradient"] == loose.evidence["of"]
        verdict.findings.insert(0 if whole else len(verdict.findings), loose)
    if verdict.findings:
        verdict.symptom, verdict.summary = verdict.findings[0].symptom, verdict.findings[0].summary
    elif run.steps and run.probes:
        verdict.symptom, verdict.summary = "healthy", _calm(verdict, run)


def _confirm(verdict: Verdict, run: Run, lasting: list[Finding], later: Later | None) -> None:
    """Keep what is still there at a later look; where there is none, keep it with less confidence and say so."""
    if later is None:
        for finding in lasting:
            finding.confidence = round(0.7 * finding.confidence, 2)
            finding.evidence["looked_at_again"] = False
        return
    dead = any(f.symptom == "dead" for f in judge(later.run).findings)
    names = {p.index: p.name for p in run.meta.params}
    equal = {
        names[s.param]
        for probe in run.probes[:1]
        for s in probe.params
        if s.alike is not None and s.alike > EQUAL_WEIGHTS
    }
    for finding in lasting:
        if dead if finding.symptom == "dead" else bool(equal - later.parted):
            finding.evidence["still_there_after_steps"] = len(later.run.steps)
            if finding.symptom != "dead":
                finding.evidence |= told(EQUAL_GRADIENTS)
            continue
        verdict.findings.remove(finding)
        for row in verdict.budget.by_op:
            if row.mark == finding.symptom:
                row.mark = None


def _unplaced() -> Finding:
    return Finding(
        "not-finite", "singular-op", 0.5, None,
        "The loss or a gradient is not finite; the operation at which that begins was not found.",
        {"rule": "none of the traced operations makes it"}, remedies("clamp-op"),
    )  # fmt: skip


def _calm(verdict: Verdict, run: Run) -> str:
    """Say what was measured to call one look healthy, and what it cannot see."""
    parts = []
    decades = verdict.budget.body_decades
    if decades is not None:
        change = f"{decades:+.1f}".replace("-", "−")
        parts.append(f"the gradient changes by {change} decades between the last and the first layer")
    sharp = [p.sharpness.value for p in run.probes if p.sharpness is not None]
    if sharp:
        parts.append(f"the sharpness of this batch's loss is {sharp[0]:.3g}")
    parts.append(_finite(run))
    return f"Nothing wrong was found in one backward pass: {', '.join(parts)}. Not looked at: {_UNSEEN}."


def _finite(run: Run) -> str:
    """Say what is finite, as the record has it: a mask of −inf is no fault, but it is not finite."""
    within = [op.name for p in run.probes for op in p.ops if op.value.nan or op.value.inf]
    if not within:
        return "all values are finite"
    return f"the loss and its gradients are finite (values inside are not, as those of {within[0]})"
