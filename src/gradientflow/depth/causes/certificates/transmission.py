"""Certificate: the gradient that backward delivered is the one that the optimizer found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.altered import early_clip, ways
from gradientflow.depth.causes.case import Case, counted, rounded
from gradientflow.depth.causes.certificates import broken
from gradientflow.depth.causes.passes import LATE, averages
from gradientflow.limits import Limit
from gradientflow.records import Certificate, Finding, Transit

NAME = "transmission"
CAUSES = ("gradient-altered", "missing-zero-grad")
UNCHANGED = Limit("factor", 1e-6, "rounding of a norm in single precision, and a decade to spare")


def transmission(case: Case, findings: Sequence[Finding]) -> Certificate:
    """On every probed step the gradient arrived as it was delivered, or what changed it is told with its factor and its line."""
    if (told := broken.by(NAME, findings, lambda f: f.cause in CAUSES)) is not None:
        return told
    seen = [w for trend in case.trends for w in ways(case, trend)]
    if not seen:
        return Certificate(NAME, "not-measured", _why_not(case), {"late": case.meta.late} if case.meta.late else {})
    numbers = {"steps": len(seen), "factor": rounded(median(w.factor or 0.0 for w in seen))}
    params = len(seen[-1].transit.passed)
    whole = f"on {counted(len(seen), 'probed step')}, for {counted(params, 'parameter')}"
    calls: dict[tuple[str, str | None, int | None], list[float | None]] = {}
    for way in seen:
        for a in way.calls:
            calls.setdefault((a.name, a.file, a.line), []).append(a.factor)
    again = sum(w.transit.again for w in seen)
    twice = _added_up(case, [w.transit for w in seen])
    if again:
        last = places.of_last_call(case.meta, "backward")
        at = f" ({last.file}:{last.line})" if last is not None else ""
        twice = f"; backward was called again{at} on the same loss in {again} of them, so its gradient counts twice"
    left = sum(bool(g.probe.carried) for g in case.graphs if g.probe.step > 1)
    twice += f"; at {left} of them gradients of earlier steps were still in `.grad`, and count again" if left else ""
    if not calls:
        changed = [w for w in seen if w.factor is not None and abs(w.factor - 1.0) > UNCHANGED]
        if changed:
            return Certificate(
                NAME,
                "held",
                f"{whole} the gradient arrived ×{numbers['factor']}, changed by no call that was seen{twice}",
                numbers,
            )
        return Certificate(
            NAME, "held", f"{whole} the gradient that backward left is the one the optimizer found{twice}", numbers
        )
    changes = [
        f"{name} ({file}:{line}) ×{_typical(factors)}" for (name, file, line), factors in list(calls.items())[:3]
    ]
    more = f" and {len(calls) - 3} more calls" if len(calls) > 3 else ""
    return Certificate(
        NAME,
        "held",
        f"{whole} the gradient arrived, changed only by {', '.join(changes)}{more}{twice}{early_clip(seen[-1])}",
        numbers,
    )


def _why_not(case: Case) -> str:
    if case.meta.late >= LATE:
        return (
            "each step came ahead of the backward call of its own batch: it used the gradient of the batch before, or none "
            f"({case.meta.late} times, of the steps looked at)"
        )
    passed = [p for probe in case.run.probes if probe.transit is not None for p in probe.transit.passed]
    if not passed:
        return "no probed step had its backward call ahead of its optimizer step"
    if any(p.delivered > 0 and math.isfinite(p.delivered) for p in passed):
        return "on no probed step was the whole gradient finite"
    return f"the gradient of every probed step is {'zero' if all(p.delivered == 0 for p in passed) else 'not finite'}"


def _added_up(case: Case, transits: Sequence[Transit]) -> str:
    """Say how many backward calls the steps typically follow, and what is left of each in the gradient of the step."""
    calls, cleared = (int(median(n)) for n in ([t.passes for t in transits], [t.cleared for t in transits]))
    if calls <= 1:
        return ""
    if cleared:
        return (
            f"; of the {calls} backward calls ahead of each step the gradients of {cleared} were cleared again: the step is that of "
            f"{1 - cleared / calls:.0%} of them"
        )
    last = places.of_last_call(case.meta, "backward")
    at = f" (the last at {last.file}:{last.line})" if last is not None else ""
    shared = f", each counting 1/{calls} or so" if averages(case, calls) else ", each counting whole"
    return f"; {calls} backward calls were added up ahead of each step{shared}{at}"


def _typical(factors: list[float | None]) -> str:
    known = [f for f in factors if f is not None]
    return f"{median(known):.3g}" if known else "?"
