"""Trials held against the baseline, against their own start and against each other: losses by hand, no script is run."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gradientflow.depth.replay.bench import Bench
from gradientflow.depth.replay.trial import Attempt, outlook
from gradientflow.depth.replay.unit import same_course, unit
from gradientflow.records import NO_WIN, WIN, WORSE, Budget, Change, Finding, Loss, Meta, Place, Run, Verdict, Watch
from tests.depth.causes.by_hand import run as by_hand

FINDING = Finding("vanishing", "depth", 0.9, None, "", {}, [])
SIGN = Finding("diverging", "wrong-sign", 0.9, None, "", {}, [])


def verdict(*findings: Finding) -> Verdict:
    return Verdict(
        "a.py", 100, Loss(), findings[0].symptom if findings else "healthy", list(findings), Budget(), Watch()
    )


def run(curve: Callable[[int], float], *findings: Finding, noise: float = 0.05, seed: int = 0) -> Attempt:
    """A run of 100 steps; the noise of a step is that of its batch, the same in every run of one seed."""
    draw = random.Random(seed)
    losses = {k: curve(k) * (1 + draw.gauss(0, noise)) for k in range(100)}
    told = verdict(*findings)
    seen = outlook(Run(Meta("a.py", [], "", "", "", "")), told, losses)
    return Attempt([], seed, Path("x"), None, told, None, losses, seen)


def outcome(base: Attempt, other: Attempt, *findings: Finding) -> str:
    bench = Bench(verdict(*(findings or (FINDING,))), base)
    return bench.judged(0, [Change("add-skip", "skips")], [other]).outcome


def flat(level: float) -> Callable[[int], float]:
    return lambda k: level


def falls(to: float, start: float = 2.0) -> Callable[[int], float]:
    return lambda k: to + (start - to) * math.exp(-k / 15)


def test_a_baseline_that_stands_still_and_a_trial_that_does_too() -> None:
    """The symptom is gone and that is all: no win. Control: it is one where the loss falls as well."""
    still = run(flat(2.0), FINDING)
    assert outcome(still, run(flat(2.0))) == NO_WIN
    assert outcome(still, run(falls(1.0))) == WIN


def test_a_trial_that_begins_lower_and_learns_nothing_is_no_win() -> None:
    """Other initial weights may be a better guess: a start is not a course."""
    assert outcome(run(flat(2.0), FINDING), run(flat(1.5))) == NO_WIN
    assert outcome(run(flat(2.0), FINDING), run(falls(1.5, start=1.7))) == WIN


def test_slower_ascent_is_no_mend_of_ascent() -> None:
    rises = run(lambda k: 2.0 + 0.1 * k, FINDING)
    assert outcome(rises, run(lambda k: 2.0 + 0.01 * k)) == NO_WIN
    assert outcome(rises, run(flat(2.0))) == NO_WIN
    assert outcome(rises, run(falls(1.0))) == WIN
    assert outcome(rises, run(lambda k: 2.0 + 0.2 * k)) == WORSE


def test_a_fall_within_a_few_steps_is_seen_by_the_very_first_loss() -> None:
    """Of a run that has learned after three steps, a stretch of twenty has little left of the start."""
    assert outcome(run(flat(2.0), FINDING), run(lambda k: 50.0 if k == 0 else 1.0)) == WIN


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_no_fall(seed: int) -> None:
    still = run(flat(2.0), FINDING, noise=0.3, seed=seed)
    assert outcome(still, run(flat(1.0), noise=0.3, seed=seed)) == NO_WIN


def test_a_baseline_without_finite_values_is_not_beaten_by_one_that_only_stays_finite() -> None:
    lost = run(lambda k: 2.0 if k < 50 else math.nan, FINDING)
    assert outcome(lost, run(flat(2.0))) == NO_WIN
    assert outcome(lost, run(lambda k: 2.0 + 0.01 * k)) == NO_WIN
    assert outcome(lost, run(falls(1.0))) == WIN


def test_a_loss_that_falls_because_of_its_sign_is_judged_by_its_negative_in_every_trial() -> None:
    """−10⁶ is not better than −2: neither a larger step nor a smaller one mends a sign."""
    bottomless = run(lambda k: -2.0 * 1.1**k, SIGN)
    mended = run(lambda k: -falls(0.5)(k))
    faster, slower = run(lambda k: -2.0 * 1.2**k, SIGN), run(lambda k: -2.0 * 1.01**k, SIGN)
    assert [outcome(bottomless, x, SIGN) for x in (mended, faster, slower)] == [WIN, WORSE, NO_WIN]
    assert outcome(bottomless, faster, FINDING) == WIN  # control: without that finding a fall is a fall


def test_a_loss_that_rises_because_of_its_sign_is_judged_as_it_is() -> None:
    rises = run(lambda k: 2.0 * 1.05**k, SIGN)
    assert outcome(rises, run(falls(0.5)), SIGN) == WIN
    assert outcome(rises, run(lambda k: 2.0 * 1.01**k), SIGN) == NO_WIN


PENALTY = Change("lower-regularisation", "a hundredth", [Place("a.py", 3, None, "pow")], {"factor": 0.01})


def test_a_smaller_penalty_by_itself_is_no_lower_loss() -> None:
    """The fit falls from 2 to 1 with it as without it, and the penalty of 3 is a hundredth of what it was."""
    base, told = run(lambda k: falls(1.0)(k) + 3.0, FINDING), run(lambda k: falls(1.0)(k) + 0.03, FINDING)
    bench = Bench(verdict(FINDING), base)
    taken, better = run(lambda k: falls(1.0)(k) + 0.03), run(lambda k: falls(0.5)(k) + 0.03)
    for one in (told, taken, better):
        one.changes = [PENALTY]
    assert bench.judged(0, [PENALTY], [better]).outcome == NO_WIN  # nothing to hold it against
    bench.baselines[unit([PENALTY])] = [told]
    assert [bench.judged(0, [PENALTY], [x]).outcome for x in (taken, better)] == [NO_WIN, WIN]
    assert bench.judged(0, [PENALTY], [better]).before == pytest.approx(1.03, abs=0.05)
    weaker = Change("lower-regularisation", "weight decay", [], {"factor": 0.01})
    assert bench.judged(0, [weaker], [run(falls(1.0))]).outcome == WIN  # control: the loss is the script's own
    assert not bench.lower([taken], [base]) and bench.lower([better], [told])
    told.failure = "did not take the same steps"
    assert "cannot be told in the same unit" in bench.judged(0, [PENALTY], [better]).reason


def test_the_same_course_is_the_same_to_the_bit() -> None:
    one, other = by_hand(losses=[1.0] * 9), by_hand(losses=[2.0] * 9)
    assert same_course(one, other)
    other.steps[4].update = 1.0 + 2**-52
    assert not same_course(one, other)
    other.steps[4].update = one.steps[4].update = math.nan
    assert same_course(one, other)
    assert not same_course(one, None)


def ranked(*attempts: Attempt, changes: tuple[int, ...] = ()) -> list[int]:
    bench = Bench(verdict(FINDING), run(flat(2.0), FINDING))
    several = changes or (1,) * len(attempts)
    trials = [bench.judged(0, [Change("add-skip", "")] * n, [a]) for a, n in zip(attempts, several, strict=True)]
    return bench.ranked(trials, [[a] for a in attempts])


def test_the_best_has_the_lowest_loss_whatever_became_of_the_symptom() -> None:
    assert ranked(run(falls(1.2)), run(falls(0.5), FINDING)) == [1, 0]
    assert ranked(run(falls(0.5), FINDING), run(falls(1.2))) == [0, 1]


def test_between_equal_losses_the_symptom_decides_then_the_fewer_changes() -> None:
    assert ranked(run(falls(0.500), FINDING), run(falls(0.502))) == [1, 0]
    assert ranked(run(falls(0.500)), run(falls(0.502)), changes=(2, 1)) == [1, 0]
    assert ranked(run(falls(0.500)), run(falls(0.502)), changes=(1, 1)) == [0, 1]


def test_a_win_comes_before_what_is_none() -> None:
    assert ranked(run(flat(0.4)), run(falls(0.5)), run(lambda k: math.nan)) == [1, 0, 2]
