"""The certificate of the step names groups that an option of their own keeps where they are."""

from __future__ import annotations

from typing import Any

import pytest

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.step import step
from gradientflow.records import GroupStep, Stage, Transit
from tests.depth.causes.by_hand import Chain, linear, run, tail


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
    ],
)
def test_a_group_at_rest_is_named(option: dict[str, Any], said: str) -> None:
    told = step(seen(option, {"lr": 0.1}), [])
    assert told.state == "held" and said in told.why and told.numbers["at_rest"] == 1


@pytest.mark.parametrize(
    "option", [{"lr": 1e-12}, {"lr": 0.1, "momentum": 0.9, "dampening": 0.99}, {"lr": 0.1, "dampening": 1.0}]
)
def test_a_group_that_moves_is_not(option: dict[str, Any]) -> None:
    told = step(seen(option, {"lr": 0.1}), [])
    assert told.state == "held" and "group" not in told.why and told.numbers["at_rest"] == 0
