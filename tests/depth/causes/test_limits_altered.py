"""A gradient that is changed between backward and the step: each limit from both sides, each finding and its line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gradientflow.depth.causes.altered import altered, ways
from gradientflow.depth.causes.case import Case
from gradientflow.records import Alteration, Finding, Passed, Run, Transit
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


# ── what is put in the place of the gradient, and hooks within the graph ─────────────────────────────────────────────


def drowned(cosine: float, losses: list[float] = RISING) -> list[str]:
    """Of a gradient of 2 one half arrives, within something that is so much longer that the angle is this."""
    there = Passed(0, 2.0, 1.0 / cosine, 0.5, cosine)
    return causes(altered, seen([Transit([there], [call("add_", 0.5)])] * 5, losses=losses))


def test_how_much_of_what_arrives_is_the_gradient() -> None:
    flips(drowned, 0.51, 0.49)
    flips(lambda progress: drowned(0.1, progressed(progress)), 0.121, 0.119)
    (found,) = altered(Case(seen([Transit([Passed(0, 2.0, 10.0, 0.5, 0.1)], [call("add_", 0.5)])] * 5, losses=RISING)))
    assert found.symptom == "diverging" and found.place is not None and found.place.line == 7
    assert "add_ (train.py:7) puts something else in" in found.summary and "cosine 0.1 to" in found.summary


def unscaled(left: float, name: str = "mul") -> list[Finding]:
    """A loss times 1024, a clip of what that sends, and a call that takes the factor away, but for so much."""
    calls = [call("clip_grad_norm_", 0.01, 8), call("div_", (1 + left) / 1024.0, 9)]
    run_ = seen([way(0.01 / 1024.0, *calls)] * 5)
    for probe in run_.probes:
        probe.ops[-1].name, probe.ops[-1].scalars = name, [1024.0 if name == "mul" else 1 / 1024.0]
    return found(run_)


@pytest.mark.parametrize("name", ["mul", "div"])
def test_a_scale_that_is_taken_away_by_hand_is_an_unscaling(name: str) -> None:
    def line(left: float) -> bool:
        place = only(unscaled(left, name)).place
        return place is not None and place.line == 8

    flips(line, 1.1e-3, 0.9e-3)
    assert "take the scale away before it" in only(unscaled(0.0, name)).summary
    assert (
        only(unscaled(0.0, name)).place != only(unscaled(0.0, "sub")).place
    )  # the control: a loss that nothing scaled


def hooked(factor: float, times: int = 5, losses: list[float] = RISING) -> list[str]:
    hook = Alteration("hook", "train.py", 26, 1, factor, None)
    plain = [way(1.0) for _ in range(5)]
    for transit in plain[:times]:
        transit.inner = [hook]
    return causes(altered, seen(plain, losses=losses))


def test_a_hook_within_the_graph_that_turns_or_takes_the_gradient() -> None:
    flips(hooked, 1.02e-3, 0.98e-3)
    flips(lambda times: hooked(-0.3, round(times)), 3, 4)
    assert hooked(-0.3, losses=progressed(0.9)) == []  # turned on purpose: the loss falls
    flips(lambda progress: hooked(-0.3, losses=progressed(progress)), 0.121, 0.119)
