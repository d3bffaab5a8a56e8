"""The ways back that are drawn: one, or one for each of several optimizers; shared by the terminal and the page."""

from __future__ import annotations

from typing import NamedTuple

from gradientflow.records import Budget, Trained, Verdict
from gradientflow.report import tell, words

MOST = 4  # ways back, and losses, that are drawn


class Way(NamedTuple):
    """One way back, and the optimizer whose it is; None where there is one optimizer."""

    budget: Budget
    own: Trained | None = None


def ways(verdict: Verdict) -> list[Way]:
    """Return the ways back, first the one that the verdict looks at."""
    if not verdict.optimizers:
        return [Way(verdict.budget)]
    each = [Way(own.budget, own) for own in verdict.optimizers]
    first = next((k for k, way in enumerate(each) if way.budget == verdict.budget), None)
    if first is None:
        return [Way(verdict.budget), *each[: MOST - 1]]
    return [each[first], *each[:first], *each[first + 1 :]][:MOST]


def called(own: Trained) -> str:
    """Return what tells an optimizer from the others: its class, and what it trains."""
    name = words.one_line(own.name)
    return f"{name} of {words.shown(own.trains, 40)}" if own.trains else name


def course(own: Trained) -> str:
    """Return an optimizer's line, steps and loss in a few words."""
    parts = [tell.site(own.file, own.line), words.count(own.steps, "step")]
    if own.loss.first is not None or own.loss.last is not None:
        parts.append(f"loss {words.number(own.loss.first)} → {words.number(own.loss.last)}")
    return ", ".join(part for part in parts if part)
