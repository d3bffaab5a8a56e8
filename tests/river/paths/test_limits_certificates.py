"""Where a check of a path begins to be broken: each limit from both sides."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradientflow.river.paths import certificates as checks
from gradientflow.river.paths import trust
from gradientflow.river.paths.path import Certificate

D = torch.float64


def error(value: float, growth: float = 0.0) -> Certificate:
    return checks.error(value, limit=checks.allowed(1e-3, 2), growth=growth, rtol=1e-3)


def test_error():
    assert error(0.0299).ok and not error(0.0301).ok


def test_growth_times_rtol():
    below, above = error(0.0, math.log(99 / 1e-3)), error(0.0, math.log(101 / 1e-3))
    assert below.ok and not above.ok
    assert "from growth × rtol = 100 on" in above.text


def test_climb():
    def rose(by: float) -> Certificate:
        return checks.monotone(2.0, 1.0, by * 1e-3, 0.5, 1e-3, unit=0.0)

    assert rose(0.0199).ok and not rose(0.0201).ok


def test_climb_in_round_off():
    def rose(by: float) -> Certificate:
        return checks.monotone(1.0, 1.0, by * 1e-16, 0.5, 1e-3, unit=1e-16)

    assert rose(99.0).ok and not rose(101.0).ok


def test_energy():
    assert checks.energy(1.0, 0.0, 1.0299, 0.03).ok and not checks.energy(1.0, 0.0, 1.0301, 0.03).ok


def test_energy_in_round_off():
    assert checks.energy(1.0, 1.0, 0.99e-11, 0.03).ok and not checks.energy(1.0, 1.0, 1.01e-11, 0.03).ok


def slides(jumps: int, steps: int) -> bool:
    broken = Certificate("energy", False, 1.0, 0.1, "off")
    (told,) = checks.at_kinks([broken], ["relu"], jumps, steps, 0.1)
    assert told.ok is False  # it stays broken
    return "slides along the kink" in told.text


def test_jumps():
    assert not slides(7, 20) and slides(8, 20)


def test_jumps_over_steps():
    assert slides(100, 1990) and not slides(100, 2010)


def loaded(load: float, stable: float) -> bool | None:
    field: Any = SimpleNamespace(potential=True, dtype=D)
    witness: Any = SimpleNamespace(begin=None, last=None, drift={}, load=torch.tensor([load], dtype=D))
    (found,) = checks.of_flow(field, witness, rtol=1e-3, order=2, stable=stable)
    assert type(found.bound) is float  # a record is written of it
    return found.ok


@pytest.mark.parametrize(("fixed", "rule", "limit"), [(None, None, 1.5), (0.1, None, 1.05), (None, 1.0, 1.05)])
def test_load(fixed: float | None, rule: float | None, limit: float):
    motion: Any = SimpleNamespace(fixed=fixed, solvers=[SimpleNamespace(rule=rule)])
    stable = trust._stable(motion)
    assert loaded(limit - 0.01, stable) and not loaded(limit + 0.01, stable)
