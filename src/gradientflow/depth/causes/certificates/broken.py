"""A certificate that a finding breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradientflow.records import Certificate, Finding


def by(name: str, findings: Sequence[Finding], mine: Callable[[Finding], bool]) -> Certificate | None:
    """Return a broken certificate where one of the findings is of its kind, with that finding's sentence."""
    found = next((f for f in findings if mine(f)), None)
    return None if found is None else told(name, found, {"confidence": found.confidence})


def told(name: str, found: Finding, numbers: dict[str, Any]) -> Certificate:
    """Return the certificate that a finding breaks."""
    where = f" ({found.place.file}:{found.place.line})" if found.place is not None and found.place.file else ""
    return Certificate(name, "broken", f"{found.symptom} because of {found.cause}{where}", numbers)
