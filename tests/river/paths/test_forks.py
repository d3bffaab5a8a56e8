"""More than one flow goes on from a ridge and from √|θ| at 0; a kink that is crossed, or that holds the path, has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.claim_problems import KINKED
from gradientflow.river import LossField, Potential, VectorField, flow, sharpness, zoo
from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.forks import SLOWS, parts
from gradientflow.river.paths.meter import Meter

D = torch.float64
MANY: dict[str, tuple[Any, list[float]]] = {
    "√|θ| from below": (zoo.named("sqrt").field, [-1.0]),
    "√|θ| from rest": (zoo.named("sqrt").field, [0.0]),
    "a ridge": (lambda w: -w.abs().sum(), [0.0, 0.0]),
    "a steep ridge": (lambda w: -w.abs().pow(1.5).sum(), [0.0]),
}
ONE: dict[str, tuple[Any, list[float]]] = {
    "rest at a convex kink": (lambda w: w.abs().sum(), [0.0, 0.0]),
    "rest on the flat side of a ReLU": (lambda w: torch.relu(w).sum(), [0.0, 0.0]),
    "through √, never slow": (VectorField(lambda z: 1 + z.abs().sqrt()), [-1.0]),
    "through a convex kink": (lambda w: 0.02 * w[0] + 3 * (w[0] - 1).clamp_min(0) + 0.5 * w[1] ** 2, [2.0, 2.0]),
    "through a concave kink": (lambda w: 0.1 * w[0] - 3 * (1 - w[0]).clamp_min(0) + 0.5 * w[1] ** 2, [1.2, 2.0]),
}


def names(field: Any, start: list[float], rtol: float = 1e-3) -> list[str]:
    path = flow(field, 3.0, start=start, rtol=rtol, max_gradients=5000)
    return [c.name for c in path.certificates.broken]


@pytest.mark.parametrize("name", MANY)
def test_where_more_than_one_flow_goes_on_the_path_says_so(name: str):
    assert "lipschitz" in names(*MANY[name])


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_where_one_flow_goes_on_nothing_is_broken(name: str, rtol: float):
    assert names(*ONE[name], rtol=rtol) == []


@pytest.mark.parametrize("name", ["relu wave", "recurrent relu"])
def test_a_network_may_cross_its_kinks(name: str):
    model, loss, data, t = KINKED[name]()
    assert "lipschitz" not in [c.name for c in flow(LossField(model, loss, data), t).certificates.broken]


def at(rate: Callable[[Tensor], Tensor], *place: float) -> bool:
    """Whether the flow with this rate parts at a point."""
    point = torch.tensor([list(place)], dtype=D)
    meter = Meter(VectorField(rate), point[0])
    return parts(meter, point, meter(point).rate)


def test_what_both_sides_of_a_point_lead_to():
    e = torch.tensor([0.0, 1.0], dtype=D)
    side = lambda z: (z[1] > 0).to(D)  # noqa: E731
    assert not at(lambda z: e * (1 + side(z)), 3.0, 0.0)  # on through it
    assert not at(lambda z: e * (1 - 2 * side(z)), 3.0, 0.0)  # held
    assert at(lambda z: e * (2 * side(z) - 1), 3.0, 0.0)  # parted
    assert at(lambda z: e * torch.where(z[1].abs() < 1e-8, torch.nan, 1.0), 3.0, 0.0)  # of that nothing is known


def test_a_point_is_as_near_as_golden_section_finds_it():
    for off in (0.0, 3e-9, -3e-9):
        assert not at(lambda z, off=off: 1.0 + (z > off), 0.0)
        assert at(lambda z, off=off: (z - off).abs().sqrt(), 0.0)


@pytest.mark.parametrize(("share", "many"), [(0.32, True), (0.34, False)])
def test_normal_speed_over_speed_farther_off(share: float, many: bool):
    """A rate that is 1 farther off than 1e-8, and so much nearer."""
    assert SLOWS == 0.33

    def rate(z: Tensor) -> Tensor:
        return torch.where(z.abs() > 1e-8, torch.where(z > 0, 2.0, 1.0), share).to(D)

    assert at(rate, 0.0) is many


def test_a_field_without_a_start_of_its_own_is_asked_for_kinks_where_the_path_begins():
    """Differences across a kink told a sharpness of a million, and steps a thousand times too short."""
    bent = Potential(lambda w: w.abs().sum())
    path = flow(bent, 1.0, start=[0.0, 0.0], max_gradients=500)
    assert path.status.ok and float(path.sharpness.nan_to_num(0).max()) == 0.0
    assert float(sharpness(bent, torch.zeros(2, dtype=D)).values[0]) == 0.0
    point = torch.zeros(2, dtype=D)
    assert Meter(bent, point).exact and not Meter(bent).exact
    assert not Meter(Potential(lambda w: (w * w).sum()), point).exact


def test_a_point_that_cannot_be_asked_is_not_called_safe():
    meter: Any = lambda theta: Evaluation(torch.full_like(theta, torch.nan), None)  # noqa: E731
    zero = torch.zeros(1, 1, dtype=D)
    assert parts(meter, zero, zero)
