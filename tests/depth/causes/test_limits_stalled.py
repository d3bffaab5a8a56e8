"""A run that does not learn and of which no rule says why: each limit from both sides, and certificates of descent."""

from __future__ import annotations

import math

import pytest

from gradientflow.depth.causes import judge
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.descent import descent
from gradientflow.depth.causes.stalled import fall, learns_nothing, stalled
from gradientflow.records import Certificate
from tests.depth.causes.by_hand import flips
from tests.depth.causes.transits import seen


def noisy(start: float, end: float, length: int = 60, noise: float = 0.01) -> list[float]:
    """Losses that fall evenly, with a noise that goes up and down."""
    return [start + (end - start) * k / (length - 1) + noise * (-1) ** k for k in range(length)]


def fell(times: float) -> list[float]:
    """Losses whose first and last fifth lie so many standard errors apart."""
    error = math.sqrt(2 * 0.01**2 * (12 / 11) / 12)
    return [(1.0 if k < 30 else 1.0 - times * error) + 0.01 * (-1) ** k for k in range(60)]


def told(losses: list[float]) -> bool:
    return stalled(Case(seen([], losses=losses)), []) is not None


def test_how_many_losses_it_takes() -> None:
    flips(lambda n: told(noisy(1.0, 1.0, int(n))), 39, 40)


def test_a_fall_beyond_chance() -> None:
    assert fall(Case(seen([], losses=fell(3.0))).main) == pytest.approx(3.0, rel=1e-3)
    flips(lambda times: not told(fell(times)), 2.97, 3.03)


def test_how_little_progress_is_none() -> None:
    """Under noise as large as the fall, so that chance may do it."""

    def rough(progress: float) -> list[float]:
        end = (1 - progress) / (1 + progress)
        return [(1.0 if k < 30 else end) + (0.3 if k in (8, 50) else 0.0) for k in range(60)]

    assert all((fall(Case(seen([], losses=rough(p))).main) or 0) < 3.0 for p in (0.019, 0.021))
    flips(lambda progress: not told(rough(progress)), 0.019, 0.021)


def test_the_stretch_at_either_end() -> None:
    """The fifth loss behind the first stretch counts for nothing: of 60 losses it is the first 12."""
    high = [9.0] * 12 + [1.0] * 48
    higher = [9.0] * 10 + [1.0] * 50
    assert fall(Case(seen([], losses=high)).main) == math.inf
    assert fall(Case(seen([], losses=higher)).main) != math.inf
    beyond = [1.0] * 12 + [9.0] * 36 + [1.0] * 12
    assert fall(Case(seen([], losses=beyond)).main) == 0.0


@pytest.mark.parametrize("losses", [[0.1 * (-1) ** k for k in range(60)], [1.0] * 5])
def test_losses_around_zero_and_few_ones_tell_nothing(losses: list[float]) -> None:
    assert learns_nothing(Case(seen([], losses=losses))) is None


def test_optimizers_that_play_together_tell_nothing() -> None:
    assert learns_nothing(Case(seen([], losses=[1.0] * 60, optimizers=2))) is None


def test_what_is_told() -> None:
    f = stalled(
        Case(seen([], losses=[1.0] * 60)), [Certificate("finite", "held", ""), Certificate("step", "not-measured", "")]
    )
    assert f is not None
    assert (f.symptom, f.cause, f.remedies) == ("stalled", "unexplained", [])
    assert "Ruled out: finite. Not looked at: step, labels, order of the data." in f.summary


def test_a_run_without_a_fault_that_does_not_learn_is_not_healthy() -> None:
    verdict = judge(seen([], losses=noisy(1.0, 1.0), updates=1e-2))
    assert verdict.symptom == "stalled"
    assert {c.name: c.state for c in verdict.certificates}["descent"] == "broken"
    learns = judge(seen([], losses=noisy(1.0, 0.1), updates=1e-2))
    assert learns.symptom == "healthy"
    assert {c.name: c.state for c in learns.certificates}["descent"] == "held"


# ── the certificate ──────────────────────────────────────────────────────────────────────────────────────────────────


def state(losses: list[float], **more: int) -> str:
    return descent(Case(seen([], losses=losses, **more)), []).state  # type: ignore[arg-type]


def test_descent() -> None:
    assert state(noisy(1.0, 0.1)) == "held"
    assert state(noisy(1.0, 1.0)) == "broken"
    assert state(noisy(1.0, 0.1, 20)) == "not-measured"
    assert state([1.0, 1.0]) == "not-measured"
    assert state(noisy(1.0, 0.1), optimizers=2) == "not-measured"


def test_a_fall_that_chance_may_do_is_not_measured() -> None:
    rough = [(1.0 if k < 30 else 0.9) + (0.9 if k in (8, 50) else 0.0) for k in range(60)]
    assert state(rough) == "not-measured"
