"""What counts as a win: a loss that is clearly lower, than the baseline's and than its own start. And what does not."""

from __future__ import annotations

import pytest

from gradientflow.depth.replay.judging import Measured, outcome_of, remains_of, signed
from gradientflow.depth.replay.stats import Difference
from gradientflow.records import (
    NO_WIN,
    WIN,
    WORSE,
    Budget,
    Change,
    Finding,
    Loss,
    Outlook,
    Place,
    Trial,
    Verdict,
    Watch,
)

FINDING = Finding("diverging", "step-too-large", 0.9, Place("t.py", 3), "The loss rises.", {}, [])
BASE = Outlook(100, 2.0, 1.0, -3.0, "diverging", "step-too-large")
FALLS, STANDS, RISES = Difference(-0.5, -0.6, -0.4), Difference(0.0, -0.01, 0.01), Difference(0.3, 0.2, 0.4)
LOWER, EVEN, HIGHER = Difference(-0.8, -0.9, -0.7), Difference(0.0, -0.1, 0.1), Difference(0.5, 0.4, 0.6)


def trial(after: Outlook, *, gone: bool = False) -> Trial:
    return Trial([Change("lower-step", "lr × 0.1")], 0, "", "", 1, after, gone=gone)


def outlook(last: float | None, *, finite: bool = True, first: float | None = 2.0) -> Outlook:
    return Outlook(100, first, last, -3.0, "healthy", finite=finite)


@pytest.mark.parametrize(
    ("after", "gone", "difference", "fall", "expected"),
    [
        (outlook(0.2), False, LOWER, FALLS, WIN),
        (outlook(0.2), False, Difference(-0.5, -1.0, 0.1), FALLS, NO_WIN),  # not sure
        (outlook(0.995), False, Difference(-0.005, -0.006, -0.004), FALLS, NO_WIN),  # sure, but not worth it
        (outlook(1.0), True, EVEN, FALLS, NO_WIN),  # the symptom is gone, and nothing is better for it
        (outlook(1.0), True, Difference(0.0, 0.0, 0.0), STANDS, NO_WIN),  # ×1 [1, 1]
        (outlook(2.0), True, LOWER, STANDS, NO_WIN),  # lower than the baseline, and it learns nothing
        (outlook(2.5), True, LOWER, RISES, NO_WIN),  # it rises, only more slowly
        (outlook(0.2), True, LOWER, None, NO_WIN),  # of its own start nothing is known
        (outlook(1.5), True, HIGHER, FALLS, WORSE),  # gone, but the loss pays for it
        (outlook(None, finite=False), False, None, None, WORSE),
    ],
)
def test_outcome_beside_a_finite_baseline(
    after: Outlook, gone: bool, difference: Difference | None, fall: Difference | None, expected: str
) -> None:
    assert outcome_of(trial(after, gone=gone), FINDING, BASE, Measured(difference, fall))[0] == expected


def test_outcome_beside_a_baseline_that_is_not_finite() -> None:
    base = Outlook(100, 2.0, None, None, "not-finite", "overflow", finite=False)
    assert outcome_of(trial(outlook(0.3)), FINDING, base, Measured(None, FALLS))[0] == WIN
    assert outcome_of(trial(outlook(2.0)), FINDING, base, Measured(None, STANDS))[0] == NO_WIN  # finite, and no more
    assert outcome_of(trial(outlook(2.5), gone=True), FINDING, base, Measured(None, RISES))[0] == NO_WIN
    assert outcome_of(trial(outlook(None, finite=False)), FINDING, base, Measured())[0] == NO_WIN


def test_why_it_is_no_win_is_told() -> None:
    slower = outcome_of(trial(outlook(2.5), gone=True), FINDING, BASE, Measured(LOWER, RISES))[1]
    assert "lower than without it, but rises from its own start, 2" in slower
    flat = outcome_of(trial(outlook(1.99), gone=True), FINDING, BASE, Measured(LOWER, STANDS))[1]
    assert "but does not clearly fall below its own start, 2" in flat
    still = outcome_of(trial(outlook(2.0), gone=True), FINDING, BASE, Measured(EVEN, STANDS, STANDS))[1]
    assert "diverging is gone, but no clear difference" in still and "stands still with it as without it" in still
    learning = outcome_of(trial(outlook(2.0), gone=True), FINDING, BASE, Measured(EVEN, FALLS, FALLS))[1]
    assert "stands still" not in learning


def test_a_wrong_sign_is_judged_by_the_right_one() -> None:
    """The baseline runs to −10⁶; with the gradient flipped, the negative of the loss falls from 5 to 3: that is the win."""
    base = Outlook(100, -5.0, -1e6, None, "diverging", "wrong-sign")
    after = outlook(3.0, first=5.0)
    sure = Difference(-1.0, -1.0, -1.0)
    won = outcome_of(trial(after, gone=True), FINDING, signed(base, -1.0), Measured(sure, FALLS))
    assert won[0] == WIN
    unsigned = outcome_of(trial(after, gone=True), FINDING, base, Measured(Difference(1.0, 1.0, 1.0), FALLS))
    assert unsigned[0] == WORSE  # what it would look like without the sign


def test_what_remains_is_told_with_its_place() -> None:
    dead = Finding("dead", "dead-units", 0.9, Place("t.py", 7), "", {}, [])
    verdict = Verdict("t.py", 10, Loss(), "dead", [dead], Budget(), Watch())
    assert remains_of(verdict) == "dead because of dead-units at t.py:7"
    verdict.findings = []
    assert remains_of(verdict) == ""
