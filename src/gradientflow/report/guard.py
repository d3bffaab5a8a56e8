"""The guard of every report: a part that cannot be made costs itself, never the rest, and its place says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gradientflow.report.words import one_line, shown

T = TypeVar("T")


def guarded(name: str, make: Callable[[], T], told: Callable[[str], T]) -> T:
    """Return a part of a report; where making it fails, what stands in its place.

    Args:
        name: what the part is called, as the subject of a sentence.
        make: makes it.
        told: makes what stands there instead, of one sentence.
    """
    try:
        return make()
    except Exception as problem:
        return told(one_line(f"{name} could not be drawn: {type(problem).__name__}: {shown(problem, 160)}."))
