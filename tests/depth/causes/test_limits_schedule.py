"""A learning rate that is zero, or goes there long before the end: each limit from both sides."""

from __future__ import annotations

from typing import Any

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.schedule import schedule_ended
from tests.depth.causes.by_hand import causes, flips, only, progressed
from tests.depth.causes.transits import seen


def found(
    rest: int = 60, length: int = 100, last: float = 0.0, losses: list[float] | None = None, **more: Any
) -> list[str]:
    """What is found of a schedule that rests for the last so many of its steps."""
    rates = [0.1] * (length - rest) + [last] * rest
    return causes(schedule_ended, seen([], losses=losses or [1.0] * length, lr=rates, **more))


def test_how_long_it_rests() -> None:
    flips(lambda rest: found(int(rest)), 39, 40)


def test_how_small_a_rate_is_at_rest() -> None:
    flips(lambda last: found(last=last), 1.02e-4, 0.98e-4)


def test_how_many_steps_it_takes() -> None:
    flips(lambda length: found(int(length * 0.6), int(length)), 19, 20)


def test_a_run_that_has_learnt_well_has_no_need_of_it() -> None:
    flips(lambda progress: found(losses=progressed(progress, 100)), 0.61, 0.59)


def test_a_gradient_that_died_needs_no_rate() -> None:
    flips(lambda left: found(grads=[1.0] * 50 + [left] * 50), 0.049, 0.051)


def test_what_is_told() -> None:
    run = seen([], losses=[1.0] * 100, lr=[0.1] * 40 + [0.0] * 60)
    run.meta.sources = {"train.py": "\nschedule = torch.optim.lr_scheduler.LinearLR(optimizer)\n"}
    f = only(schedule_ended(Case(run)))
    assert (f.symptom, f.cause) == ("crawling", "schedule-ended")
    assert "ends at step 40 of 100" in f.summary
    assert f.place is not None and (f.place.line, f.place.op) == (2, "LinearLR")


def test_a_rate_of_exactly_zero_is_a_number() -> None:
    run = seen([], losses=[1.0] * 30, lr=0.0)
    f = only(schedule_ended(Case(run)))
    assert (f.symptom, f.cause) == ("crawling", "step-too-small")
    assert "exactly 0 at each of 30 steps" in f.summary
    assert f.place is not None and f.place.line == 5


def test_nothing_is_told_of_a_rate_that_stays_or_is_not_known() -> None:
    assert found(0) == []
    assert causes(schedule_ended, seen([], losses=[1.0] * 100, lr=None)) == []


def test_a_rate_that_goes_on_falling_has_not_ended_but_is_too_small() -> None:
    def told(rates: list[float]) -> str:
        return only(schedule_ended(Case(seen([], losses=[1.0] * 100, lr=rates)))).cause

    assert told([0.1 * 0.7**k for k in range(100)]) == "step-too-small"
    assert told([0.1 * 0.3 ** (k // 10) for k in range(100)]) == "step-too-small"  # in stairs
    assert told([0.1 * max(1 - k / 50, 0.0) for k in range(100)]) == "schedule-ended"  # a line down to 0
    assert told([max(0.1 * 0.7**k, 1e-6) for k in range(100)]) == "schedule-ended"  # a floor
