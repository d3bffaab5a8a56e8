"""Is a difference of losses one? The interval must hold its promise, on noise as on a true difference."""

import math
import random

import pytest

from gradientflow.depth.replay.stats import compare, t_value


def noise(seed: int, count: int, level: float = 1.0, spread: float = 0.3) -> list[float]:
    draw = random.Random(seed)
    return [level + draw.gauss(0.0, spread) for _ in range(count)]


def test_a_lower_loss_is_found_lower_and_by_how_much() -> None:
    base = noise(1, 80)
    found = compare([base], [[0.5 * x for x in base]])
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((-1 / 3,) * 3)


def test_a_loss_that_runs_away_is_beaten_at_every_step_not_only_at_the_last() -> None:
    """The difference of two losses one of which grows tenfold a step is that of its last step, and says nothing sure."""
    found = compare([[10.0**k for k in range(40)]], [[0.5] * 40])
    assert found is not None and found.high < -0.5


def test_negative_losses_have_a_difference_too() -> None:
    found = compare([[-1.0 - 0.01 * k for k in range(40)]], [[-2.0] * 40])
    assert found is not None and found.high < 0 < compare([[-2.0] * 40], [[-1.0] * 40]).low


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_interval_covers_nought_in_nineteen_of_twenty_draws_of_noise(seeds: int) -> None:
    covered = 0
    for k in range(1000):
        base = [noise(1000 * k + s, 40) for s in range(seeds)]
        other = [noise(1000 * k + 500 + s, 40) for s in range(seeds)]
        found = compare(base, other)
        assert found is not None
        covered += found.low <= 0.0 <= found.high
    assert 0.92 < covered / 1000 < 0.98


def test_a_true_difference_is_not_covered() -> None:  # the negative control of the coverage above
    covered = 0
    for k in range(200):
        found = compare([noise(7 * k, 40)], [noise(7 * k + 3, 40, level=0.5)])
        assert found is not None
        covered += found.low <= 0.0 <= found.high
    assert covered / 200 < 0.2


def test_neighbours_that_are_alike_do_not_make_it_sure() -> None:
    """A slow random walk: taken as independent, its steps would promise far too narrow an interval."""
    draw = random.Random(5)
    wide = 0
    for _ in range(100):
        walk, level = [], 0.0
        for _ in range(160):
            level = 0.95 * level + draw.gauss(0.0, 1.0)
            walk.append(level)
        found = compare([[100.0] * 160], [[100.0 + x for x in walk]])
        assert found is not None
        naive = 1.96 * math.sqrt(sum(x * x for x in walk)) / 160 / 200
        wide += found.high - found.low > 2 * 2 * naive
    assert wide > 60


def test_what_is_not_finite_is_no_difference() -> None:
    assert compare([[1.0, 2.0]], [[1.0, math.nan]]) is None
    assert compare([[1.0, math.inf]], [[1.0, 2.0]]) is None
    assert compare([[]], [[]]) is None


def test_one_pair_says_nothing_sure() -> None:
    found = compare([[1.0]], [[0.5]])
    assert found is not None and found.low == -1.0 and found.high == 1.0


def test_students_t() -> None:
    from scipy import stats

    for freedom in (1, 2, 7, 30):
        assert t_value(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)
    assert t_value(1000) == pytest.approx(1.96, abs=0.01)
