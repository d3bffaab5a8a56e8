"""What counts as a win: a loss that is clearly lower, or a symptom that is gone at no cost. And what does not."""

import pytest

from gradientflow.depth.replay.judging import outcome_of, promise, remains_of, signed
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


def trial(after: Outlook, *, gone: bool = False) -> Trial:
    return Trial([Change("lower-step", "lr × 0.1")], 0, "", "", 1, after, gone=gone)


def outlook(last: float | None, *, finite: bool = True, first: float | None = 2.0) -> Outlook:
    return Outlook(100, first, last, -3.0, "healthy", finite=finite)


@pytest.mark.parametrize(
    ("after", "gone", "difference", "expected"),
    [
        (outlook(0.2), False, Difference(-0.8, -0.9, -0.7), WIN),
        (outlook(0.2), False, Difference(-0.5, -1.0, 0.1), NO_WIN),  # not sure
        (outlook(0.995), False, Difference(-0.005, -0.006, -0.004), NO_WIN),  # sure, but not worth it
        (outlook(1.0), True, Difference(0.0, -0.1, 0.1), WIN),  # the symptom is gone at no cost
        (outlook(1.5), True, Difference(0.5, 0.4, 0.6), WORSE),  # gone, but the loss pays for it
        (outlook(None, finite=False), False, None, WORSE),
    ],
)
def test_outcome_beside_a_finite_baseline(
    after: Outlook, gone: bool, difference: Difference | None, expected: str
) -> None:
    assert outcome_of(trial(after, gone=gone), FINDING, BASE, difference)[0] == expected


def test_outcome_beside_a_baseline_that_is_not_finite() -> None:
    base = Outlook(100, 2.0, None, None, "not-finite", "overflow", finite=False)
    assert outcome_of(trial(outlook(0.3)), FINDING, base, None)[0] == WIN
    assert outcome_of(trial(outlook(2.5)), FINDING, base, None)[0] == NO_WIN  # finite, but it does not learn
    assert outcome_of(trial(outlook(2.5), gone=True), FINDING, base, None)[0] == WIN
    assert outcome_of(trial(outlook(None, finite=False)), FINDING, base, None)[0] == NO_WIN


def test_a_wrong_sign_is_judged_by_the_right_one() -> None:
    """The baseline runs to −10⁶; with the gradient flipped, the negative of the loss falls to 3: that is the win."""
    base = Outlook(100, -5.0, -1e6, None, "diverging", "wrong-sign")
    after = outlook(3.0, first=5.0)
    won = outcome_of(trial(after, gone=True), FINDING, signed(base, -1.0), Difference(-1.0, -1.0, -1.0))
    assert won[0] == WIN
    unsigned = outcome_of(trial(after, gone=True), FINDING, base, Difference(1.0, 1.0, 1.0))
    assert unsigned[0] == WORSE  # what it would look like without the sign


def test_the_better_of_two_wins_comes_first() -> None:
    good, better, gone = trial(outlook(0.5)), trial(outlook(0.1)), trial(outlook(0.6), gone=True)
    good.difference, better.difference, gone.difference = -0.3, -0.8, -0.2
    for t in (good, better, gone):
        t.outcome = WIN
    nothing = trial(outlook(0.05))
    nothing.outcome = NO_WIN
    ranked = sorted([good, better, nothing, gone], key=lambda t: promise(t), reverse=True)
    assert ranked == [gone, better, good, nothing]


def test_what_remains_is_told_with_its_place() -> None:
    verdict = Verdict(
        "t.py",
        10,
        Loss(),
        "dead",
        [Finding("dead", "dead-units", 0.9, Place("t.py", 7), "", {}, [])],
        Budget(),
        Watch(),
    )
    assert remains_of(verdict) == "dead because of dead-units at t.py:7"
    verdict.findings = []
    assert remains_of(verdict) == ""
