"""Descent beside the flow: leading error, modified equations, drift, thresholds of stability, and the bound on the gap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradientflow.river import Keep, descend, flow
from gradientflow.river.fields import zoo
from gradientflow.river.fields.base import Field, Potential, VectorField
from gradientflow.river.fields.modified import ModifiedFlow, PrincipalFlow

TIGHT = {"rtol": 1e-11, "atol": 1e-13, "certify": False}
X = torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.7, 0.8]], dtype=torch.float64)
Y = torch.tensor([0.2, -0.4, 0.9], dtype=torch.float64)


def net_loss(w: Tensor) -> Tensor:
    return 0.5 * ((torch.tanh(X @ w[:6].reshape(3, 2).T) @ w[6:9] - Y) ** 2).sum()


NET = Potential(net_loss, start=torch.linspace(-1.0, 1.2, 9, dtype=torch.float64), name="net")
LRS = [0.02, 0.01, 0.005]


def end(field: Field, start: Tensor, t: float) -> Tensor:
    path = flow(field, t, start=start, **TIGHT)
    assert path.status.ok, path.status
    return path.final


def steps(field: Field, start: Tensor, t: float, lr: float, optimizer=torch.optim.SGD, **options) -> Tensor:
    """Every iterate of an optimiser, (k + 1, P)."""
    path = descend(field, optimizer, t, lr=lr, start=start, keep=Keep(theta=True), **options)
    assert path.theta is not None and len(path.theta) == round(t / lr) + 1
    return path.theta


def slope(gaps: list[float]) -> float:
    return math.log(gaps[0] / gaps[-1]) / math.log(LRS[0] / LRS[-1])


# ── 1: the leading error ─────────────────────────────────────────────────────────────────────────────────────────────


def test_descent_on_a_quadratic_lags_by_half_eta_lambda_squared_t():
    bowl, one = zoo.named("quadratic", eigenvalues=[3.0]), torch.ones(1, dtype=torch.float64)
    flowed = end(bowl.field, one, 1.0)
    for k, want in ((100, 0.9974), (200, 0.9987), (400, 0.9994)):
        lr = 1.0 / k
        iterates = steps(bowl.field, one, 1.0, lr)
        assert torch.allclose(iterates[-1], bowl.facts["descent"](one, lr, k), rtol=1e-12)
        ratio = float((iterates[-1] - flowed) / lr / bowl.facts["leading_error"](one, 1.0))
        assert ratio == pytest.approx(want, abs=6e-5)
        assert float((iterates[-1] - flowed) / lr / (-3.0 * math.exp(-3.0))) != pytest.approx(want, abs=0.1)


def test_the_error_equation_predicts_the_gap_of_a_net():
    start = NET.start()
    for factor, close in ((0.5, True), (0.6, False)):  # ė = −He − ½H∇L, e(0) = 0

        def both(z: Tensor, factor: float = factor) -> Tensor:
            w, e = z[:9], z[9:]
            g = torch.func.grad(net_loss)(w)
            hvp = torch.func.vjp(torch.func.grad(net_loss), w)[1]
            return torch.cat([-g, -hvp(e)[0] - factor * hvp(g)[0]])

        z0 = torch.cat([start, torch.zeros(9, dtype=torch.float64)])
        z = end(VectorField(both, start=z0), z0, 1.0)
        off = [float(((steps(NET, start, 1.0, lr)[-1] - z[:9]) / lr - z[9:]).norm() / z[9:].norm()) for lr in LRS]
        assert (off[-1] < 0.02 and slope(off) == pytest.approx(1.0, abs=0.1)) is close


# ── 8: modified equations ────────────────────────────────────────────────────────────────────────────────────────────


def gaps(make: Callable[[float], Field], t: float = 1.0) -> list[float]:
    return [float((end(make(lr), NET.start(), t) - steps(NET, NET.start(), t, lr)[-1]).norm()) for lr in LRS]


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda lr: NET, 1), (lambda lr: ModifiedFlow(NET, lr), 2), (lambda lr: ModifiedFlow(NET, lr, order=3), 3),
        (lambda lr: PrincipalFlow(NET, lr, 2), 2),
        (lambda lr: ModifiedFlow(NET, 2 * lr), 1), (lambda lr: ModifiedFlow(NET, 0.5 * lr, order=3), 1),
    ],
    ids=["flow", "regularised", "third order", "principal", "control: 2η", "control: η/2"],
)  # fmt: skip
def test_the_gap_falls_with_the_order_of_the_modified_flow(make, order):
    assert slope(gaps(make)) == pytest.approx(order, abs=0.2 if order == 1 else 0.05)


@pytest.mark.parametrize("lr", [0.05, 0.2])
def test_the_principal_flow_is_exact_on_a_quadratic(lr):
    bowl = zoo.named("quadratic", eigenvalues=[4.0, 1.0, 0.3])  # ηλ ≤ 0.8
    iterates = steps(bowl.field, bowl.start, 1.0, lr)
    principal = end(PrincipalFlow(bowl.field, lr, 3), bowl.start, 1.0)
    assert torch.allclose(principal, iterates[-1], rtol=1e-9)
    third = end(ModifiedFlow(bowl.field, lr, order=3), bowl.start, 1.0)
    assert not torch.allclose(third, iterates[-1], rtol=1e-4)


# ── 3 and 6: what descent does not keep ──────────────────────────────────────────────────────────────────────────────


def test_the_sharpness_where_the_flow_would_end_falls_along_descent():
    field = zoo.named("w1w2", target=2.0)
    start = torch.tensor([3.0, 0.1], dtype=torch.float64)  # the flow ends at sharpness 9.84 > 2/0.22
    path = descend(field.field, torch.optim.SGD, 0.22 * 200, lr=0.22, start=start, keep=Keep(theta=True))
    sharp = field.facts["final_sharpness"](path.theta)
    assert bool((sharp[1:] <= sharp[:-1] + 1e-12).all()) and float(sharp[-1]) < 2 / 0.22 < float(sharp[0])
    assert not bool((path.loss[1:] <= path.loss[:-1]).all())  # the loss itself goes up and down
    flowed = end(field.field, start, 1.0)
    assert float(field.facts["final_sharpness"](flowed)) == pytest.approx(9.839720524486, abs=1e-10)


def test_the_balance_drifts_under_descent_by_eta_times_an_integral():
    target, sizes = torch.tensor([[1.5, -0.4], [0.2, 0.8]], dtype=torch.float64), [6, 6]
    start = 0.8 * torch.randn(12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def parts(w: Tensor) -> tuple[Tensor, Tensor]:
        below, above = torch.split(w, sizes)
        return below.reshape(3, 2), above.reshape(2, 3)

    def loss(w: Tensor) -> Tensor:
        below, above = parts(w)
        return 0.5 * ((above @ below - target) ** 2).sum()

    def balance(w: Tensor) -> Tensor:
        below, above = parts(w)
        return above.T @ above - below @ below.T

    def with_integral(z: Tensor) -> Tensor:
        g = torch.func.grad(loss)(z[:12])
        below, above = parts(g)
        return torch.cat([-g, (above.T @ above - below @ below.T).reshape(-1)])

    z0 = torch.cat([start, torch.zeros(9, dtype=torch.float64)])
    z = end(VectorField(with_integral, start=z0), z0, 2.0)
    want = z[12:].reshape(3, 3)
    assert torch.allclose(balance(z[:12]), balance(start), rtol=0, atol=1e-9)  # the flow itself does not drift
    field = Potential(loss, start=start)
    off = []
    for lr in LRS:
        drift = (balance(steps(field, start, 2.0, lr)[-1]) - balance(start)) / lr
        off.append(float((drift - want).norm() / want.norm()))
        assert float((drift - 2 * want).norm() / want.norm()) > 0.9
    assert off[-1] < 0.02 and slope(off) == pytest.approx(1.0, abs=0.1)


# ── 9: games ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_descent_ascent_on_the_bilinear_game_spirals_out():
    game = zoo.named("bilinear-game")
    z = steps(game.field, torch.tensor([0.6, -0.8], dtype=torch.float64), 10.0, 0.1)[-1]
    assert float(z.norm()) == pytest.approx(1.644631821844, abs=1e-12)
    other = steps(game.field, torch.tensor([0.6, -0.8], dtype=torch.float64), 10.0, 0.05)[-1]
    assert float(other.norm()) != pytest.approx(1.644631821844, abs=1e-2)


# ── 11: where descent becomes unstable ───────────────────────────────────────────────────────────────────────────────

LR = 0.1
THRESHOLDS = {
    "SGD": (torch.optim.SGD, {}, 2 / LR),
    "Polyak": (torch.optim.SGD, {"momentum": 0.9}, (2 + 2 * 0.9) / LR),
    "Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, (2 + 2 * 0.9) / (LR * (1 + 2 * 0.9))),
    # Preconditioned by 1/(√ν + ε) → 1 here: ε = 1 beside gradients that stay tiny.
    "Adam": (torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1.0}, (2 + 2 * 0.9) / ((1 - 0.9) * LR)),
}


@pytest.mark.parametrize("name", THRESHOLDS)
def test_optimisers_leave_a_quadratic_at_their_threshold(name):
    optimizer, options, threshold = THRESHOLDS[name]
    if name == "Adam":
        assert threshold == pytest.approx(38 / LR)
    for factor, grows in ((0.98, False), (1.02, True)):
        bowl = zoo.named("quadratic", eigenvalues=[factor * threshold])
        start = torch.tensor([1e-60 if name == "Adam" else 1.0], dtype=torch.float64)
        size = steps(bowl.field, start, 100 * LR, LR, optimizer, **options).abs()
        early, late = float(size[30:50].max()), float(size[-20:].max())
        assert (late > 1.5 * early) is grows and (late < early / 1.5) is not grows, (early, late)


# ── 12: the bound on the gap ─────────────────────────────────────────────────────────────────────────────────────────


def gap_and_bound(field: Field, start: Tensor, t: float, lr: float, *, growth: bool = True) -> tuple[Tensor, Tensor]:
    """‖θ_k − θ(kη)‖ and (η/2) ∫₀ᵗ exp(∫ₛᵗ m) ‖H∇L‖ ds, m = max(0, −λmin(H)), at every step, from the solved flow."""
    times = lr * torch.arange(round(t / lr) + 1, dtype=torch.float64)
    path = flow(field, float(times[-1]), start=start, keep=Keep(at=times, theta=True), **TIGHT)
    where = torch.isin(path.times.round(decimals=9), times.round(decimals=9))
    theta = path.theta[where]
    assert len(theta) == len(times)
    gap = (steps(field, start, float(times[-1]), lr) - theta).norm(dim=1)
    rates, product = field.evaluate(theta).rate, field.linearize(theta)
    force = product(rates).norm(dim=1)  # ‖H∇L‖
    h = torch.stack([-product(unit.expand_as(theta)) for unit in torch.eye(len(start), dtype=torch.float64)], dim=1)
    m = (-torch.linalg.eigvalsh(h)[:, 0]).clamp(min=0.0) if growth else torch.zeros(len(times), dtype=torch.float64)
    bound = [0.0]
    for i, j in itertools.pairwise(range(len(times))):  # trapezoids on the descent's own steps
        up = math.exp(0.5 * lr * float(m[i] + m[j]))
        bound.append(bound[-1] * up + 0.5 * lr * 0.5 * lr * float(force[i] * up + force[j]))
    return gap, torch.tensor(bound, dtype=torch.float64)


@pytest.mark.parametrize("name", ["net", "saddle"])
def test_the_bound_on_the_gap_holds_for_small_steps(name):
    if name == "net":
        field, start, t, lr = NET, NET.start(), 3.0, 0.01
    else:  # away from the saddle of w₁w₂, where the gap grows
        field, start, t, lr = zoo.named("w1w2").field, torch.tensor([1e-4, 1.2e-4], dtype=torch.float64), 8.0, 0.03
    gap, bound = gap_and_bound(field, start, t, lr)
    assert bool((gap[1:] <= 1.02 * bound[1:]).all())
    assert float(bound[-1] / gap[-1]) < 1e3  # and says something
    if name == "saddle":
        _, flat = gap_and_bound(field, start, t, lr, growth=False)
        assert bool((gap[1:] > 1.02 * flat[1:]).any())  # without the growth along negative curvature it is broken
