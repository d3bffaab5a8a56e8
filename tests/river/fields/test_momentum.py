"""Flows with inertia against closed forms, SciPy, and the methods they are the limits of."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import j1

from gradientflow.errors import FieldError
from gradientflow.river.fields import zoo
from gradientflow.river.fields.base import Potential
from gradientflow.river.fields.momentum import HeavyBall, Nesterov
from tests.river.fields.checks import difference, jacobian_gap, judge, rate, rows_gap, slope

HIMMELBLAU = zoo.named("himmelblau").field
BOWL = zoo.named("quadratic", eigenvalues=[4.0]).field


def states(field, n: int = 3, *, time: float | None = None) -> torch.Tensor:
    made = torch.Generator().manual_seed(0)
    z = torch.randn(n, field.size, generator=made, dtype=torch.float64)
    if time is not None:
        z[:, -1] = time
    return z


@pytest.mark.parametrize(
    ("field", "time"),
    [(HeavyBall(HIMMELBLAU, 0.3, mass=2.0), None), (Nesterov(HIMMELBLAU), 0.7), (Nesterov(HIMMELBLAU, r=5.0), 2.0)],
    ids=["heavy ball", "Nesterov", "Nesterov r=5"],
)
def test_the_protocol_is_kept(field, time):
    z = states(field, time=time)
    before = z.clone()
    assert jacobian_gap(field, z) < 1e-8 < jacobian_gap(field, z, wrong=1e-3)
    assert rows_gap(field, z) < 1e-10
    assert torch.equal(z, before) and not field.potential
    assert torch.equal(field.position(z), z[:, :2])
    assert torch.allclose(field.value(z), HIMMELBLAU.value(z[:, :2]))
    assert torch.equal(field.start(), field.lift(HIMMELBLAU.start())) and len(field.start()) == field.size
    assert torch.equal(field.lift(z[:, :2])[:, :2], z[:, :2]) and not field.lift(z[:, :2])[:, 2:].any()
    assert torch.equal(field.parameters(z[0])["theta"], z[0, :2])


def damped(t: float, lam: float, gamma: float) -> float:
    """ẍ + γẋ + λx = 0 from x = 1, ẋ = 0, below critical damping."""
    w = math.sqrt(lam - gamma**2 / 4)
    return math.exp(-gamma * t / 2) * (math.cos(w * t) + gamma / (2 * w) * math.sin(w * t))


def test_heavy_ball_on_a_parabola_is_the_damped_oscillator():
    field = HeavyBall(BOWL, 0.6)
    end = judge(field, field.start(), 3.0)
    assert float(end[0]) == pytest.approx(damped(3.0, 4.0, 0.6), abs=1e-11)
    assert float(end[0]) != pytest.approx(damped(3.0, 4.0, 0.61), abs=1e-4)
    heavy = HeavyBall(BOWL, 1.2, mass=2.0)  # m ẍ + γ ẋ + λ x: the same with λ/m and γ/m
    assert float(judge(heavy, heavy.start(), 3.0)[0]) == pytest.approx(damped(3.0, 2.0, 0.6), abs=1e-11)


def test_energy_is_conserved_without_friction_and_only_then():
    free, rubbed = HeavyBall(HIMMELBLAU, 0.0, mass=1.5), HeavyBall(HIMMELBLAU, 0.01)
    z = states(free)
    along = rate(free, z)
    assert float(difference(lambda at: free.conserved(at)["energy"], z, along / along.norm()).abs().max()) < 1e-9
    lossy = rate(HeavyBall(HIMMELBLAU, 0.01, mass=1.5), z)
    assert float(difference(lambda at: free.conserved(at)["energy"], z, lossy / lossy.norm()).abs().max()) > 1e-5
    assert not rubbed.conserved(z)


def test_nesterov_on_a_parabola_is_a_bessel_function():
    field = Nesterov(BOWL)
    assert rate(field, field.start()[None]).tolist() == [[0.0, -1.0, 1.0]]  # θ̈(0) = −∇L/4, at t = 0 itself
    end = judge(field, field.start(), 3.0)
    assert float(end[0]) == pytest.approx(2 * j1(6.0) / 6.0, abs=1e-9)
    assert float(end[0]) == pytest.approx(-0.0922279527092, abs=1e-9)
    assert float(end[-1]) == pytest.approx(3.0, abs=1e-12)
    other = Nesterov(BOWL, r=3.05)
    assert float(judge(other, other.start(), 3.0)[0]) != pytest.approx(-0.0922279527092, abs=1e-4)


def test_the_start_is_the_limit_of_times_shortly_after():
    field = Nesterov(HIMMELBLAU)
    theta = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    first = rate(field, field.lift(theta))
    t = 1e-6
    later = torch.cat([theta, t * rate(HIMMELBLAU, theta) / 4, torch.full((1, 1), t, dtype=torch.float64)], dim=1)
    assert torch.allclose(first[:, 2:], rate(field, later)[:, 2:], rtol=1e-9)
    assert torch.isfinite(field.linearize(field.lift(theta))(torch.ones(1, 5, dtype=torch.float64))).all()
    moving = field.lift(theta)
    moving[:, 2] = 1.0  # θ̇ ≠ 0 at t = 0 has no solution
    assert torch.isinf(rate(field, moving)[0, 2])


def heavy_ball_steps(lr: float, beta: float, theta: torch.Tensor, k: int) -> torch.Tensor:
    w = theta.clone().requires_grad_()
    opt = torch.optim.SGD([w], lr=lr, momentum=beta)
    for _ in range(k):
        opt.zero_grad()
        w.grad = HIMMELBLAU.evaluate(w.detach()[None]).rate[0].neg()
        opt.step()
    return w.detach()


def test_momentum_descent_follows_its_heavy_ball_on_the_same_clock():
    theta, t, lrs = torch.tensor([0.5, 1.5], dtype=torch.float64), 0.03, [2e-4, 1e-4, 5e-5]
    gaps, plain = [], []
    for lr in lrs:
        steps = heavy_ball_steps(lr, 0.5, theta, round(t / lr))
        field = HeavyBall.of_descent(HIMMELBLAU, lr, 0.5)
        gaps.append(float((judge(field, field.lift(theta), t, rtol=1e-9, atol=1e-11)[:2] - steps).norm()))
        plain.append(float((judge(HIMMELBLAU, theta, t) - steps).norm()))  # forgets that momentum is 1/(1 − β) faster
    assert slope(lrs, gaps) == pytest.approx(1.0, abs=0.1)
    assert gaps[-1] < 1e-2 and plain[-1] > 10 * gaps[-1] and abs(slope(lrs, plain)) < 0.1


def test_what_is_no_field_or_no_state_is_refused():
    with pytest.raises(FieldError, match="damping ≥ 0"):
        HeavyBall(BOWL, -1.0)
    with pytest.raises(FieldError, match="r > 0"):
        Nesterov(BOWL, r=0.0)
    with pytest.raises(FieldError, match=r"got int.*gf\.LossField"):
        HeavyBall(3, 1.0)
    with pytest.raises(FieldError, match=r"state of 2 numbers, expected 4.*field\.lift"):
        HeavyBall(HIMMELBLAU, 1.0).evaluate(torch.zeros(1, 2, dtype=torch.float64))
    with pytest.raises(FieldError, match=r"expected 2·P \+ 1"):
        Nesterov(Potential(lambda w: (w**2).sum())).evaluate(torch.zeros(1, 4))
