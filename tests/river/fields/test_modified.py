"""Gradient descent against the flows that should follow it: slopes 1, 2, 3 in η, and what must break them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradientflow.errors import FieldError
from gradientflow.river.fields import modified, zoo
from gradientflow.river.fields.base import Field, Potential, VectorField
from gradientflow.river.fields.modified import ModifiedFlow, PrincipalFlow, leading
from tests.river.fields.checks import jacobian, jacobian_gap, judge, rate, rows_gap, slope, slope_of_value

X = torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.7, 0.8]], dtype=torch.float64)
Y = torch.tensor([0.2, -0.4, 0.9], dtype=torch.float64)
NET = Potential(
    lambda w: 0.5 * ((torch.tanh(X @ w[:6].reshape(3, 2).T) @ w[6:9] - Y) ** 2).sum(),
    start=torch.linspace(-1.0, 1.2, 9, dtype=torch.float64), name="net",
)  # fmt: skip
AT = torch.stack([NET.start(), NET.start().flip(0) * 0.7])
LRS = [0.02, 0.01, 0.005]


def descend(base: Field, lr: float, t: float) -> torch.Tensor:
    theta = base.start()[None]
    for _ in range(round(t / lr)):
        theta = theta + lr * rate(base, theta)
    return theta[0]


def gaps(base: Field, make, t: float = 1.0) -> list[float]:
    return [float((judge(make(lr), base.start(), t) - descend(base, lr, t)).norm()) for lr in LRS]


def test_the_gap_to_descent_falls_with_slopes_1_2_3():
    assert slope(LRS, gaps(NET, lambda _: NET)) == pytest.approx(1.0, abs=0.05)
    assert slope(LRS, gaps(NET, lambda lr: ModifiedFlow(NET, lr))) == pytest.approx(2.0, abs=0.05)
    assert slope(LRS, gaps(NET, lambda lr: ModifiedFlow(NET, lr, order=3))) == pytest.approx(3.0, abs=0.05)


class Wrong(ModifiedFlow):
    """The third-order flow with one factor changed."""

    def __init__(
        self, base: Field, lr: float, *, first: float = 0.5, cubic: float = 1 / 3, third: float = 1 / 12
    ) -> None:
        super().__init__(base, lr, order=3)
        self.factors = first, cubic, third

    def combine(self, state, at):
        first, cubic, third = self.factors
        product = self.base.linearize(state)
        bent = product(at)
        return (
            at
            - first * self.lr * bent
            + self.lr**2 * (cubic * product(bent) + third * modified._second(self.base, state, at, at))
        )

    def evaluate(self, theta):
        at = self.base.evaluate(theta)
        return type(at)(self.combine(theta, at.rate), at.value)


@pytest.mark.parametrize(
    ("wrong", "order"),
    [({}, 3), ({"first": 0.6}, 1), ({"first": -0.5}, 1), ({"cubic": 0.0}, 2), ({"third": 0.3}, 2), ({"third": 0.0}, 2)],
)
def test_a_wrong_factor_breaks_the_slope(wrong, order):
    assert slope(LRS, gaps(NET, lambda lr: Wrong(NET, lr, **wrong))) == pytest.approx(order, abs=0.25)


def test_other_fields_too_euler_on_a_turning_field():
    turn = VectorField(lambda z: torch.stack([-z[1] + z[0] * z[1], z[0] - z[1] ** 2]), start=[0.5, 0.4])
    assert slope(LRS, gaps(turn, lambda lr: ModifiedFlow(turn, lr))) == pytest.approx(2.0, abs=0.1)
    assert slope(LRS, gaps(turn, lambda lr: ModifiedFlow(turn, lr, order=3))) == pytest.approx(3.0, abs=0.2)
    assert not ModifiedFlow(turn, 0.1).potential and ModifiedFlow(turn, 0.1).value(torch.ones(1, 2)) is None


def test_order_two_is_the_gradient_flow_of_a_regularised_loss():
    field = ModifiedFlow(NET, 0.1)
    assert field.potential and not ModifiedFlow(NET, 0.1, order=3).potential
    want = NET.value(AT) + 0.025 * (rate(NET, AT) ** 2).sum(1)
    assert torch.allclose(field.value(AT), want) and torch.allclose(field.evaluate(AT).value, want)
    assert torch.allclose(rate(field, AT), -slope_of_value(field, AT), atol=1e-9)
    assert not torch.allclose(rate(field, AT), -slope_of_value(ModifiedFlow(NET, 0.11), AT), atol=1e-4)
    j = jacobian(field, AT)
    assert torch.allclose(j, j.mT, atol=1e-8)  # −H of the regularised loss
    assert torch.equal(ModifiedFlow(NET, 0.1, order=3).value(AT), NET.value(AT))


@pytest.mark.parametrize("order", [2, 3])
def test_the_protocol_is_kept(order):
    field = ModifiedFlow(NET, 0.2, order=order)
    assert jacobian_gap(field, AT) < 1e-6 < jacobian_gap(field, AT, wrong=1e-3)
    assert rows_gap(field, AT) < 1e-8
    assert torch.equal(field.start(), NET.start())
    same = ModifiedFlow(NET, 0.0, order=order)
    assert torch.allclose(rate(same, AT), rate(NET, AT), atol=1e-15)


def test_third_order_is_refused_where_third_derivatives_are_wrong():
    warned = Potential(lambda w: (w**4).sum(), start=[1.0])
    warned.third_derivative_warning = "PyTorch's third derivatives through nn.LayerNorm are wrong."
    with pytest.raises(FieldError, match=r"through nn\.LayerNorm are wrong\. Use order=2"):
        ModifiedFlow(warned, 0.1, order=3)
    assert ModifiedFlow(warned, 0.1).order == 2 and ModifiedFlow(warned, 0.1, order=3, trust=True).order == 3
    warned.third_derivative_warning = None
    assert ModifiedFlow(warned, 0.1, order=3).order == 3
    with pytest.raises(FieldError, match="orders 2 and 3, got order=4"):
        ModifiedFlow(NET, 0.1, order=4)
    with pytest.raises(FieldError, match="learning rate ≥ 0"):
        ModifiedFlow(NET, -0.1)


# ── principal flow ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_principal_flow_is_exact_on_quadratics(k):
    lams, lr, t = [4.0, 1.0, 0.3], 0.2, 1.0
    bowl = zoo.named("quadratic", eigenvalues=lams)
    want = bowl.facts["descent"](bowl.start, lr, 5)
    end = judge(PrincipalFlow(bowl.field, lr, k), bowl.start, t)
    exact = (end - want).abs() / want.abs()
    assert float(exact[:k].max()) < 1e-8  # ηλ = 0.8, 0.2, 0.06: exact on the tracked ones
    if k < 3:
        assert float(exact[k:].min()) > 1e-6  # and only on them
    for other in (bowl.field, ModifiedFlow(bowl.field, lr), ModifiedFlow(bowl.field, lr, order=3)):
        assert float(((judge(other, bowl.start, t) - want).abs() / want.abs())[0]) > 0.1


def test_beyond_the_stability_limit_only_the_principal_flow_diverges():
    bowl, start = zoo.named("quadratic", eigenvalues=[10.0]), torch.ones(1, dtype=torch.float64)
    for lr in (0.15, 0.19, 0.21, 0.25):  # 2/λ = 0.2
        want = bowl.facts["descent"](start, lr, 8).abs()
        end = judge(PrincipalFlow(bowl.field, lr), start, 8 * lr)
        assert torch.allclose(end, want, rtol=1e-9)  # the envelope
        assert (float(end) > 1) == (lr > 0.2)
        assert float(judge(ModifiedFlow(bowl.field, lr), start, 8 * lr)) < 1  # regularised flow does not see it
    assert rate(PrincipalFlow(bowl.field, 0.1), start[None]).item() == -math.inf  # ηλ = 1: there in one step


def test_on_a_net_the_principal_flow_is_of_second_order():
    assert slope(LRS, gaps(NET, lambda lr: PrincipalFlow(NET, lr, 2))) == pytest.approx(2.0, abs=0.15)
    field = PrincipalFlow(NET, 0.1, 2)
    assert not field.potential and rows_gap(field, AT) < 1e-8
    assert jacobian_gap(field, AT) < 1e-6 < jacobian_gap(field, AT, wrong=1e-3)
    none = PrincipalFlow(NET, 0.1, eigenpairs=lambda theta: (theta.new_zeros(2, 0), theta.new_zeros(2, 0, 9)))
    assert torch.allclose(rate(none, AT), rate(ModifiedFlow(NET, 0.1), AT))  # none tracked: all is regularised flow


def test_eigenpairs_by_lanczos_are_those_of_the_matrix(monkeypatch):
    values, vectors = leading(NET, AT, 3)
    h = -jacobian(NET, AT)
    assert torch.allclose(values, torch.linalg.eigvalsh(h).flip(1)[:, :3])
    assert torch.allclose(vectors @ h @ vectors.mT, torch.diag_embed(values), atol=1e-12)
    dense = rate(PrincipalFlow(NET, 0.3, 3), AT)
    monkeypatch.setattr(modified, "DENSE", 0)
    found, _ = leading(NET, AT, 3)
    assert torch.allclose(found, values, rtol=1e-6, atol=1e-8)
    assert torch.allclose(rate(PrincipalFlow(NET, 0.3, 3), AT), dense, atol=1e-6)
    assert torch.equal(
        rate(PrincipalFlow(NET, 0.3, 3), AT), rate(PrincipalFlow(NET, 0.3, 3), AT)
    )  # one point, one rate


def test_the_factor_is_smooth_and_right():
    x = torch.tensor([-3.0, -1e-3, -1e-5, 0.0, 1e-9, 9.9e-5, 1.01e-4, 0.5, 0.999, 1.001, 2.0, 3.0], dtype=torch.float64)
    want = torch.tensor(
        [-1.0 if v == 0 else (math.log1p(-v) if v < 1 else math.log(v - 1)) / v for v in x.tolist()],
        dtype=torch.float64,
    )
    assert torch.allclose(modified._log_factor(x), want, rtol=1e-12)
    assert float(modified._log_factor(torch.tensor([2.0]))) == 0.0


def test_a_principal_flow_needs_a_loss_and_a_step():
    with pytest.raises(FieldError, match="no symmetric Hessian"):
        PrincipalFlow(zoo.named("bilinear-game").field, 0.1)
    for lr, k in ((0.0, 1), (0.1, 0)):
        with pytest.raises(FieldError, match="k ≥ 1"):
            PrincipalFlow(NET, lr, k)


@pytest.mark.parametrize("norm", [nn.Identity, lambda: nn.LayerNorm(4)])
def test_differences_of_hessian_products_are_right_even_where_autograd_is_not(norm):
    """Why the refusal above is about trust in the model's derivatives, not about this module's arithmetic."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), norm(), nn.Tanh(), nn.Linear(4, 1)).double()
    x, y = torch.randn(8, 3).double(), torch.randn(8, 1).double()
    names = [n for n, _ in net.named_parameters()]
    shapes = [p.shape for _, p in net.named_parameters()]
    theta = nn.utils.parameters_to_vector(net.parameters()).detach()[None]

    def loss(w: torch.Tensor) -> torch.Tensor:
        parts = torch.split(w, [s.numel() for s in shapes])
        named = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return 0.5 * ((torch.func.functional_call(net, named, (x,)) - y) ** 2).mean()

    field = Potential(loss, start=theta[0])
    u = torch.randn(theta.shape, dtype=torch.float64)
    ours = modified._second(field, theta, u, u)[0]
    # −d²/ds² ∇L(θ + su), from gradients alone, which PyTorch gets right
    h = 1e-3
    g = {i: rate(field, theta + i * h * u)[0] for i in (-2, -1, 0, 1, 2)}
    want = (-g[2] + 16 * g[1] - 30 * g[0] + 16 * g[-1] - g[-2]) / (12 * h * h)
    assert torch.allclose(ours, want, rtol=1e-4, atol=1e-6 * float(want.norm()))
