"""The limits of the watcher: when it probes, what that may cost, and what is too much. Each from both sides.

Of `gradientflow.depth.watch.allowance` and `gradientflow.depth.probe.recurrent` too.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gradientflow.depth.probe.trace import Trace
from gradientflow.depth.watch import overtime, sharp
from gradientflow.depth.watch.allowance import OVER_TIME, PROBES, SHARE_OF_EXTRAS, SHARE_OF_PROBES, SHARPNESS, allowed
from gradientflow.depth.watch.cheap import direction_wanted
from gradientflow.depth.watch.isometry import IsometryMeter
from gradientflow.depth.watch.noise import NoiseMeter
from gradientflow.depth.watch.overtime import OverTime
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.sharp import SharpnessMeter
from gradientflow.records import Step
from tests.depth.causes.by_hand import flips

# ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def step(n: int, loss: float = 1.0, grad: float = 1.0) -> Step:
    return Step(n, 0.0, 0, 0.1, loss, grad, 1.0, 0.1)


def trouble(losses: list[float], grads: list[float] | None = None) -> str | None:
    """What the last of some steps shows."""
    schedule, found = Schedule(), None
    for n, (loss, grad) in enumerate(zip(losses, grads or [1.0] * len(losses), strict=True), 1):
        found = schedule.saw(step(n, loss, grad))
    return found


def test_a_loss_that_jumped() -> None:
    flips(lambda rise: trouble([1.0] * 9 + [1.0 + rise]), 0.49, 0.51)


def test_a_loss_that_always_changes_jumped() -> None:
    flips(lambda times: trouble([0.01, -0.01] * 5 + [times * 0.02]), 5.9, 6.1)  # (the median is 0, a usual change 0.02)


def test_a_gradient_that_jumped() -> None:
    flips(lambda times: trouble([1.0] * 10, [1.0] * 9 + [times]), 19.8, 20.2)


def test_gradients_that_have_a_usual_norm() -> None:
    flips(lambda before: trouble([1.0] * int(before + 1), [1.0] * int(before) + [100.0]), 2, 3)


def test_one_kind_of_trouble_is_looked_at_ever_more_rarely() -> None:
    """Its first two alarms may follow each other at once; after the third there are 2³ steps of quiet."""
    schedule = Schedule()
    asked = []
    for n in range(1, 15):
        schedule.saw(step(n, float("nan")))
        reason = schedule.due(n + 1, 1e9, 0.0)
        asked += [n] if reason is not None and reason.startswith("trouble") else []
    assert asked == [1, 2, 3, 11]


def test_trouble_beyond_the_cap_is_looked_at_twice() -> None:
    schedule = Schedule()
    asked = []
    for n in range(1, 15):
        schedule.saw(step(n, float("nan")))
        asked += [n] if schedule.due(n + 1, 1.0, 1e9) is not None else []
    assert asked == [1, 2]


# ── what it may cost ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("elapsed", "limit"), [(10.0, 1.0), (100.0, 5.0)])
def test_probes_wait_where_they_cost_too_much(elapsed: float, limit: float) -> None:
    def waits(spent: float) -> bool:
        schedule = Schedule()
        schedule.due(1, elapsed, 0.0)
        return schedule.due(2, elapsed, spent) is None

    flips(waits, 0.99 * limit, 1.01 * limit)


def test_what_the_extras_may_take() -> None:
    for floor, seconds in ((SHARPNESS, 0.6), (OVER_TIME, 0.8)):
        assert allowed(floor, SHARE_OF_EXTRAS, 1.0) == seconds
        assert allowed(floor, SHARE_OF_EXTRAS, 100.0) == 2.0
    assert (allowed(PROBES, SHARE_OF_PROBES, 1.0), allowed(PROBES, SHARE_OF_PROBES, 100.0)) == (1.0, 5.0)


class Reached(Exception):
    """The measurement has begun."""


def test_a_later_jacobian_waits_until_the_run_is_long_enough() -> None:
    def begun(at: float) -> bool:
        meter = IsometryMeter()
        meter._last, meter._spent = 2.0, 3.0  # the next one takes as long as the last: five seconds together

        class Backward:
            @property
            def trace(self) -> Any:
                raise Reached

        try:
            meter.measure([], Backward(), SimpleNamespace(at=at))  # type: ignore[arg-type]
        except Reached:
            return True
        return False

    flips(begun, 99, 101)


def again(steps: int, affordable: float) -> tuple[str, bool]:
    """How a recurrence of so many steps is run again: whole, its last part, or not at all; and whether that was told."""
    meter = OverTime(SimpleNamespace(), lambda f, *a: f(*a))  # type: ignore[arg-type]
    meter._per_cell = 1.0
    shortened: list[int] = []

    def shorten(to: int) -> bool:
        shortened.append(to)
        return True

    call = SimpleNamespace(layers=1, directions=1, steps=steps, cell="gru", shorten=shorten)
    found = meter._again(call, affordable)  # type: ignore[arg-type]
    return ("part" if shortened else "whole" if found == [] else "not at all"), isinstance(found, str)


def test_cells_that_are_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtime, "measure", lambda call: [])
    flips(lambda steps: again(int(steps), 1e9)[0] == "part", 4000, 4001)


def test_a_last_part_that_is_worth_its_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtime, "measure", lambda call: [])
    assert again(100, 31.0) == ("not at all", True)
    assert again(100, 32.0) == ("part", False)


def test_hessian_products_that_there_must_be_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharp, "Effort", lambda: SimpleNamespace(seconds=1.0))  # one product takes 2.5 seconds, then

    def measured(products: float) -> bool:
        w = nn.Parameter(torch.tensor([1.0, 2.0]))
        return SharpnessMeter().measure((w**4).sum(), [w], Trace(), 2.5 * products + 0.01) is not None

    flips(measured, 3, 4)


def test_parameters_of_which_no_sharpness_is_measured() -> None:
    def refused(entries: float) -> str | None:
        w = torch.ones(1, requires_grad=True)
        many = w.expand(int(entries))
        return SharpnessMeter._refuse((w * w).sum(), [many], Trace())

    flips(refused, 20_000_000, 20_000_001)
    assert refused(1e9) == "more than 20,000,000 parameters"


# ── gradients, step by step ──────────────────────────────────────────────────────────────────────────────────────────


def test_gradients_that_tell_of_noise() -> None:
    def told(steps: float) -> object:
        meter, p = NoiseMeter(), nn.Parameter(torch.ones(3))
        for k in range(int(steps)):
            p.grad = torch.ones(3) * (1 + k % 2)
            meter.see([p])
        return meter.estimate(8)

    flips(told, 3, 4)


def test_steps_whose_direction_is_measured() -> None:
    assert [n for n in range(1, 121) if direction_wanted(n)] == [*range(1, 11), 50, 100]
