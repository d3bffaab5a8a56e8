"""Weights that are rewritten between two steps: when, how much of them, and, from the second time on, by which call.

What rewrites them is looked for only once it is known that something does: then the function mode stays on the stack between the
steps, for so many of them at most, until a call was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.watch.optimizers import Watched
from gradientflow.depth.watch.writers import SEARCHES, WINDOWS, Writers
from gradientflow.records import REWRITES, Rewrite


class Rewriting:
    """Holds the weights ahead of each step against what the step before left.

    Args:
        registry: who is who among the parameters.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, registry: Registry, shield: Callable[..., Any]) -> None:
        self.compared = 0  # steps ahead of which there was something to compare
        self.writers = Writers(registry, shield)
        self._count = 0
        self._windows = 0  # in which calls are still to be looked at
        self._looking = False  # in this one they are
        self._searches = 0
        self._params: list[int] = []

    @property
    def searching(self) -> bool:
        """Whether it is to be seen which call writes weights."""
        return self._windows > 0

    def search(self) -> Callable[..., Any]:
        """A window opens: return what its calls have to be run by."""
        self._windows, self._looking = self._windows - 1, True
        self.writers.watch(self._params)
        return self.writers.watched

    def compare(self, watched: Watched, step: int) -> Rewrite | None:
        """A step is about to be taken: return what was rewritten since the last, if it is to go on record."""
        looked, self._looking = self._looking, False
        found = watched.continuity.before()
        self.compared += watched.continuity.knows
        if found is None:
            return None
        self._count += 1
        by = self.writers.found() if looked else None
        if by is not None:
            self._windows, self._searches = 0, int(SEARCHES)
        elif looked:  # and nothing was seen
            self._windows = 0
        elif self._searches < SEARCHES:
            self._searches, self._windows, self._params = self._searches + 1, int(WINDOWS), list(watched.record.params)
        if self._count > REWRITES and self._count % REWRITES and by is None:
            return None
        return Rewrite(step, watched.record.index, *found, *(by or (None, None, None)))
