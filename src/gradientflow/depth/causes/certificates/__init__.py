"""What was proven of a run: each link between the flow dL/dt = −‖∇L‖² and a training run that can be checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.continuity import continuity
from gradientflow.depth.causes.certificates.descent import descent
from gradientflow.depth.causes.certificates.finite import finite
from gradientflow.depth.causes.certificates.isolation import isolation
from gradientflow.depth.causes.certificates.step import step
from gradientflow.depth.causes.certificates.terms import terms
from gradientflow.depth.causes.certificates.transmission import transmission
from gradientflow.records import Certificate, Finding

__all__ = ["Check", "finite", "issue"]

Check = Callable[[Case, Sequence[Finding]], Certificate]
CHECKS: tuple[Check, ...] = (finite, transmission, step, continuity, descent, isolation, terms)


def issue(case: Case, findings: Sequence[Finding], errors: list[str]) -> list[Certificate]:
    """Return every certificate of a run, in order. A check that fails is not measured, and `errors` says so.

    Args:
        case: the run.
        findings: what the rules found: a certificate is broken by a finding of its own, and by nothing else.
        errors: takes what failed.
    """
    found = []
    for check in CHECKS:
        try:
            found.append(check(case, findings))
        except Exception as problem:
            told = f"{type(problem).__name__}: {problem}"
            errors.append(f"certificate {check.__name__} failed: {told}")
            found.append(Certificate(check.__name__, "not-measured", f"the check itself failed ({told})"))
    return found
