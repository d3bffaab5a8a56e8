"""What a failed replay says against the cause it tested."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.replay.attach import attach
from gradientflow.depth.replay.doubt import doubts, lowered
from gradientflow.records import (
    FAILED,
    NO_WIN,
    NOT_TRIED,
    WIN,
    WORSE,
    Budget,
    Change,
    Finding,
    Loss,
    Outlook,
    Replay,
    Trial,
    Verdict,
    Watch,
)

FIRST = Finding("diverging", "missing-zero-grad", 0.9, None, "", {}, remedies("zero-grad"))
SECOND = Finding("diverging", "step-too-large", 0.8, None, "", {}, remedies("lower-step", "clip-gradient"))


def trial(outcome: str, *kinds: str, finding: int = 1, gone: bool = False) -> Trial:
    return Trial([Change(k, "") for k in kinds], finding, outcome, "", gone=gone)


def doubted(*trials: Trial, dropped: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    return [(d.finding, d.trials) for d in doubts([FIRST, SECOND], trials, dropped)]


def test_a_cause_whose_every_remedy_failed_is_doubted() -> None:
    assert doubted(trial(NO_WIN, "lower-step"), trial(WORSE, "clip-gradient")) == [(1, 2)]


@pytest.mark.parametrize("cleared", [trial(WIN, "clip-gradient"), trial(NO_WIN, "clip-gradient", gone=True)])
def test_one_that_made_something_better_clears_it(cleared: Trial) -> None:
    assert doubted(trial(NO_WIN, "lower-step"), cleared) == []


@pytest.mark.parametrize("outcome", [FAILED, NOT_TRIED])
def test_what_could_not_be_tried_says_nothing(outcome: str) -> None:
    assert doubted(trial(outcome, "lower-step")) == []


def test_a_remedy_that_helped_only_on_top_of_another_clears_its_cause() -> None:
    alone = trial(NO_WIN, "zero-grad", finding=0)
    both = trial(WIN, "lower-step", "zero-grad")
    assert doubted(alone, trial(WIN, "lower-step")) == [(0, 1)]
    assert doubted(alone, trial(WIN, "lower-step"), both) == []
    assert doubted(alone, trial(WIN, "lower-step"), both, dropped=(2,)) == [(0, 1)]  # it was no better than without


def test_each_failure_halves_the_odds() -> None:
    assert lowered(0.9, 1) == round(4.5 / 5.5, 2)
    assert lowered(0.9, 2) == round(2.25 / 3.25, 2)
    assert lowered(0.9, 0) == 0.9
    assert 0 < lowered(1.0, 1) < 1


def test_the_verdict_bears_what_is_left_and_attaching_twice_lowers_it_once() -> None:
    told = Verdict("a.py", 9, Loss(), "diverging", [FIRST, SECOND], Budget(), Watch())
    trials = [trial(NO_WIN, "lower-step"), trial(WORSE, "clip-gradient")]
    replay = Replay(Outlook(9, 1.0, 1.0, None, "diverging"), trials, doubts=doubts(told.findings, trials))
    for _ in range(2):
        attach(told, replay)
        assert [f.confidence for f in told.findings] == [0.9, 0.5]
