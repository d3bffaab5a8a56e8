"""The losses of a trial while it goes on, in the unit in which it is compared."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from gradientflow.depth.replay.child import TOLD, Told
from gradientflow.records import Run


def course(run: Run, folder: Path) -> tuple[list[int], list[float | None]]:
    """Return steps and losses of the optimizer that has stepped most; None: not finite, or not known.

    Args:
        run: the trial, as far as it is on disk.
        folder: of the trial, where it tells at its end in which unit its losses are.
    """
    factor = 1.0
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        for acted in msgspec.json.decode((folder / TOLD).read_bytes(), type=Told).acted:
            factor *= acted.loss_factor
    counts: dict[int, int] = {}
    for step in run.steps:
        counts[step.optimizer] = counts.get(step.optimizer, 0) + 1
    main = max(counts, key=lambda k: counts[k], default=None)
    mine = [s for s in run.steps if s.optimizer == main]
    return [s.step for s in mine], [None if s.loss is None else factor * s.loss for s in mine]
