"""What somebody measures by hand along flows: sharpness at the end of long ones, costs against time, size and number."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradientflow.river import Ensemble, Keep, LossField, Path, SteadyState, descend, drops, flow, zoo

D = torch.float64
LR = 0.35  # beyond the edge of stability: 2/η is 5.7, and the flows end at a sharpness above 20


@functools.cache
def wave() -> LossField:
    x = torch.linspace(-1, 1, 20, dtype=D)[:, None]
    return LossField(seeded(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1)), functional.mse_loss, (x, torch.sin(3 * x)))


def seeded(*layers: nn.Module) -> nn.Module:
    maker = torch.Generator().manual_seed(0)
    for p in (p for layer in layers for p in layer.parameters()):
        bound = 1 / math.sqrt(p.shape[-1])
        p.data = bound * (2 * torch.rand(p.shape, generator=maker, dtype=D) - 1)
    return nn.Sequential(*layers).double()


def eigenvalues(field: LossField, theta: Tensor) -> Tensor:
    """All of them, of the Hessian, ascending."""
    apply = field.linearize(theta[None])
    columns = [-apply(e[None])[0] for e in torch.eye(len(theta), dtype=D)]
    return torch.linalg.eigvalsh(torch.stack(columns))


@functools.cache
def iterates() -> Tensor:
    """Where gradient descent beyond its edge was after 0, 20 and 100 steps."""
    path = descend(wave(), torch.optim.SGD, lr=LR, t=100 * LR, keep=Keep(at=[0, 20 * LR, 100 * LR], theta=True))
    assert path.theta is not None
    return path.theta


@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_sharpness_at_the_end_of_the_flow_from_an_iterate(k: int):
    path = flow(wave(), 300.0, start=iterates()[k])
    true = eigenvalues(wave(), path.final)
    assert float(path.sharpness[-1]) == pytest.approx(float(true[-1]), rel=1e-3)
    assert float(true[-1]) > 2 * 2 / LR  # the descent itself could not stay there
    tight = flow(wave(), 300.0, start=iterates()[k], rtol=1e-6, certify=False)
    off = float((path.final - tight.final).norm() / (tight.final - path.start).norm())
    error = path.certificates.named("error")
    assert path.certificates.ok and off / 2 < error.value < 2 * off
    assert float(tight.sharpness[-1]) == pytest.approx(float(path.sharpness[-1]), rel=0.02)


def test_a_slow_path_is_at_rest_only_where_no_direction_of_growth_is_left():
    """The gradient is small there, and more negative curvature is left than was allowed."""
    slow = flow(wave(), 600.0, events=[SteadyState(5e-3)], certify=False)
    assert slow.status.reason == "reached" and float(slow.grad_norm[-1]) < 5e-3
    assert float(eigenvalues(wave(), slow.final)[0]) < -1e-6
    rests = flow(wave(), 600.0, events=[SteadyState(5e-3, curvature=None)], certify=False)
    assert rests.status.reason == "event" and float(rests.times[-1]) < 600


def gradients(path: Path | Ensemble) -> float:
    return path.cost.equivalents - path.cost.checking


def test_a_path_ten_times_as_long_costs_far_less_than_ten_times_as_much():
    costs = [gradients(flow(wave(), t, certify=False)) for t in (5.0, 50.0, 500.0)]
    assert costs[1] < 4 * costs[0] and costs[2] < 4 * costs[1], costs
    fixed = [
        gradients(flow(wave(), t, method="rk4", certify=False)) for t in (10.0, 100.0)
    ]  # control: an explicit method pays for time
    assert fixed[1] > 6 * fixed[0]


def test_the_width_of_a_network_costs_no_gradients():
    maker = torch.Generator().manual_seed(1)
    x, y = torch.randn(60, 8, generator=maker, dtype=D), torch.randint(0, 3, (60,), generator=maker)

    def cost(width: int) -> float:
        model = seeded(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 3))
        return gradients(flow(LossField(model, functional.cross_entropy, (x, y)), 20.0, certify=False))

    costs = [cost(width) for width in (4, 64, 256)]
    assert max(costs) < 1.5 * min(costs), costs


def test_many_drops_cost_about_what_a_loop_over_them_does_in_gradients():
    field = zoo.named("himmelblau").field
    starts = drops(field, 60, seed=0)
    many = flow(field, 1.0, starts=starts, certify=False)
    singles = [flow(field, 1.0, start=s, certify=False) for s in starts[:8]]
    for row, one in enumerate(singles):
        assert float((many.final[row] - one.final).norm()) < 1e-2 * float((one.final - one.start).norm())
    loop = sum(map(gradients, singles)) / len(singles)
    assert 0.5 * loop < gradients(many) / len(many) < 1.6 * loop
