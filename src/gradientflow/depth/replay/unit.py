"""In which unit a trial's losses are, where a remedy takes a part of the loss away: a smaller penalty is no lower loss.

Such a trial is held against a baseline of its own: the script as it is, trained by its whole loss, of which the same part
is left out of what is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gradientflow.records import Change, Run

ONLY_TOLD = "only_told"  # the setting: the value is lowered, and the gradient is not
_TAKES_AWAY = "lower-regularisation"


def unit(changes: Sequence[Change]) -> str:
    """Return the unit of the losses of a run with these changes; empty for the script's own.

    Example:
        >>> unit([Change("lower-step", "")]), unit([Change("lower-regularisation", "a weight decay")])
        ('', '')
    """
    return " ".join(str(p) for c in changes if c.kind == _TAKES_AWAY for p in c.places)


def yardstick(changes: Sequence[Change]) -> list[Change]:
    """Return what tells a loss in the unit of these changes and trains as without them."""
    return [
        msgspec.structs.replace(c, settings=c.settings | {ONLY_TOLD: True})
        for c in changes
        if c.kind == _TAKES_AWAY and c.places
    ]


def same_course(one: Run | None, other: Run | None) -> bool:
    """Whether two runs took the same steps: the norms of weights and updates are the same, bit for bit."""
    if one is None or other is None:
        return False
    first, second = (
        {s.step: str((s.weight, s.update)) for s in run.steps} for run in (one, other)
    )  # (NaN is NaN there)
    shared = first.keys() & second.keys()
    return bool(shared) and all(first[s] == second[s] for s in shared)
