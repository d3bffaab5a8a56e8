"""What a replay is told with: its title, and the cells of a trial."""

from __future__ import annotations

import math
from typing import NamedTuple

from gradientflow.limits import Limit
from gradientflow.records import FAILED, NO_WIN, NOT_TRIED, WIN, WORSE, Outlook, Replay, Trial
from gradientflow.report.words import count, decades, number, one_line, seconds

SIGNS = {WIN: "✓", NO_WIN: "≈", WORSE: "✗", FAILED: "!", NOT_TRIED: "–"}
WORDS = {
    WIN: "better",
    NO_WIN: "no proven win",
    WORSE: "worse",
    FAILED: "failed",
    NOT_TRIED: "not tried",
}
SAME = Limit("difference", 0.02, "chosen: losses within 4 % of each other are called the same")


class Cells(NamedTuple):
    """A trial in short texts."""

    sign: str
    outcome: str
    kind: str
    what: str
    loss: str
    difference: str
    depth: str
    symptom: str
    reason: str


def title(replay: Replay) -> str:
    """How many remedies were tried, for how long."""
    tried = sum(t.outcome not in (NOT_TRIED, FAILED) for t in replay.trials)
    parts = [
        f"{count(tried, 'remedy').replace('remedys', 'remedies')} beside a baseline",
        f"{count(replay.steps, 'step')} each",
    ]
    parts += [f"{count(replay.seeds, 'seed')} where it mattered"] if replay.seeds > 1 else []
    return ", ".join([*parts, seconds(replay.seconds)])


def verdict_line(replay: Replay) -> str:
    """What came of it, in one sentence."""
    if replay.best is None:
        text = "No proven win: none of what was tried did clearly better than the script as it is."
        free = next((t for t in replay.trials if at_no_cost(t)), None)
        if free is not None and free.after is not None:
            text += f" With {what(free)} the symptom is gone, and the loss is the same."
        return one_line(text)
    trial = replay.trials[replay.best]
    text = f"Best: {what(trial)}; {trial.reason}."
    if trial.remains:
        text += f" What remains then: {trial.remains}."
    return one_line(text)


def at_no_cost(trial: Trial) -> bool:
    """Whether a trial's symptom is gone, and its loss proven to be that of the baseline within a few per cent."""
    if trial.outcome != NO_WIN or not trial.gone or trial.low is None or trial.high is None:
        return False
    return max(abs(trial.low), abs(trial.high)) < SAME


def what(trial: Trial) -> str:
    """What was changed, in words."""
    return one_line(" and ".join(c.text for c in trial.changes))


def cells(trial: Trial, replay: Replay) -> Cells:
    """A trial, ready for a table."""
    after, before = trial.after, replay.baseline
    seen = after is not None and trial.outcome not in (NOT_TRIED, FAILED)
    difference = _difference(trial, replay) if seen else ""
    depth = ""
    if seen and after is not None and before.decades is not None and after.decades is not None:
        depth = f"{decades(before.decades)} → {decades(after.decades)}"
    symptom = ""
    if seen and after is not None:
        symptom = "gone" if trial.gone else one_line(after.symptom)
    return Cells(
        SIGNS[trial.outcome], WORDS[trial.outcome], one_line(" + ".join(c.kind for c in trial.changes)), what(trial),
        f"{loss(before) if trial.before is None else number(trial.before)} → {loss(after)}" if seen else "", difference, depth, symptom, one_line(trial.reason),
    )  # fmt: skip


def _difference(trial: Trial, replay: Replay) -> str:
    """The paired difference and its interval: as a factor on the loss, where both losses are positive."""
    three = (trial.difference, trial.low, trial.high)
    d, low, high = three
    if d is None or low is None or high is None:
        return ""
    before = replay.baseline.loss_last if trial.before is None else trial.before
    after = trial.after.loss_last if trial.after else None
    if before is not None and after is not None and before > 0 and after > 0:
        d, low, high = (_ratio(x) for x in (d, low, high))
        return f"×{number(d)} [{number(low)}, {number(high)}]"
    return f"{number(d)} [{number(low)}, {number(high)}]"


def _ratio(d: float) -> float:
    return (1 + d) / (1 - d) if d < 1 else math.inf


def loss(outlook: Outlook | None) -> str:
    """The loss at the end."""
    if outlook is None:
        return "—"
    return "not finite" if outlook.loss_last is None else number(outlook.loss_last)


def checked(trial: Trial) -> str:
    """What is known of the edit of the source."""
    if trial.diff_tried is None:
        return "not run: no time was left"
    same = "run on this script: the same losses as the intervention, bit for bit"
    return same if trial.diff_equal else "run on this script, and as good as the intervention"


def written(replay: Replay) -> Trial | None:
    """The best as an edit, else the next best that could be written; None where there is none, or its own run did not do as well."""
    best = [replay.trials[replay.best]] if replay.best is not None else []
    others = [t for t in replay.trials if best and t.outcome == WIN]
    return next((t for t in [*best, *others] if t.diff and t.diff_tried is not False), None)


def edit_title(replay: Replay, trial: Trial) -> str:
    """What stands above a diff: that it is the best, or what it is of."""
    if replay.best is not None and trial is replay.trials[replay.best]:
        return "the best as an edit"
    return f"the best that could be written: {what(trial)}"


def doubted(replay: Replay) -> list[str]:
    """What the replay says against findings, a sentence each."""
    told = []
    for doubt in replay.doubts:
        tried = "remedy of it that was tried" if doubt.trials == 1 else f"{doubt.trials} remedies of it that were tried"
        told.append(
            f"Confidence in {one_line(doubt.cause)} lowered from {100 * doubt.before:.0f} % to {100 * doubt.after:.0f} %: the {tried} made "
            f"nothing better."
        )
    return told
