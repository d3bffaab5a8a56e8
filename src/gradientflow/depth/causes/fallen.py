"""What single steps did to the loss of their own batch: what the gradient predicts, what was measured, what the curvature takes."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.trend import Trend
from gradientflow.limits import Limit
from gradientflow.records import Descent

RESOLVED = Limit("fall_over_error", 20.0, "chosen: below it the loss's number format shows no curvature")

LOOKED = Limit("steps_measured_again", 3, "chosen: one or two may be chance")
TAKEN = Limit("curvature_over_predicted", 0.02, "chosen: of a step ten times as long it takes a fifth, and no more")
LONGER = Limit("update_over_those_measured", 10.0, "chosen: the longest step of all, relative to the weights")


def looks(case: Case) -> list[tuple[int, Descent]]:
    """Return the probed steps whose forward pass was run again, in order, where the predicted fall stands out of rounding."""
    seen = [(p.step, p.descent) for p in case.run.probes if isinstance(p.descent, Descent)]
    return [(step, d) for step, d in seen if abs(d.predicted) > RESOLVED * d.error]


def goes_down(case: Case, trend: Trend) -> bool:
    """Whether single steps do what the gradient predicts, and no step is so much longer that it would not: none is too large then."""
    sizes = {s.step: s.update / s.weight for s in trend.steps if s.update and s.weight}
    seen = [(sizes[step], d) for step, d in looks(case) if step in sizes]
    if len(seen) < LOOKED or not all(math.isfinite(size) for size in sizes.values()):
        return False
    off = max(max(abs(d.curvature), abs(d.predicted - d.fall)) / abs(d.predicted) for _, d in seen)
    down = all(d.predicted > 0 for _, d in seen)
    return down and off <= TAKEN and max(sizes.values()) <= LONGER * max(size for size, _ in seen)


def said(case: Case) -> tuple[str, dict[str, Any]]:
    """Return a sentence of what single steps did, and the numbers it rests on; or of why that was not measured."""
    seen = looks(case)
    if not seen:
        why = next((p.descent for p in reversed(case.run.probes) if isinstance(p.descent, str)), None)
        if any(isinstance(p.descent, Descent) for p in case.run.probes):
            why = "the steps are so small that the loss does not resolve them"
        return (f"; what single steps do to their own batch was not measured: {why}" if why else ""), {}
    step, last = seen[-1]
    down = [d for _, d in seen if d.predicted > 0]
    parts = [f"on {len(seen)} probed steps the loss of the same batch was measured again behind the step"]
    if down:
        fell, bent = (median(x / d.predicted for d, x in pairs) for pairs in _of(down))
        parts.append(f"it fell by {fell:.0%} of ⟨∇L, Δw⟩, and the curvature took {bent:.0%}".replace("-", "−"))
    if len(down) < len(seen):
        parts.append(f"{len(seen) - len(down)} of the steps went up the gradient of their own batch")
    parts.append(
        f"at step {step} predicted {last.predicted:.3g}, measured {last.fall:.3g}, curvature {last.curvature:.3g}"
    )
    columns: dict[str, Any] = {
        "probed": [n for n, _ in seen], "predicted_fall": [rounded(d.predicted) for _, d in seen],
        "measured_fall": [rounded(d.fall) for _, d in seen], "curvature_term": [rounded(d.curvature) for _, d in seen],
    }  # fmt: skip
    return "; " + ", ".join(parts), columns


def _of(down: list[Descent]) -> tuple[list[tuple[Descent, float]], list[tuple[Descent, float]]]:
    return [(d, d.fall) for d in down], [(d, d.curvature) for d in down]
