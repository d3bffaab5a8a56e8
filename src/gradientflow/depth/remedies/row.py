"""What is known of one remedy besides its sentence: how it is planned, what it does to a running script, how it is written.

Each of the three is there, or a `Never` says why not, in the words that a user reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from gradientflow.depth.remedies.planner import Planner
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.records import Change, Finding

if TYPE_CHECKING:
    from gradientflow.depth.remedies.acting.base import Acting
    from gradientflow.depth.remedies.acting.sites import Sites

NOTHING = "the record shows no line or number for it to act on"


@dataclass(frozen=True)
class Never:
    """Why a remedy has no plan, no act, or no edit."""

    why: str


@dataclass(frozen=True)
class Row:
    """One line of the table of remedies.

    Args:
        word: the remedy, as findings name it.
        plan: from the record, what to change; the most promising form first, nothing where the record says too little.
        act: the intervention, as `family.Class` in that family's `act.py`. A name, since acting imports torch and planning
            must not.
        edit: the change of the source; raises `NoEditError`, with the reason, where it cannot be made safely.
        unplanned: what it means where the plan finds nothing.
    """

    word: str
    plan: Callable[[Planner, Finding], list[Change]] | Never
    act: str | Never
    edit: Callable[[Job], None] | Never
    unplanned: str = NOTHING

    def acting(self) -> Callable[[Change, Sites], Acting] | Never:
        """Return what makes the intervention; imports torch."""
        if isinstance(self.act, Never):
            return self.act
        family, _, name = self.act.partition(".")
        made: Callable[[Change, Sites], Acting] = getattr(
            import_module(f"gradientflow.depth.remedies.{family}.act"), name
        )
        return made
