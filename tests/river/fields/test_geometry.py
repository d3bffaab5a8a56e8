"""Mirror, natural and Newton flow: what each keeps by definition, and the dense and the iterative solve alike."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradientflow.errors import FieldError
from gradientflow.river.fields import geometry, zoo
from gradientflow.river.fields.adaptive import AdamFlow, RMSPropFlow, SignFlow
from gradientflow.river.fields.base import Potential
from gradientflow.river.fields.geometry import NaturalFlow, NewtonFlow
from gradientflow.river.fields.loss import LossField
from gradientflow.river.fields.metric import conjugate_gradients, dense, gauss_newton, network_gauss_newton
from gradientflow.river.fields.mirror import MAPS, MirrorFlow
from gradientflow.river.fields.modified import ModifiedFlow, PrincipalFlow
from gradientflow.river.fields.momentum import HeavyBall, Nesterov
from tests.river.fields.checks import difference, jacobian, jacobian_gap, judge, rate, rows_gap

PSI = {
    "entropy": lambda w: (w * torch.log(w) - w).sum(),
    "hyperbolic": lambda w: (w * torch.asinh(w / 0.5) - torch.sqrt(w * w + 0.25)).sum(),
    "p-norm": lambda w: (w.abs() ** 1.5).sum() / 1.5,
}
NUMBER = {"entropy": None, "hyperbolic": 0.5, "p-norm": 1.5}


def loss(w: torch.Tensor) -> torch.Tensor:
    return 0.5 * (w[0] - 2.0) ** 2 + (w[0] * w[1] - 0.5) ** 2 + 0.1 * w[2] ** 4 - w[2]


BASE = Potential(loss, start=[0.3, 0.5, 0.2])
INSIDE = torch.tensor([[0.3, 0.5, 0.2], [1.2, 0.1, 0.7]], dtype=torch.float64)


@pytest.mark.parametrize("name", PSI)
def test_a_named_map_is_the_flow_of_its_psi(name):
    named, own = MirrorFlow(BASE, name, number=NUMBER[name]), MirrorFlow(BASE, PSI[name])
    assert torch.allclose(rate(named, INSIDE), rate(own, INSIDE), rtol=1e-12)
    gap = [jacobian_gap(field, INSIDE) for field in (named, own)]
    assert max(gap) < 1e-8 < jacobian_gap(named, INSIDE, wrong=1e-3)
    assert max(rows_gap(named, INSIDE), rows_gap(own, INSIDE)) < 1e-12
    # d/dt ∇ψ(θ) = −∇L, which is what mirror flow means
    mirror = torch.func.vmap(torch.func.grad(PSI[name]))
    speed = difference(mirror, INSIDE, rate(named, INSIDE), 1e-4)
    assert torch.allclose(speed, rate(BASE, INSIDE), rtol=1e-8)
    other = difference(mirror, INSIDE, rate(MirrorFlow(BASE, "hyperbolic", number=0.7), INSIDE), 1e-4)
    assert not torch.allclose(other, rate(BASE, INSIDE), rtol=1e-2)


def test_the_simplex_is_never_left():
    field = MirrorFlow(BASE, "simplex")
    theta = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    assert float(rate(field, theta).sum().abs()) < 1e-15 and jacobian_gap(field, theta) < 1e-8
    assert float(rate(MirrorFlow(BASE, "entropy"), theta).sum().abs()) > 1e-2
    end = judge(field, theta[0], 5.0)
    assert float(end.sum()) == pytest.approx(1.0, abs=1e-10) and float(end.min()) > 0
    assert float(field.conserved(theta)["sum"]) == 1.0


def test_a_diagonal_net_is_the_hyperbolic_mirror_flow_four_times_as_fast():
    net = zoo.named("diagonal-net", alpha=0.3)
    x, y, beta = net.facts["X"](), net.facts["y"](), net.facts["beta"]
    linear = Potential(lambda b: 0.5 * ((x @ b - y) ** 2).sum(), start=torch.zeros(6, dtype=torch.float64))
    want = beta(judge(net.field, net.start, 1.5))
    mirror, other = (MirrorFlow(linear, "hyperbolic", number=b) for b in (2 * 0.3**2, 0.3**2))
    assert torch.allclose(judge(mirror, mirror.start(), 6.0), want, atol=1e-10)
    assert not torch.allclose(judge(other, other.start(), 6.0), want, atol=1e-3)


def test_exponentiated_gradient_in_closed_form():
    field = MirrorFlow(lambda w: (w * torch.tensor([1.0, -0.5]).double()).sum(), "entropy")
    end = judge(field, torch.tensor([1.0, 2.0]).double(), 1.3)
    assert torch.allclose(end, torch.tensor([math.exp(-1.3), 2 * math.exp(0.65)], dtype=torch.float64), rtol=1e-11)


def test_maps_say_what_they_do_not_know():
    with pytest.raises(FieldError, match="did you mean 'entropy'"):
        MirrorFlow(BASE, "entropie")
    for name, number, word in (
        ("hyperbolic", 0.0, "β > 0"),
        ("p-norm", 3.0, "1 < p ≤ 2"),
        ("entropy", 2.0, "no number"),
    ):
        with pytest.raises(FieldError, match=word):
            MirrorFlow(BASE, name, number=number)
    with pytest.raises(FieldError, match="into your ψ"):
        MirrorFlow(BASE, PSI["entropy"], number=1.0)
    with pytest.raises(FieldError, match=r"lives on θ > 0.*hyperbolic"):
        MirrorFlow(Potential(loss, start=[0.3, -0.5, 0.2]), "entropy").start()
    with pytest.raises(FieldError, match="Σθ = 1"):
        MirrorFlow(BASE, "simplex").lift(INSIDE)
    outside = torch.tensor([[0.3, -0.5, 0.2]], dtype=torch.float64)
    assert torch.isnan(rate(MirrorFlow(BASE, "entropy"), outside)).any()  # outside its domain it gives no number
    assert set(MAPS) == {"entropy", "simplex", "hyperbolic", "p-norm"}


# ── natural and Gauss–Newton ─────────────────────────────────────────────────────────────────────────────────────────

X = torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.7, 0.8]], dtype=torch.float64)
Y = torch.tensor([0.2, -0.4, 0.9], dtype=torch.float64)


def outputs(w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(X @ w[:6].reshape(3, 2).T) @ w[6:9]


def squared(out: torch.Tensor) -> torch.Tensor:
    return 0.5 * ((out - Y) ** 2).sum()


def logistic(out: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softplus(out).sum() - (Y * out).sum()


NET = Potential(lambda w: squared(outputs(w)), start=torch.linspace(-1.0, 1.2, 9, dtype=torch.float64))
AT = torch.stack([NET.start(), NET.start().flip(0) * 0.7])


@pytest.mark.parametrize("kind", [squared, logistic])
def test_the_gauss_newton_product_is_the_matrix_written_out(kind):
    j = torch.func.vmap(torch.func.jacrev(outputs))(AT)
    q = torch.func.vmap(torch.func.hessian(kind))(torch.func.vmap(outputs)(AT))
    want = j.mT @ q @ j
    product = gauss_newton(outputs, kind)(AT)
    v = torch.randn(AT.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(product(v), torch.einsum("bij,bj->bi", want, v), atol=1e-12)
    assert torch.allclose(gauss_newton(outputs, kind)(AT[:1])(v[:1]), product(v)[:1], atol=1e-13)
    h = -jacobian(Potential(lambda w: kind(outputs(w))), AT)  # Gauss–Newton is not the Hessian
    assert float((h - want).norm() / h.norm()) > 0.05
    assert torch.allclose(dense(product, AT), want, atol=1e-12)


def test_the_natural_flow_shrinks_every_residual_alike():
    field = NaturalFlow(NET, gauss_newton(outputs, squared))
    first = outputs(NET.start()) - Y
    end = outputs(judge(field, field.start(), 0.8, rtol=1e-10, atol=1e-11)) - Y
    assert torch.allclose(end / first, torch.full((3,), math.exp(-0.8)).double(), rtol=1e-7)
    plain = outputs(judge(NET, NET.start(), 0.8)) - Y
    assert float((plain / first).std()) > 0.05
    assert jacobian_gap(NaturalFlow(NET, gauss_newton(outputs, squared), damping=0.1), AT) < 1e-6
    assert rows_gap(NaturalFlow(NET, gauss_newton(outputs, squared), damping=0.1), AT) < 1e-7


def test_conjugate_gradients_and_the_dense_solve_agree(monkeypatch):
    for damping in (0.0, 0.3):  # at 0 the matrix is singular, and the right side in its range
        field = NaturalFlow(NET, gauss_newton(outputs, squared), damping=damping)
        direct = rate(field, AT)
        monkeypatch.setattr(geometry, "DENSE", 0)
        assert torch.allclose(rate(field, AT), direct, rtol=1e-7, atol=1e-9)
        assert torch.allclose(rate(field, AT)[1:], rate(field, AT[1:]), rtol=1e-7)
        monkeypatch.undo()
    big = NaturalFlow(NET, gauss_newton(outputs, squared), damping=1e6)
    assert torch.allclose(rate(big, AT) * 1e6, rate(NET, AT), atol=1e-5)  # much damping: the gradient flow, slowed down


def test_conjugate_gradients_tell_what_they_cannot_do():
    d = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    with pytest.raises(FieldError, match=r"curvature .* Add damping"):
        conjugate_gradients(lambda v: d * v, torch.tensor([[0.1, 1.0]]).double(), tolerance=1e-8)
    d = torch.logspace(0, 14, 40, dtype=torch.float64)[None]
    with pytest.raises(FieldError, match="after 20 products"):
        conjugate_gradients(lambda v: d * v, torch.ones(1, 40).double(), tolerance=1e-12, most=20)
    zero = conjugate_gradients(lambda v: d * v, torch.zeros(1, 40).double(), tolerance=1e-12)
    assert not zero.any()


def test_a_metric_is_asked_for_and_taken_from_the_base_where_it_has_one():
    with pytest.raises(FieldError, match=r"offers no Gauss–Newton product.*gauss_newton\(outputs, loss\)"):
        NaturalFlow(NET)
    with pytest.raises(FieldError, match="damping ≥ 0"):
        NaturalFlow(NET, gauss_newton(outputs, squared), damping=-1.0)

    class Curved(Potential):
        def gauss_newton(self, theta):
            return gauss_newton(outputs, squared)(theta)

    own = Curved(lambda w: squared(outputs(w)), start=NET.start())
    assert torch.equal(rate(NaturalFlow(own), AT), rate(NaturalFlow(NET, gauss_newton(outputs, squared)), AT))


# ── Newton ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_along_the_newton_flow_the_gradient_fades_and_keeps_its_direction():
    base = zoo.named("himmelblau").field
    field = NewtonFlow(base)
    z0 = torch.tensor([4.0, 3.0], dtype=torch.float64)
    end = judge(field, z0, 2.0)
    assert torch.allclose(rate(base, end[None]), math.exp(-2.0) * rate(base, z0[None]), rtol=1e-9)
    damped = NewtonFlow(base, damping=5.0)
    assert not torch.allclose(
        rate(base, judge(damped, z0, 2.0)[None]), math.exp(-2.0) * rate(base, z0[None]), rtol=1e-2
    )
    assert jacobian_gap(field, z0[None]) < 1e-7 and rows_gap(field, torch.stack([z0, -z0])) < 1e-9


def test_newton_flow_is_drawn_to_saddles_and_needs_positive_curvature_when_large(monkeypatch):
    well = zoo.named("double-well").field
    near = torch.tensor([0.2, 0.5], dtype=torch.float64)
    assert float(judge(NewtonFlow(well), near, 12.0).norm()) < 1e-4  # the saddle
    direct = rate(NewtonFlow(well, damping=1.5), near[None])
    monkeypatch.setattr(geometry, "DENSE", 0)
    assert torch.allclose(rate(NewtonFlow(well, damping=1.5), near[None]), direct, rtol=1e-9)
    with pytest.raises(FieldError, match="Add damping"):
        rate(NewtonFlow(well), near[None])
    with pytest.raises(FieldError, match="damping ≥ 0"):
        NewtonFlow(well, damping=-0.1)


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def network(**options) -> tuple[LossField, nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    data = torch.randn(7, 3).double(), torch.arange(7) % 3
    return LossField(model, nn.functional.cross_entropy, data, **options), model, data


@pytest.mark.parametrize("options", [{}, {"microbatch": 3}, {"weight_decay": 0.2}], ids=["whole", "batches", "decay"])
def test_a_network_brings_its_own_metric(options):
    field, model, (x, y) = network(**options)
    theta = field.start()[None]

    def logits(w: torch.Tensor) -> torch.Tensor:
        return field.model(field.space.split(w), x)

    want = dense(gauss_newton(logits, lambda out: nn.functional.cross_entropy(out, y))(theta), theta)[0]
    want = want + options.get("weight_decay", 0.0) * torch.eye(len(want)).double()
    got = dense(network_gauss_newton(field)(theta), theta)[0]
    assert torch.allclose(got, want, atol=1e-12) and not torch.allclose(got, 1.01 * want, atol=1e-12)
    flow = NaturalFlow(field, damping=0.1)
    assert torch.allclose(
        rate(flow, theta)[0],
        torch.linalg.solve(want + 0.1 * torch.eye(len(want)).double(), rate(field, theta)[0]),
        rtol=1e-9,
    )
    assert set(flow.parameters(theta[0])) == {name for name, _ in model.named_parameters()}
    assert all(p.grad is None for p in model.parameters()) and flow.notes == field.notes


def test_the_flows_go_on_a_network():
    field, _, _ = network()
    theta = field.start()[None]
    for flow in (
        HeavyBall(field, 1.0), Nesterov(field), AdamFlow(field, (0.1, 1.0)), RMSPropFlow(field, 1.0), SignFlow(field),
        MirrorFlow(field, "hyperbolic"), NewtonFlow(field, damping=5.0), ModifiedFlow(field, 0.1),
        ModifiedFlow(field, 0.1, order=3), PrincipalFlow(field, 0.1, 2),
    ):  # fmt: skip
        z = flow.lift(theta)
        assert flow.size == z.shape[1] == len(flow.start())
        assert torch.isfinite(rate(flow, z)).all()
        if not isinstance(flow, SignFlow | Nesterov | AdamFlow | RMSPropFlow):  # whose start is a limit
            assert jacobian_gap(flow, z) < 1e-4
        two = torch.cat([z, z])
        assert torch.allclose(rate(flow, two), rate(flow, z).expand_as(two), rtol=1e-7, atol=1e-9)
