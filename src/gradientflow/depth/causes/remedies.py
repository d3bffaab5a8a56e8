"""What to do about it, in words. Each text may name the place it is for; nothing here was tried on the script yet."""

from __future__ import annotations

from gradientflow.records import REMEDIES, Place, Remedy


def remedies(*kinds: str, at: Place | None = None, hint: str = "") -> list[Remedy]:
    """Return remedies by kind, the first for the place `at`, with an optional hint (a number to begin with)."""
    found = []
    for i, kind in enumerate(kinds):
        where = f" at {at.file}:{at.line}" if i == 0 and at is not None and at.file else ""
        found.append(Remedy(kind, REMEDIES[kind].format(at=where, hint=hint)))
    return found
