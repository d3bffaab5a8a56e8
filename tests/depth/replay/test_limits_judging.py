"""The limits of what counts as a win, each from both sides."""

from __future__ import annotations

from gradientflow.depth.replay import judging
from gradientflow.depth.replay.judging import Measured, clearly_better, outcome_of
from gradientflow.depth.replay.stats import Difference
from gradientflow.records import NO_WIN, WIN, Change, Finding, Outlook, Trial
from tests.depth.causes.by_hand import flips


def around(difference: float) -> Difference:
    return Difference(difference, 1.1 * difference, 0.9 * difference)


def judged(difference: float, *, regained: float = 0.0, fall: float = -0.5) -> tuple[str, str]:
    finding = Finding("vanishing", "depth", 0.9, None, "The gradient vanishes.", {}, [])
    base = Outlook(100, 2.0, 1.0, -3.0, "vanishing", "depth")
    after = Outlook(100, 2.0, 1.0, -3.0 + regained, "vanishing", "depth")
    trial = Trial([Change("add-skip", "skips")], 0, "", "", 1, after)
    return outcome_of(trial, finding, base, Measured(around(difference), around(fall)))


def test_a_difference_worth_the_name() -> None:
    flips(lambda size: clearly_better(Difference(-size, -1.1 * size, -0.9 * size)), 0.0098, 0.0102)
    assert judged(-0.0098)[0] == NO_WIN
    assert judged(-0.0102)[0] == WIN


def test_a_fall_worth_the_name() -> None:
    flips(lambda size: judged(-0.5, fall=-size)[0] == WIN, 0.0098, 0.0102)


def test_a_sure_difference_that_is_too_small_is_told_with_the_limit() -> None:
    assert f"lower, but by less than {2 * judging.NOTEWORTHY:.0%}" in judged(-0.0098)[1]
    assert "no clear difference" in judged(0.0)[1]  # control: what is not sure is not called lower


def test_decades_regained() -> None:
    flips(lambda decades: "regained" in judged(0.0, regained=decades)[1], 0.29, 0.31)
