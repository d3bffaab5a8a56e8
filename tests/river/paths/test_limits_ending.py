"""Where an end begins to be called by its name: each limit from both sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.arrival import FIRST, Arrival
from gradientflow.river.paths.ending import diagnose, runs_away, steepness

D = torch.float64


def end(trail: list[tuple[float, float, float]], size: float = 1.0, speed: float = 1.0, **more: Any) -> str:
    """The reason that is given for a drop that is stuck in a field of constant rate."""
    rate = torch.full((1, 1), speed, dtype=D)
    flow: Any = SimpleNamespace(
        t=torch.ones(1), theta=torch.full((1, 1), size, dtype=D), here=Evaluation(rate, None), fixed=None, trail=trail,
        meter=lambda theta: Evaluation(rate.expand_as(theta), None), repeats=[0], h=torch.ones(1), rtol=1e-3, atol=1e-6,
        first_speed=1.0, loss=lambda: None,
    )  # fmt: skip
    vars(flow).update(more)
    return diagnose(flow, 0).reason


def running(size: float, speed: float) -> str:
    steps = [k / 4 for k in range(5)]
    return end([(s, size**s, speed**s) for s in steps])


def test_speed_over_speed_before():
    assert running(2.0, 2.9) == "stuck" and running(2.0, 3.1) == "blow-up"


def test_size_over_size_before():
    assert running(1.45, 9.0) == "stuck" and running(1.55, 9.0) == "blow-up"


def test_size_of_many():
    assert end([], 0.99e6, 1e13) == "stuck" and end([], 1.01e6, 1e13) == "blow-up"


def test_speed_of_many():
    assert end([], 1e7, 0.99e12) == "stuck" and end([], 1e7, 1.01e12) == "blow-up"


def test_speed_over_first_where_size_stays():
    def at_a_point(speed: float, size: float = 1.0) -> str:
        return end([(k / 4, size ** (k / 4), (speed / 10) * 10 ** (k / 4)) for k in range(5)], speed=speed)

    assert at_a_point(0.99e4) == "stuck" and at_a_point(1.01e4) == "not-lipschitz"
    assert at_a_point(1.01e4, size=2.0) == "blow-up"  # it runs away: another end


def test_rejections():
    def meter(theta: Tensor) -> Evaluation:  # not finite beyond 2
        return Evaluation(torch.where(theta > 2.0, math.nan, 1.0).to(D), None)

    trail = [(0.0, 1.0, 1.0)]
    assert end(trail, meter=meter, repeats=[9]) == "stuck" and end(trail, meter=meter, repeats=[10]) == "not-finite"


def rough(quotient: Callable[[float], float]) -> str | None:
    """What is said of a field whose Lipschitz quotient over a distance is given."""

    def meter(theta: Tensor) -> Evaluation:
        way = float(theta.norm())
        return Evaluation(torch.full((1, 1), quotient(way) * way, dtype=D), None)

    return steepness(meter, torch.zeros(1, 1, dtype=D), torch.zeros(1, 1, dtype=D))  # type: ignore[arg-type]


def test_quotient_over_quotient_farther_off():
    def growing(ratio: float) -> str | None:
        return rough(lambda way: 20.0 if way > 1e-4 else 20.0 * ratio)

    assert growing(99.0) is None and "more than 100-fold" in (growing(101.0) or "")


def test_quotient_times_size():
    def growing(to: float) -> str | None:
        return rough(lambda way: 1.0 if way > 1e-4 else to)

    assert growing(990.0) is None and growing(1010.0) is not None


def test_a_path_that_runs_to_infinity():
    def far(speed: float = 2.0, size: float = 2.0, step: float = 0.5) -> bool:
        return runs_away((1.0, 1.0), (1.0, size * 2e3, speed * 1e8), step * 1e-6)

    assert far()
    assert not far(speed=0.99) and far(speed=1.01)
    assert not far(size=0.99) and far(size=1.01)
    assert not far(step=1.01) and far(step=0.99)


def test_seconds_to_arrive():
    def told(years: float) -> str | None:
        motion: Any = SimpleNamespace(t=torch.ones(1, dtype=D), live=torch.ones(1, dtype=torch.bool), t_end=2.0 + years)
        arrival = Arrival()
        said = [arrival.never(motion, 1.0) for _ in range(FIRST)]
        motion.t = 2 * motion.t
        said += [arrival.never(motion, 2.0) for _ in range(FIRST)]
        assert said[:-1] == [None] * (2 * FIRST - 1)
        return None if said[-1] is None else said[-1].text

    assert told(0.99e9) is None
    assert "after 128 steps, the rest would take about 32 years" in (told(1.01e9) or "")
