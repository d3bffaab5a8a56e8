"""Certificate: every number that was seen is finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates import broken
from gradientflow.records import Certificate, Finding

NAME = "finite"


def finite(case: Case, findings: Sequence[Finding]) -> Certificate:
    """Every loss, gradient, weight, update and buffer that was looked at is finite."""
    run = case.run
    if (told := broken.by(NAME, findings, lambda f: f.symptom == "not-finite")) is not None:
        return told
    seen = [v for s in run.steps for v in (s.loss, s.grad, s.weight, s.update) if v is not None]
    traced = [op for g in case.graphs for op in g.probe.ops]
    if not seen:
        return Certificate(NAME, "not-measured", "no step's numbers are on record")
    bad = next(
        (s for s in run.steps if s.nonfinite or any(_bad(v) for v in (s.loss, s.grad, s.weight, s.update))), None
    )
    if bad is not None:
        return Certificate(NAME, "broken", f"a number of step {bad.step} is not finite", {"step": bad.step})
    buffers = [p.buffers for p in run.probes if p.buffers is not None]
    lost = next((name for b in buffers for name in b.not_finite), None)
    if lost is not None:
        return Certificate(NAME, "broken", f"the buffer {lost} is not finite", {"buffer": lost})
    inside = sum(op.value.nonfinite > 0 for op in traced)
    numbers = {"steps": len(run.steps), "probes": len(case.graphs), "operations": len(traced), "masked": inside,
               "buffers": max((b.count for b in buffers), default=0)}  # fmt: skip
    also = f", and all of {numbers['buffers']} buffers" if numbers["buffers"] else ""
    but = f" ({inside} intermediate values hold Inf or NaN that reaches no gradient)" if inside else ""
    return Certificate(
        NAME, "held",
        f"every loss, gradient, weight and update of {len(run.steps)} steps is finite{also}{but}", numbers,
    )  # fmt: skip


def _bad(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)
