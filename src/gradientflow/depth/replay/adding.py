"""A replay of one remedy put beside what earlier replays of the same run found, where both were measured alike."""

from __future__ import annotations

import math

from msgspec.structs import replace

from gradientflow.records import WIN, Replay, Trial


def added(earlier: Replay | None, now: Replay) -> Replay:
    """Return the trials of both; of a remedy that was tried in both, the later one.

    Where the baselines are not the same, step for step as far as is known, the trials cannot be compared, and the earlier ones are
    left out, which a note says.

    Args:
        earlier: what was replayed before; None: nothing.
        now: what is replayed now.
    """
    if earlier is None or not earlier.trials:
        return now
    if (earlier.steps, earlier.baseline.loss_last) != (now.steps, now.baseline.loss_last):
        told = f"what was tried before is left out: its baseline ({earlier.steps} steps) is not that of this replay"
        return replace(now, notes=[*now.notes, told])
    anew = {_kinds(t) for t in now.trials}
    kept = [k for k, t in enumerate(earlier.trials) if _kinds(t) not in anew]
    trials = [*(earlier.trials[k] for k in kept), *now.trials]
    best = (
        [kept.index(earlier.best)]
        if earlier.best in kept
        else [k for k in range(len(kept)) if trials[k].outcome == WIN]
    )
    best += [len(kept) + now.best] if now.best is not None else []
    mended = {t.finding for t in trials if t.outcome == WIN}
    doubts = [*now.doubts, *(d for d in earlier.doubts if d.finding not in {x.finding for x in now.doubts})]
    return replace(
        now, trials=trials, best=min(best, key=lambda k: _left(trials[k]), default=None), seeds=max(earlier.seeds, now.seeds),
        seconds=earlier.seconds + now.seconds, notes=list(dict.fromkeys([*earlier.notes, *now.notes])),
        doubts=[d for d in doubts if d.finding not in mended],
    )  # fmt: skip


def _kinds(trial: Trial) -> tuple[str, ...]:
    return tuple(change.kind for change in trial.changes)


def _left(trial: Trial) -> tuple[bool, float]:
    """What a trial left: its symptom first, then its loss."""
    loss = trial.after.loss_last if trial.after is not None else None
    return not trial.gone, loss if loss is not None else math.inf
