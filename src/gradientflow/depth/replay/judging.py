"""What came of a trial: a win, no proven win, or worse. Dry: numbers in, words out."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gradientflow.depth.replay.stats import Difference
from gradientflow.limits import Limit
from gradientflow.records import FAILED, NO_WIN, WIN, WORSE, Finding, Outlook, Trial, Verdict

NOTEWORTHY = Limit("difference", 0.01, "chosen: 2 % of the loss; less is not called one, however sure it is")
REGAINED = Limit("decades_regained", 0.3, "chosen: a factor of two, where the symptom is still seen")


@dataclass(frozen=True)
class Measured:
    """What a trial is judged by: its losses against the baseline's, and each of the two against its own start.

    All three are None where there is nothing to compare, or where what is compared is not finite.
    """

    difference: Difference | None = None  # of the trial and the baseline, at the end
    fall: Difference | None = None  # of the trial, from its start to its end
    baseline_fall: Difference | None = None


def outcome_of(trial: Trial, finding: Finding, baseline: Outlook, measured: Measured) -> tuple[str, str]:
    """Return (outcome, reason in words) of a trial.

    A win is a loss that is clearly lower than the baseline's and clearly lower than the trial's own at its start: the whole
    95 % interval is, and by more than 2 %. So neither a symptom that is gone while nothing learns is a win, nor a loss that
    rises more slowly. Where the baseline ends in values that are not finite, a trial that stays finite and whose loss
    clearly falls is one.

    Args:
        trial: with `after` and `gone` filled in.
        finding: what the remedy is for.
        baseline: how the script went as it is.
        measured: the differences of the losses.
    """
    after = trial.after
    if after is None:
        return FAILED, "nothing was recorded"
    if not after.finite or after.loss_last is None:
        if not baseline.finite or baseline.loss_last is None:
            return NO_WIN, "values that are not finite, as without it"
        return WORSE, "it ends in values that are not finite; without it they are finite"
    told = told_losses(baseline, after)
    seen = f"{finding.symptom} is {'gone' if trial.gone else 'still seen'}"
    learns = measured.fall is not None and clearly_better(measured.fall)
    difference = measured.difference
    if difference is None:
        if learns:
            return WIN, f"all values stay finite, {seen}, {told}"
        return NO_WIN, f"all values stay finite and {seen}, but {_flat(after)}: {told}"
    if clearly_better(difference):
        if learns:
            return WIN, f"{told}; {seen}"
        return NO_WIN, f"the loss is lower than without it, but {_flat(after)}: {told}"
    if clearly_better(_reversed(difference)):
        return WORSE, f"the loss is clearly higher: {told}"
    return NO_WIN, _undecided(trial, finding, baseline, after, measured, told)


def _undecided(
    trial: Trial, finding: Finding, baseline: Outlook, after: Outlook, measured: Measured, told: str
) -> str:  # fmt: skip
    """Say why there is no proven win where the losses do not differ clearly."""
    doubt = "no clear difference in the loss"
    if measured.difference is not None and measured.difference.high < 0:
        doubt = f"the loss is lower, but by less than {2 * NOTEWORTHY:.0%}"
    learned = any(f is not None and clearly_better(f) for f in (measured.fall, measured.baseline_fall))
    still = "" if learned else "; the loss stands still with it as without it"
    if trial.gone:
        return f"{finding.symptom} is gone, but {doubt}: {told}{still}"
    if finding.symptom in ("vanishing", "exploding") and _regained(baseline, after) > REGAINED:
        return f"{_regained(baseline, after):.1f} decades regained, but {doubt}: {told}{still}"
    return f"{doubt}: {told}{still}"


def _flat(after: Outlook) -> str:
    """Say that a loss does not fall."""
    if after.loss_first is None or after.loss_last is None:
        return "it does not clearly fall"
    how = "rises from" if after.loss_last > after.loss_first else "does not clearly fall below"
    return f"{how} its own start, {after.loss_first:.4g}"


def clearly_better(difference: Difference) -> bool:
    """Whether the whole interval lies below zero, and the mean by a noteworthy part of the loss."""
    return difference.high < 0 and difference.mean < -NOTEWORTHY


def signed(outlook: Outlook, sign: float) -> Outlook:
    """The same outlook with its losses times a sign."""
    if sign == 1.0:
        return outlook
    first, last = (None if x is None else sign * x for x in (outlook.loss_first, outlook.loss_last))
    return msgspec.structs.replace(outlook, loss_first=first, loss_last=last)


def told_losses(baseline: Outlook, after: Outlook) -> str:
    """The two losses in words."""
    before = "not finite" if baseline.loss_last is None else f"{baseline.loss_last:.4g}"
    return f"loss {before} → {'not finite' if after.loss_last is None else f'{after.loss_last:.4g}'}"


def remains_of(verdict: Verdict) -> str:
    """What is wrong with a run that has the change in place, in one line; empty where nothing was found."""
    if not verdict.findings:
        return ""
    top = verdict.findings[0]
    place = f" at {top.place.file}:{top.place.line}" if top.place is not None and top.place.file else ""
    return f"{top.symptom} because of {top.cause}{place}"


def _regained(baseline: Outlook, after: Outlook) -> float:
    if baseline.decades is None or after.decades is None:
        return 0.0
    return abs(baseline.decades) - abs(after.decades)


def _reversed(difference: Difference) -> Difference:
    return Difference(-difference.mean, -difference.high, -difference.low)
