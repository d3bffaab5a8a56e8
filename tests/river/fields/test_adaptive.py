"""Flows of adaptive optimisers against closed forms and against PyTorch's own optimisers at small steps."""

from __future__ import annotations

import math

import pytest
import torch

from gradientflow.errors import FieldError
from gradientflow.river.fields import zoo
from gradientflow.river.fields.adaptive import AdamFlow, NormalisedFlow, RMSPropFlow, SignFlow
from tests.river.fields.checks import jacobian_gap, judge, rate, rows_gap, slope

HIMMELBLAU = zoo.named("himmelblau").field
THETA = torch.tensor([0.5, 1.5], dtype=torch.float64)


def states(field) -> torch.Tensor:
    made = torch.Generator().manual_seed(0)
    z = torch.randn(3, field.size, generator=made, dtype=torch.float64)
    if isinstance(field, AdamFlow | RMSPropFlow):
        nu = slice(4, 6) if isinstance(field, AdamFlow) else slice(2, 4)
        z[:, nu] = 100 + 50 * z[:, nu].abs()
    if isinstance(field, AdamFlow):
        z[:, -1] = 0.3
    return z


FIELDS = {
    "Adam": AdamFlow(HIMMELBLAU, (0.2, 1.5), eps=0.1),
    "Adam, raw moments": AdamFlow(HIMMELBLAU, (0.2, 1.5), eps=0.1, bias_correction=False, weight_decay=0.3),
    "RMSProp": RMSPropFlow(HIMMELBLAU, 0.7, eps=0.1),
    "soft sign": SignFlow(HIMMELBLAU, softness=20.0),
    "normalised": NormalisedFlow(HIMMELBLAU),
    "soft normalised": NormalisedFlow(HIMMELBLAU, softness=5.0),
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_protocol_is_kept(name):
    field = FIELDS[name]
    z = states(field)
    assert jacobian_gap(field, z, step=1e-4) < 1e-7 < jacobian_gap(field, z, step=1e-4, wrong=1e-3)
    assert rows_gap(field, z) < 1e-9
    assert not field.potential and torch.equal(field.position(z), z[:, :2])
    assert torch.equal(field.value(z), HIMMELBLAU.value(z[:, :2]))
    assert field.start().shape == (field.size,) == field.lift(THETA).shape
    assert torch.allclose(field.lift(THETA[None])[0], field.lift(THETA))


def descend(make, lr: float, k: int, *, before=None) -> torch.Tensor:
    w = THETA.clone().requires_grad_()
    opt = make([w], lr)
    for _ in range(k):
        w.grad = HIMMELBLAU.evaluate(w.detach()[None]).rate[0].neg()
        if before is not None:
            before(opt, w)
        opt.step()
    return w.detach()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_adam_at_small_steps_follows_its_flow(decay):
    memory, eps, t, lrs = (0.3, 1.0), 1e-3, 1.0, [0.01, 0.005, 0.0025]
    field = AdamFlow(HIMMELBLAU, memory, eps=eps, weight_decay=decay)
    end = judge(field, field.lift(THETA), t, rtol=1e-10, atol=1e-12)[:2]
    wrong = AdamFlow(HIMMELBLAU, (0.3, 1.5), eps=eps, weight_decay=decay)
    other = judge(wrong, wrong.lift(THETA), t, rtol=1e-10, atol=1e-12)[:2]
    gaps, control = [], []
    for lr in lrs:
        betas = (1 - lr / memory[0], 1 - lr / memory[1])
        steps = descend(
            lambda p, lr, b=betas: torch.optim.AdamW(p, lr=lr, betas=b, eps=eps, weight_decay=decay), lr, round(t / lr)
        )
        gaps.append(float((steps - end).norm()))
        control.append(float((steps - other).norm()))
    assert slope(lrs, gaps) == pytest.approx(1.0, abs=0.15)
    assert gaps[-1] < 0.02 and abs(slope(lrs, control)) < 0.5


def test_rmsprop_at_small_steps_follows_its_flow():
    memory, t, lrs = 0.5, 1.0, [0.01, 0.005, 0.0025]
    field = RMSPropFlow(HIMMELBLAU, memory)
    end = judge(field, field.lift(THETA), t, rtol=1e-10, atol=1e-12)[:2]

    def begin(opt: torch.optim.Optimizer, w: torch.Tensor) -> None:
        if not opt.state[w]:  # PyTorch begins at ν = 0; begin where the flow does
            opt.state[w] = {"step": torch.tensor(0.0), "square_avg": w.grad**2}

    gaps = [
        float((descend(lambda p, lr: torch.optim.RMSprop(p, lr=lr, alpha=1 - lr / memory), lr, round(t / lr), before=begin) - end).norm())
        for lr in lrs
    ]  # fmt: skip
    bare = [
        float(
            (
                descend(lambda p, lr: torch.optim.RMSprop(p, lr=lr, alpha=1 - lr / memory), lr, round(t / lr)) - end
            ).norm()
        )
        for lr in lrs
    ]
    assert slope(lrs, gaps) == pytest.approx(1.0, abs=0.15) and gaps[-1] < 0.01
    assert abs(slope(lrs, bare)) < 0.3 and bare[-1] > 0.1  # from ν = 0 it is another flow


def test_adam_begins_at_its_limit():
    field = FIELDS["Adam"]
    g = -rate(HIMMELBLAU, THETA[None])
    first = rate(field, field.lift(THETA)[None])
    assert torch.allclose(first[:, :2], -g / (g.abs() + 0.1))
    t = 1e-7
    soon = torch.cat([THETA[None], g * t / 0.2, g * g * t / 1.5, torch.full((1, 1), t, dtype=torch.float64)], dim=1)
    assert torch.allclose(first[:, :2], rate(field, soon)[:, :2], rtol=1e-6)
    raw = FIELDS["Adam, raw moments"]
    assert torch.allclose(rate(raw, raw.lift(THETA)[None])[:, :2], -g / (g.abs() + 0.1) - 0.3 * THETA)
    made = AdamFlow.of_descent(HIMMELBLAU, lr=1e-3)
    assert made.memory == pytest.approx((0.01, 1.0)) and made.eps == 1e-8


def test_a_dead_coordinate_stays_and_harms_nobody():
    field = AdamFlow(lambda w: 0.5 * w[0] ** 2, (0.1, 1.0))  # no gradient in w[1]
    z = torch.tensor([[1.0, 2.0, 0.5, 0.0, 0.2, 0.0, 0.3]], dtype=torch.float64)
    assert torch.isfinite(rate(field, z)).all() and float(rate(field, z)[0, 1]) == 0.0
    assert torch.isfinite(field.linearize(z)(torch.ones_like(z))).all()
    z[0, 4] = -1e-12  # what a solver's stage may do
    assert not torch.isnan(rate(field, z)).any()


def test_the_sign_flow_moves_at_unit_speed_and_arrives_on_time():
    bowl = zoo.named("quadratic", eigenvalues=[1.0, 25.0]).field
    field = SignFlow(bowl)
    z0 = torch.tensor([0.7, -2.0], dtype=torch.float64)
    assert torch.allclose(judge(field, z0, 0.6), torch.tensor([0.1, -1.4]).double(), atol=1e-12)
    assert rate(field, torch.zeros(1, 2).double()).tolist() == [[0.0, 0.0]]
    soft = SignFlow(bowl, softness=1e-4)
    near, late = judge(soft, z0, 0.699), judge(soft, z0, 0.705)
    assert float(near[0]) == pytest.approx(0.001, abs=1e-5)
    assert 0 < float(late[0]) < 1e-3  # it has arrived at t = |x0| = 0.7 and stays


def test_the_normalised_flow_runs_along_the_gradient_flow_by_arc_length():
    bowl = zoo.named("quadratic", eigenvalues=[1.0, 3.0])
    field = NormalisedFlow(bowl.field)
    z0 = torch.tensor([1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(rate(field, torch.randn(9, 2).double()).norm(dim=1), torch.ones(9).double())
    s = torch.linspace(0, 1, 20001, dtype=torch.float64)
    curve = bowl.solution(z0, s)
    length = float((curve[1:] - curve[:-1]).norm(dim=1).sum())
    end = judge(field, z0, length)
    assert torch.allclose(end, curve[-1], atol=1e-8)
    assert not torch.allclose(judge(field, z0, 1.01 * length), curve[-1], atol=1e-3)
    assert rate(field, torch.zeros(1, 2).double()).tolist() == [[0.0, 0.0]]
    # From (3, 4) straight to the origin of ½‖θ‖², at t = 5 sharp; softened it never quite arrives.
    round_ = zoo.named("quadratic", eigenvalues=[1.0, 1.0]).field
    z = judge(NormalisedFlow(round_), torch.tensor([3.0, 4.0]).double(), 4.0)
    assert torch.allclose(z, torch.tensor([0.6, 0.8]).double(), atol=1e-11)
    soft = judge(NormalisedFlow(round_, softness=1.0), torch.tensor([3.0, 4.0]).double(), 5.0)
    assert 0.1 < float(soft.norm()) < 1.0 and math.isfinite(float(soft.norm()))


def test_numbers_that_make_no_flow_are_refused():
    for make in (
        lambda: AdamFlow(HIMMELBLAU, (0.0, 1.0)), lambda: AdamFlow(HIMMELBLAU, (0.1, 1.0), eps=0.0),
        lambda: RMSPropFlow(HIMMELBLAU, -1.0), lambda: SignFlow(HIMMELBLAU, softness=-1.0),
        lambda: NormalisedFlow(HIMMELBLAU, softness=-1.0),
    ):  # fmt: skip
        with pytest.raises(FieldError, match="needs"):
            make()
