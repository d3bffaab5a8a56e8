"""A gradient that is changed between backward and the step: each limit from both sides, each finding and its line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gradientflow.depth.causes.altered import altered, ways
from gradientflow.depth.causes.case import Case
from gradientflow.records import Finding, Run, Transit
from tests.depth.causes.by_hand import causes, flips, only, progressed, zigzag
from tests.depth.causes.transits import call, passed, seen, way

RISING = [1.0] * 5 + [1.0 + 0.1 * k for k in range(55)]


def found(run: Run) -> list[Finding]:
    return altered(Case(run))


def of(factor: float | None, name: str = "clip_grad_norm_", **more: Any) -> list[Finding]:
    """What is found of five steps on which one call multiplies the gradient by this."""
    return found(seen([way(factor, call(name, factor))] * 5, **more))


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_how_often_a_gradient_is_taken() -> None:
    flips(lambda zeros: causes(altered, seen([way(0.0)] * int(zeros) + [way(1.0)] * (10 - int(zeros)))), 7, 8)
    flips(lambda zeros: causes(altered, seen([way(0.0)] * int(zeros) + [way(1.0)] * (100 - int(zeros)))), 79, 80)


def test_how_small_what_is_left_has_to_be() -> None:
    flips(lambda left: of(left), 1.02e-3, 0.98e-3)


def test_a_small_gradient_that_learns_is_none_of_it() -> None:
    flips(lambda progress: of(1e-4, losses=progressed(progress)), 0.121, 0.119)


def test_how_large_it_has_to_become() -> None:
    flips(lambda times: of(times), 29.5, 30.5)


def test_a_large_gradient_that_learns_well_is_none_of_it() -> None:
    flips(lambda progress: of(100.0, losses=progressed(progress)), 0.61, 0.59)


def test_what_a_large_gradient_does_to_the_loss() -> None:
    def symptom(top: float) -> str:
        return only(of(100.0, losses=[1.0] * 30 + [top] + [1.0] * 29)).symptom

    assert symptom(2.9) == "oscillating"
    assert symptom(3.1) == "diverging"
    assert only(of(100.0, losses=[1.0] * 30 + [math.nan])).symptom == "not-finite"


def test_a_turned_gradient_is_told_where_the_loss_rises_beyond_its_spread() -> None:
    def losses(times: float) -> list[float]:
        return [*zigzag(1.0, 30), *zigzag(1.0, 30, level=1.0 + 0.01 * times)]

    flips(lambda times: of(-1.0, losses=losses(times)), 2.0, 5.0)
    assert only(of(-1.0, losses=[1.0] * 30 + [math.nan])).symptom == "diverging"


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_told_of_a_gradient_that_arrives() -> None:
    assert found(seen([way()] * 5)) == []
    assert of(0.05) == []  # a clip that works
    assert of(1.0) == []
    assert found(seen([])) == []


def test_a_gradient_that_is_taken_is_disconnected_at_its_line() -> None:
    f = only(of(0.0))
    assert (f.symptom, f.cause) == ("disconnected", "gradient-altered")
    assert f.place is not None
    assert (f.place.file, f.place.line, f.place.op) == ("train.py", 7, "clip_grad_norm_")
    assert "clip_grad_norm_ (train.py:7)" in f.summary
    assert [r.kind for r in f.remedies] == ["keep-gradient"]
    assert (f.evidence["delivered"], f.evidence["arrived"], f.evidence["factor"]) == (2.0, 0.0, 0.0)


def test_a_turned_gradient_is_diverging() -> None:
    f = only(of(-1.0, "mul_", losses=RISING))
    assert (f.symptom, f.place.line if f.place else None) == ("diverging", 7)


def test_of_several_calls_the_one_that_explains_it_is_named() -> None:
    calls = [call("clip_grad_norm_", 0.5, 3), call("mul_", 1e-4, 5), call("clip_grad_value_", 0.9, 7)]
    f = only(found(seen([way(4.5e-5, *calls)] * 5)))
    assert f.place is not None and f.place.line == 5


def test_what_no_call_shows_is_told_at_the_optimizer() -> None:
    f = only(found(seen([way(0.0)] * 5)))
    assert f.place is not None and f.place.line == 5  # where it was made
    assert "no call of PyTorch's shows" in f.summary


def test_what_unscaling_takes_is_no_loss() -> None:
    scaled = way(1 / 65536, call("unscale_", 1 / 65536))
    assert found(seen([scaled] * 5)) == []
    assert Case(seen([scaled])) and ways(Case(seen([scaled])), Case(seen([scaled])).main)[0].factor == 1.0


def test_the_unscaling_of_another_optimizer_is_not_counted() -> None:
    """Two optimizers behind one scaler: each gradient is unscaled once."""
    both = way(1 / 65536, call("unscale_", 1 / 65536), call("unscale_", 1 / 65536, params=(8, 9)))
    assert found(seen([both] * 5)) == []
    elsewhere = way(1.0, call("clip_grad_norm_", 0.0, params=(8,)))
    assert found(seen([elsewhere] * 5)) == []


def test_a_clip_before_the_unscaling_is_told_as_one() -> None:
    calls = [call("clip_grad_norm_", 1e-5, 7), call("unscale_", 1 / 1024, 8)]
    f = only(found(seen([way(1e-5 / 1024, *calls)] * 5)))
    assert "call `scaler.unscale_(optimizer)` before it" in f.summary
    assert "scaler.unscale_" not in only(of(1e-5)).summary


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hook_that_silences_every_parameter() -> None:
    silent = Transit([passed(None, 0.0, sent=2.0, inside=0.0)], [call("hook", 0.0, 4)])
    f = only(found(seen([silent] * 5)))
    assert f.symptom == "disconnected"
    assert "a hook (train.py:4)" in f.summary
    assert f.place is not None and f.place.line == 4


def test_a_hook_that_silences_one_of_two_is_no_loss_of_the_gradient() -> None:
    """Rows of an embedding that are held fast, say."""
    half = Transit([passed(None, 0.0, sent=2.0, inside=0.0), passed(1.0, param=1)], [call("hook", 0.0, 4)])
    assert found(seen([half] * 5)) == []
    (w,) = ways(Case(seen([half])), Case(seen([half])).main)
    assert w.factor == pytest.approx(0.5)
    assert w.delivered == pytest.approx(math.sqrt(8.0))


def test_a_hook_and_a_call_multiply() -> None:
    both = Transit([passed(-0.5, 1.0, sent=2.0, inside=0.5)], [call("hook", 0.5), call("mul_", -0.5)])
    (w,) = ways(Case(seen([both])), Case(seen([both])).main)
    assert w.factor == pytest.approx(-0.25)


def test_gradients_too_large_to_square() -> None:
    (w,) = ways(Case(seen([way(1.0, delivered=1e200)])), Case(seen([way(1.0)])).main)
    assert w.factor == pytest.approx(1.0)


def test_steps_that_are_not_finite_or_bring_nothing_are_not_looked_at() -> None:
    for transit in (way(None, delivered=0.0), way(None, delivered=math.inf), Transit()):
        assert ways(Case(seen([transit])), Case(seen([transit])).main) == []
