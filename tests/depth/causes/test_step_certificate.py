"""The certificate of the step names groups with an option that keeps them where they are, or can hardly be meant."""

from __future__ import annotations

from typing import Any

import pytest

from gradientflow.depth.causes import lost, schedule, steps
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.step import step
from gradientflow.records import GroupStep, Stage, Transit
from tests.depth.causes.by_hand import Chain, causes, flips, linear, only, run, tail


def seen(*options: dict[str, Any]) -> Case:
    """A run whose optimizer has groups with these options; the last of them moves."""
    found = run(Chain([linear(), *tail()]))
    stages = [Stage("gradient", 1.0), Stage("rounding", 0.1)]
    groups = [GroupStep(k, [0], 64, o, stages, unexplained=0.0) for k, o in enumerate(options)]
    for probe in found.probes:
        probe.transit = Transit(groups=groups)
    return Case(found)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"lr": 0.0}, "group 0 (train.py:5), of 64 weights, has a learning rate of 0"),
        ({"lr": 0.1, "momentum": 0.9, "dampening": 1.0}, "group 0 (train.py:5), of 64 weights, has a dampening of 1"),
        ({"lr": 0.1, "betas": [0.999, 0.9]}, "group 0 (train.py:5), of 64 weights, has betas of 0.999 and 0.9"),
    ],
)
def test_a_group_at_rest_is_named(option: dict[str, Any], said: str) -> None:
    told = step(seen(option, {"lr": 0.1}), [])
    assert told.state == "held" and said in told.why and told.numbers["odd_groups"] == 1


@pytest.mark.parametrize(
    "option",
    [
        {"lr": 1e-12},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.99},
        {"lr": 0.1, "dampening": 1.0},
        {"lr": 0.1, "betas": [0.9, 0.9]},
    ],
)
def test_a_group_that_moves_is_not(option: dict[str, Any]) -> None:
    told = step(seen(option, {"lr": 0.1}), [])
    assert told.state == "held" and "group" not in told.why and told.numbers["odd_groups"] == 0


def test_frozen_parameters_are_counted() -> None:
    case = seen({"lr": 0.1})
    assert "frozen" not in step(case, []).why
    case.meta.params[0].requires_grad = False
    assert "; but 1 of its 2 parameters (train.py:5) are frozen" in step(case, []).why


def small(share: float) -> Case:
    """A run whose updates are so small that they are lost; eps decides this share of the entries."""
    found = run(Chain([linear(), *tail()]), updates=1e-9, optimizer="Adam", options={"eps": 1e4})
    stages = [Stage("gradient", 1.0), Stage("rounding", 1e-9)]
    group = GroupStep(0, [0], 64, {}, stages, eps_rules=share, lost=1.0, lost_energy=1.0, unexplained=0.0)
    found.probes[0].transit = Transit(groups=[group])
    return Case(found)


def test_rounding_is_not_blamed_where_eps_made_the_update_small() -> None:
    flips(lambda share: lost.swallowed(small(share)), 0.51, 0.49)


def test_a_step_that_eps_makes_small_is_told_with_eps() -> None:
    flips(lambda share: "an eps of 10000.0" in only(steps.step_size(small(share))).summary, 0.49, 0.51)


def test_a_group_at_rest_beside_groups_that_move_is_not_told_as_no_weight_moves() -> None:
    chain = Chain([linear(), *tail()])
    alone = only(schedule.schedule_ended(Case(run(chain, lr=0.0, updates=0.0))))
    assert "no weight moves" in alone.summary
    beside = only(schedule.schedule_ended(Case(run(chain, lr=0.0, updates=1e-3))))
    assert "no weight moves" not in beside.summary and "only those of other groups move" in beside.summary
    assert causes(schedule.schedule_ended, run(chain, lr=0.1, updates=1e-3)) == []
