"""What was replayed, written into the verdict: the whole of it, and beside each remedy what it did."""

from __future__ import annotations

from typing import Any

from gradientflow.records import NOT_TRIED, Replay, Trial, Verdict


def attach(verdict: Verdict, replay: Replay | None) -> Verdict:
    """Put a replay into a verdict, and each trial's numbers beside the remedy it tried; return the verdict.

    The confidence of a finding whose remedies made nothing better is lowered to what the replay leaves of it.

    Args:
        verdict: of the run that was replayed; changed in place.
        replay: what was tried; None leaves the verdict as it is.
    """
    if replay is None:
        return verdict
    verdict.replay = replay
    for doubt in replay.doubts:
        if doubt.finding < len(verdict.findings):
            verdict.findings[doubt.finding].confidence = doubt.after
    for number, trial in enumerate(replay.trials):
        if trial.finding >= len(verdict.findings) or len(trial.changes) != 1 or trial.outcome == NOT_TRIED:
            continue
        for remedy in verdict.findings[trial.finding].remedies:
            if remedy.kind == trial.changes[0].kind and (remedy.replayed is None or number == replay.best):
                remedy.replayed = _told(trial, replay)
    return verdict


def _told(trial: Trial, replay: Replay) -> dict[str, Any]:
    told: dict[str, Any] = {"outcome": trial.outcome, "tried": trial.changes[0].text}
    before, after = replay.baseline, trial.after
    if after is not None:
        told |= {
            "loss_before": before.loss_last if trial.before is None else trial.before,
            "loss_after": after.loss_last,
        }
        if before.decades is not None and after.decades is not None:
            told |= {"decades_before": before.decades, "decades_after": after.decades}
    return told | {"symptom_gone": trial.gone, "steps": replay.steps, "seeds": trial.seeds}
