"""Several remedies together: which may go with which, what to try on top of one, and what their edit is worth."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.remedies.write import Edits
from gradientflow.depth.replay import candidates as choice
from gradientflow.depth.replay.trial import Attempt
from gradientflow.limits import Limit
from gradientflow.records import WIN, Change, Finding, Trial

TOGETHER = Limit("changes", 3, "chosen: a script with more faults than that is better mended in several goes")
WRITTEN = Limit("winners_written", 3, "chosen: what comes after those is clearly less than the best")
MORE = Limit("remedies_on_top", 2, "chosen: of what is left with the best in place")
_OPPOSED = ({"lower-step", "raise-step"}, {"add-norm", "remove-norm"})


def fit(changes: Sequence[Change], further: Sequence[Change]) -> bool:
    """Whether changes can be made together: none twice, and none against another.

    Example:
        >>> fit([Change("lower-step", "")], [Change("zero-grad", "")])
        True
        >>> fit([Change("lower-step", "")], [Change("raise-step", "")])
        False
    """
    ours, theirs = {c.kind for c in changes}, {c.kind for c in further}
    return not ours & theirs and not any(pair <= ours | theirs for pair in _OPPOSED)


def together(trial: Trial, other: Trial) -> bool:
    """Whether two trials' changes can be made together."""
    return fit(trial.changes, other.changes)


def left(attempt: Attempt, trial: Trial) -> list[tuple[Change, Finding]]:
    """Return the remedies of what a trial leaves, each with what it is for; those it has already are left out."""
    if attempt.run is None or attempt.verdict is None or not attempt.verdict.findings:
        return []
    had = {c.kind for c in trial.changes}
    planned = choice.candidates(attempt.run, attempt.verdict)
    first: dict[str, tuple[Change, Finding]] = {}
    for index, change in planned:
        if change.kind not in had:
            first.setdefault(change.kind, (change, attempt.verdict.findings[index]))
    return list(first.values())


def kinds(trial: Trial) -> str:
    """Return the words of a trial's remedies."""
    return " + ".join(c.kind for c in trial.changes)


def settle(
    trial: Trial,
    made: Edits,
    checked: Trial,
    attempt: Attempt,
    model: Attempt,
    notes: list[str],
    called: str = "the best",
) -> None:
    """Put an edit that was run beside the trial it stands for; one that did not do as well is told and not shown.

    Args:
        trial: what was written; changed in place.
        made: its edit.
        checked: what came of the edited source, judged as any trial.
        attempt: the run of the edited source.
        model: the run of the trial on the same seed.
        notes: where it is told.
        called: what the trial is called there.
    """
    trial.diff_equal = equal(attempt, model)
    trial.diff_tried = trial.diff_equal or checked.outcome == WIN
    if trial.diff_tried:
        trial.diff = made.diff
        notes += made.notes
    else:
        notes.append(
            f"{called} was written as an edit too, and is not shown: run, it did not do as well ({checked.reason})"
        )


def equal(attempt: Attempt, model: Attempt) -> bool:
    """Whether two runs gave the same losses bit for bit, whichever of the two units the first was recorded in, and whether
    the sign of the objective was turned or that of its gradient.
    """
    shared = attempt.losses.keys() & model.losses.keys()
    if attempt.failure is not None or not shared:
        return False
    units = {1.0, -1.0, attempt.factor, -attempt.factor}
    return any(all(attempt.losses[step] / unit == model.losses[step] for step in shared) for unit in units)
