"""Certificate: the loss falls, by more than its own noise."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.causes import drowned, fallen, pulled
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.certificates import broken
from gradientflow.depth.causes.stalled import ENOUGH, FALL, fall, learns_nothing
from gradientflow.records import Certificate, Finding

NAME = "descent"
SYMPTOMS = ("diverging", "oscillating", "crawling", "stalled", "noisy")


def descent(case: Case, findings: Sequence[Finding]) -> Certificate:
    """Over the run the loss fell further than chance takes it, and below the best constant answer where that is known; on probed
    steps, the loss of the same batch against what the gradient predicts.
    """
    found = _over_the_run(case, findings)
    single, numbers = fallen.said(case)
    found.why += single
    found.numbers = found.numbers | numbers
    return found


def _over_the_run(case: Case, findings: Sequence[Finding]) -> Certificate:
    if (told := broken.by(NAME, findings, lambda f: f.symptom in SYMPTOMS)) is not None:
        return told
    measured = [t for t in case.trends if t.measured]
    if len(measured) != 1:
        why = (
            "several optimizers play together: no one loss has to fall"
            if measured
            else "too few finite losses were seen"
        )
        return Certificate(NAME, "not-measured", why)
    trend, fell = measured[0], fall(measured[0])
    if fell is None:
        return Certificate(
            NAME,
            "not-measured",
            f"{len(trend.losses)} losses are too few to tell a fall from chance (it takes {ENOUGH:g})",
        )
    numbers = {"fall_over_noise": rounded(fell), "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)}
    if learns_nothing(case):
        return Certificate(NAME, "broken", f"the loss does not fall: {trend.start:.4g} to {trend.end:.4g}", numbers)
    if fell < FALL:
        why = f"the loss goes from {trend.start:.4g} to {trend.end:.4g}, a fall of {fell:.2g} standard errors: chance may do that"
        return Certificate(NAME, "not-measured", why, numbers)
    if (other := pulled.unproven(case) or drowned.unproven(case)) is not None:
        text = f"the loss falls from {trend.start:.4g} to {trend.end:.4g}, but {other}"
        return Certificate(NAME, "not-measured", text, numbers)
    return Certificate(
        NAME, "held", f"the loss falls from {trend.start:.4g} to {trend.end:.4g}, {fell:.3g} standard errors", numbers
    )
