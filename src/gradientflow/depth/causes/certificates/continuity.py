"""Certificate: the weights of the next forward pass are those that the last step left."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.certificates import broken
from gradientflow.depth.causes.rewritten import line
from gradientflow.records import Certificate, Finding

NAME = "continuity"


def continuity(case: Case, findings: Sequence[Finding]) -> Certificate:
    """Ahead of every step a few weights of several tensors are, bit for bit, what the step before left."""
    if (told := broken.by(NAME, findings, lambda f: f.cause == "weights-rewritten")) is not None:
        return told
    steps = case.meta.compared
    if not steps:
        why = "no weights were compared ahead of a second step" if case.meta.optimizers else "no optimizer stepped"
        return Certificate(NAME, "not-measured", why)
    rewrites = case.run.rewrites
    if not rewrites:
        return Certificate(
            NAME, "held", f"ahead of each of {steps} steps the weights were what the step before left", {"steps": steps}
        )
    undone = [r.undone for r in rewrites if r.undone is not None]
    numbers = {"steps": steps, "rewrites": len(rewrites), "undone": rounded(median(undone)) if undone else None}
    place = line(case, rewrites) if any(r.file is not None for r in rewrites) else None
    by = f" by {place.op} ({place.file}:{place.line})" if place is not None else ""
    back = f", taking back {median(undone):.2g} of the step before" if undone else ""
    return Certificate(
        NAME, "held",
        f"but for {len(rewrites)} rewrites between steps{by} (the first ahead of step {rewrites[0].step}{back}), which did the loss no harm",
        numbers,
    )  # fmt: skip
