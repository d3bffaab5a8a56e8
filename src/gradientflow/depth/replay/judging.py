"""What came of a trial: a win, no proven win, or worse. Dry: numbers in, words out."""

from __future__ import annotations

import msgspec

from gradientflow.depth.replay.stats import Difference
from gradientflow.limits import Limit
from gradientflow.records import FAILED, NO_WIN, NOT_TRIED, WIN, WORSE, Finding, Outlook, Trial, Verdict

NOTEWORTHY = Limit("difference", 0.01, "chosen: 2 % of the loss; less is not called one, however sure it is")
REGAINED = Limit("decades_regained", 0.3, "chosen: a factor of two, where the symptom is still seen")


def outcome_of(
    trial: Trial, finding: Finding, baseline: Outlook, difference: Difference | None
) -> tuple[str, str]:  # fmt: skip
    """Return (outcome, reason in words) of a trial.

    A win is a loss that is clearly lower (the whole 95 % interval is, by more than 2 % of the baseline's), or a symptom
    that is gone while the loss is not clearly higher. Where the baseline ends in values that are not finite, a trial
    that stays finite and whose symptom is gone, or whose loss falls, is a win.

    Args:
        trial: with `after` and `gone` filled in.
        finding: what the remedy is for.
        baseline: how the script went as it is.
        difference: of the losses; None where one of the two is not finite at the end.
    """
    after = trial.after
    if after is None:
        return FAILED, "nothing was recorded"
    if not after.finite or after.loss_last is None:
        if not baseline.finite or baseline.loss_last is None:
            return NO_WIN, "values that are not finite, as without it"
        return WORSE, "it ends in values that are not finite; without it they are finite"
    told = told_losses(baseline, after)
    if not baseline.finite or baseline.loss_last is None or difference is None:
        falls = after.loss_first is not None and after.loss_last < after.loss_first
        if trial.gone or falls:
            symptom = f"{finding.symptom} is gone" if trial.gone else f"{finding.symptom} is still seen"
            return WIN, f"all values stay finite, {symptom}, {told}"
        return NO_WIN, f"all values stay finite, but the loss does not fall: {told}"
    better, worse = clearly_better(difference), clearly_better(_reversed(difference))
    if better:
        return WIN, told + (f"; {finding.symptom} is gone" if trial.gone else f"; {finding.symptom} is still seen")
    if worse:
        return WORSE, f"the loss is clearly higher: {told}"
    if trial.gone:
        return WIN, f"{finding.symptom} is gone; no clear difference in the loss: {told}"
    doubt = "no clear difference in the loss"
    if difference.high < 0:
        doubt = f"the loss is lower, but by less than {2 * NOTEWORTHY:.0%}"
    if finding.symptom in ("vanishing", "exploding") and _regained(baseline, after) > REGAINED:
        return NO_WIN, f"{_regained(baseline, after):.1f} decades regained, but {doubt}: {told}"
    return NO_WIN, f"{doubt}: {told}"


def clearly_better(difference: Difference) -> bool:
    """Whether the whole interval lies below zero, and the mean by a noteworthy part of the loss."""
    return difference.high < 0 and difference.mean < -NOTEWORTHY


def signed(outlook: Outlook, sign: float) -> Outlook:
    """The same outlook with its losses times a sign."""
    if sign == 1.0:
        return outlook
    first, last = (None if x is None else sign * x for x in (outlook.loss_first, outlook.loss_last))
    return msgspec.structs.replace(outlook, loss_first=first, loss_last=last)


def promise(trial: Trial) -> tuple[int, int, float]:
    """How good a trial is, to compare with others: outcome first, then whether the symptom is gone, then the loss."""
    order = {WIN: 3, NO_WIN: 2, WORSE: 1, FAILED: 0, NOT_TRIED: -1}[trial.outcome]
    after = trial.after
    if after is None or after.loss_last is None:
        return order, 0, float("-inf")
    if trial.difference is not None:
        return order, int(trial.gone), -trial.difference
    return order, int(trial.gone), -after.loss_last


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
