"""What is claimed of vector fields by the stabilized methods: right within two, for half a run where two readings of it agree."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradientflow.river import Keep, VectorField, flow
from gradientflow.river.fields.base import Field, Potential
from gradientflow.river.fields.kinks import smooth
from gradientflow.river.paths.rerun import AGREE, inferred

D = torch.float64
N = 40
X = torch.linspace(0, 1, N, dtype=D)
BOTH = "a second, looser run, and how errors shrink by its tolerance and by its steps"


def diffusion(u: Tensor) -> Tensor:
    """∂²u/∂x², with nothing going through the ends."""
    ends = 2 * (u[1:2] - u[:1]), 2 * (u[-2:-1] - u[-1:])
    return torch.cat([ends[0], u[2:] - 2 * u[1:-1] + u[:-2], ends[1]]) * (N - 1) ** 2


def brusselator(z: Tensor) -> Tensor:
    u, v = z[:N], z[N:]
    made = u * u * v
    return torch.cat([0.02 * diffusion(u) + 1 + made - 4 * u, 0.02 * diffusion(v) + 3 * u - made])


def burgers(u: Tensor) -> Tensor:
    slope = torch.cat([u[1:] - u[:-1], 0 * u[:1]]) * (N - 1)
    return 0.02 * diffusion(u) - 0.5 * u * slope


FIELDS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, float]] = {
    "phases part": (lambda u: 0.002 * diffusion(u) + u - u**3, 0.5 * torch.sin(9 * X), 5.0),
    "a front": (lambda u: 0.001 * diffusion(u) + 5 * u * (1 - u), torch.exp(-50 * X), 2.0),
    "brusselator": (brusselator, torch.cat([1 + torch.sin(2 * math.pi * X), 3 + 0 * X]), 3.0),
    "a wave steepens": (burgers, torch.sin(2 * math.pi * X), 1.0),
    "a cycle": (lambda z: torch.stack([z[1], 2 * (1 - z[0] ** 2) * z[1] - z[0]]), torch.tensor([2.0, 0.0], dtype=D), 8.0),
}  # fmt: skip
HEAT = (lambda u: 0.01 * diffusion(u), torch.cos(math.pi * X) + torch.cos(7 * math.pi * X), 3.0)


def judged(
    f: Callable[[Tensor], Tensor], start: Tensor, t: float, method: str, rtol: float = 1e-3
) -> tuple[float, float, str]:
    """Claim over truth, what the checks cost over the path, and how the claim was had."""
    path = flow(VectorField(f, start=start), t, method=method, rtol=rtol, keep=Keep(theta=True))
    true = flow(VectorField(f, start=start), t, method="dp87", rtol=1e-9, certify=False).final
    assert path.theta is not None
    way = float((path.theta - start).norm(dim=1).max())
    error = path.certificates.named("error")
    own = path.cost.equivalents - path.cost.checking
    return error.value / (float((path.final - true).norm()) / way), path.cost.checking / own, error.text


@pytest.mark.parametrize("method", ["rkc2", "rkmc2"])
@pytest.mark.parametrize("name", FIELDS)
def test_a_looser_run_is_enough_where_two_ways_to_read_it_agree(name: str, method: str):
    off, cost, text = judged(*FIELDS[name], method=method)
    assert 0.5 < off < 2.0
    if BOTH in text:
        assert cost < 0.8
    assert BOTH in text or (name, method) == ("a wave steepens", "rkmc2")


@pytest.mark.parametrize("method", ["rkc2", "rkmc2"])
def test_a_tighter_one_is_made_where_they_do_not(method: str):
    """What is stiff decays at once, and steps grow to the end: tolerances alone said 0.3 of the error by rkmc2."""
    off, cost, text = judged(*HEAT, method=method)
    assert 0.5 < off < 2.0 and "a second, tighter run" in text and cost > 1.5


def test_a_field_with_a_kink_is_held_against_a_tighter_run():
    def bent(z: Tensor) -> Tensor:
        return torch.stack([-z[0].abs(), 1 - 3 * z[1].clamp_min(0.2)])

    _, _, text = judged(bent, torch.tensor([1.0, 2.0], dtype=D), 2.0, method="rkc2")
    assert "a second, tighter run" in text


@pytest.mark.parametrize(
    ("field", "is_smooth"),
    [
        (VectorField(lambda z: torch.sin(z) - z**3), True),
        (VectorField(lambda z: -z.abs()), False),
        (VectorField(lambda z: torch.where(z > 0, -z, -2 * z)), False),
        (VectorField(lambda z: -z.sign()), False),
        (VectorField(lambda z: torch.ones_like(z)), False),  # no graph: nothing is known
        (Potential(lambda w: (w * w).sum()), False),  # has a loss: held against tighter runs as ever
    ],
)
def test_what_is_smooth(field: Field, is_smooth: bool):
    assert smooth(field, torch.tensor([[0.3, -0.7]], dtype=D)) is is_smooth


def test_claim_over_claim():
    """By tolerance 0.1; by steps so many times less."""
    assert AGREE == 2.0
    near, far = (inferred(0.9, 9.0, 1 + 9 * times, 1.0) for times in (1.99, 2.01))
    assert near == pytest.approx(0.1 / math.sqrt(1.99)) and far is None
    assert inferred(0.0, 9.0, 10.0, 1.0) is None and inferred(0.9, 9.0, 0.5, 1.0) is None  # nothing is told by that


def test_drops_that_agree_and_drops_that_do_not_are_told_together():
    f, start, t = FIELDS["phases part"]
    path = flow(VectorField(f), t, starts=torch.stack([start, 0.3 * start]), method="rkc2")
    error = path.certificates.named("error")
    assert error.ok and 0 < error.value < error.bound
