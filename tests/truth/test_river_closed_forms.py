"""Flows whose answer is known in advance, solved by gf.flow and held to the last stated digit; a wrong answer must fail."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import j1
from torch import Tensor

from gradientflow.river import Keep, certify, flow
from gradientflow.river.fields import zoo
from gradientflow.river.fields.adaptive import SignFlow
from gradientflow.river.fields.base import Field, Potential, VectorField
from gradientflow.river.fields.geometry import NewtonFlow
from gradientflow.river.fields.momentum import HeavyBall, Nesterov

TIGHT = {"rtol": 1e-12, "atol": 1e-14, "certify": False}
TIGHTEST = {"rtol": 1e-13, "atol": 1e-15}


def doubles(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def end(field: Field, start: Tensor, t: float, **options) -> Tensor:
    path = flow(field, t, start=start, **(TIGHT | options))
    assert path.status.ok, path.status
    return path.final


def rate(field: Field, theta: Tensor) -> Tensor:
    return field.evaluate(theta[None]).rate[0]


def hessian(field: Field, theta: Tensor) -> Tensor:
    product = field.linearize(theta[None])
    return torch.stack([-product(unit[None])[0] for unit in torch.eye(len(theta), dtype=theta.dtype)])


# ── 1, 2, 3: quadratics and two-layer linear nets ────────────────────────────────────────────────────────────────────


def test_a_quadratic_decays_at_its_eigenvalues():
    lams, t = doubles(20.0, 3.0, 1.0, 0.1), 0.3
    bowl = zoo.named("quadratic", eigenvalues=lams)
    got = end(bowl.field, bowl.start, t)
    assert torch.allclose(got, torch.exp(-lams * t), rtol=1e-9, atol=0)
    assert not torch.allclose(got, torch.exp(-1.0001 * lams * t), rtol=1e-9, atol=0)


def test_balanced_two_layer_net_is_a_logistic_curve():
    field, a = zoo.named("w1w2", target=3.0).field, math.sqrt(1e-3)
    product = float(end(field, doubles(a, a), 2.0, **TIGHTEST).prod())
    assert product == pytest.approx(2.945720698616, abs=1e-12)
    assert float(end(field, doubles(a, 1.001 * a), 2.0).prod()) != pytest.approx(2.945720698616, abs=1e-6)


@pytest.mark.parametrize("start", [(1.3, 0.2), (0.4, -1.1), (-2.0, 0.5)])
def test_unbalanced_two_layer_net(start):
    member, z0, t = zoo.named("w1w2", target=1.7), doubles(*start), 0.8
    z = end(member.field, z0, t)
    c = start[0] ** 2 - start[1] ** 2
    assert float(z[0] ** 2 - z[1] ** 2) == pytest.approx(c, abs=1e-11)
    for balance, close in ((c, True), (0.99 * c, False)):  # u̇ = √(c² + 4u²)(s − u), solved as one equation by SciPy
        alone = solve_ivp(
            lambda _, u, b=balance: math.sqrt(b * b + 4 * u[0] ** 2) * (1.7 - u), (0, t), [start[0] * start[1]],
            method="DOP853", rtol=1e-12, atol=1e-14,
        ).y[0, -1]  # fmt: skip
        assert (abs(float(z.prod()) - float(alone)) < 1e-10) is close
    assert torch.allclose(z, member.solution(z0, t), rtol=0, atol=1e-11)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_deep_balanced_nets_learn_their_modes_alone(depth):
    member, t = zoo.named("linear-net", depth=depth, product=0.05), 1.2
    theta = end(member.field, member.start, t)
    got = member.facts["modes"](theta)
    for n, close in ((depth, True), (depth + 0.05, False)):  # u̇ = n u^{2−2/n}(s − u) per singular value (Saxe 2013)
        alone = solve_ivp(
            lambda _, u, n=n: n * u ** (2 - 2 / n) * (np.array([3.0, 1.5]) - u), (0, t), [0.05, 0.05], method="DOP853",
            rtol=1e-12, atol=1e-14,
        ).y[:, -1]  # fmt: skip
        assert torch.allclose(got, torch.from_numpy(alone), rtol=0, atol=1e-10) is close
    if depth == 2:
        assert torch.allclose(theta, member.solution(member.start, t), rtol=0, atol=1e-10)


def test_final_sharpness_of_the_flow():
    field = zoo.named("w1w2", target=2.0).field
    sharpness = float(torch.linalg.eigvalsh(hessian(field, end(field, doubles(3.0, 0.1), 5.0, **TIGHTEST)))[-1])
    assert sharpness == pytest.approx(9.839720524486, abs=1e-12)
    early = float(torch.linalg.eigvalsh(hessian(field, end(field, doubles(3.0, 0.1), 0.1)))[-1])
    assert early != pytest.approx(9.839720524486, abs=1e-3)


# ── 4: diagonal nets ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_diagonal_net_stays_in_the_row_space_of_its_data():
    alpha = 0.1
    member = zoo.named("diagonal-net", alpha=alpha)
    x, y, beta = member.facts["X"](), member.facts["y"](), member.facts["beta"]

    def along(z: Tensor) -> Tensor:  # the net, and ∫r dt beside it
        u, v, _ = torch.split(z, [6, 6, 3])
        r = x @ (u * u - v * v) - y
        return torch.cat([-2 * u * (x.T @ r), 2 * v * (x.T @ r), r])

    start = torch.cat([member.start, torch.zeros(3, dtype=torch.float64)])
    z = end(VectorField(along, start=start), start, 6.0)
    theta, total = z[:12], z[12:]
    assert torch.allclose(beta(theta), 2 * alpha**2 * torch.sinh(-4 * x.T @ total), rtol=0, atol=1e-10)
    assert not torch.allclose(beta(theta), 2 * alpha**2 * torch.sinh(-3.999 * x.T @ total), rtol=0, atol=1e-10)
    theta = end(member.field, member.start, 30.0)
    assert torch.allclose(theta[:6] * theta[6:], torch.full((6,), alpha**2, dtype=torch.float64), rtol=1e-10)
    for a, close in ((alpha, True), (1.01 * alpha, False)):
        dual = torch.asinh(beta(theta) / (2 * a**2))
        left = dual - torch.linalg.pinv(x) @ (x @ dual)
        assert (float(left.norm() / dual.norm()) < 1e-9) is close


# ── 5: one example, and separable data ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "t", "want", "digits"),
    [("logistic-one", 500.0, 6.20084792298, 1e-11), ("exp-one", 1000.0, 6.908123090772, 1e-12)],
)
def test_one_example_grows_like_the_logarithm(name, t, want, digits):
    field = zoo.named(name).field
    assert float(end(field, doubles(-1.0), t, **TIGHTEST)) == pytest.approx(want, abs=digits)
    assert float(end(field, doubles(-0.99), t)) != pytest.approx(want, abs=1e-7)


def test_separable_data_go_to_the_widest_margin_like_one_over_ln_t():
    x = torch.tensor([[1.0, 0.5], [0.3, -1.2], [2.0, 2.0]], dtype=torch.float64)
    angles = torch.linspace(-math.pi, math.pi, 2_000_001, dtype=torch.float64)
    margins = (torch.stack([angles.cos(), angles.sin()], dim=1) @ x.T).amin(dim=1)
    gamma, best = float(margins.max()), float(angles[margins.argmax()])
    times = torch.logspace(2, 6, 5, dtype=torch.float64)
    path = flow(
        Potential(lambda w: torch.exp(-(x @ w)).sum()), 1e6, start=doubles(0.0, 0.0), rtol=1e-8, atol=1e-10,
        keep=Keep(at=times, theta=True), certify=False,
    )  # fmt: skip
    w = path.theta[-5:]
    assert torch.allclose(path.times[-5:], times)
    scaled = path.loss[-5:] * times * gamma**2
    assert abs(float(scaled[-1]) - 1) < 0.01 < abs(float(scaled[-1]) * gamma**2 - 1)  # L·t → 1/γ², and not 1/γ⁴
    ratio = w.norm(dim=1) / torch.log(times) * gamma
    assert abs(float(ratio[-1]) - 1) < abs(float(ratio[0]) - 1) and abs(float(ratio[-1]) - 1) < 0.2
    for angle, close in (
        (best, True),
        (best + 0.02, False),
    ):  # w − ŵ ln t/γ converges, so the direction's error is O(1/ln t)
        rest = w - torch.log(times)[:, None] / gamma * doubles(math.cos(angle), math.sin(angle))
        moved = (rest[1:] - rest[:-1]).norm(dim=1)
        assert (float(moved[-1]) < 0.02 and bool((moved[1:] < moved[:-1]).all())) is close


# ── 6: what is conserved ─────────────────────────────────────────────────────────────────────────────────────────────


INPUTS, TARGETS, TOKENS, WANTED = seeded(10, 2), torch.sin(seeded(10, seed=1)), seeded(5, 4), seeded(5, 4, seed=1)
FEATURES, LABELS, ROWS = seeded(8, 4), torch.arange(8) % 3, seeded(6, 5)


def relu_net(w: Tensor) -> Tensor:
    a, b, c = torch.split(w, [8, 4, 4])
    out = torch.relu(INPUTS @ a.reshape(4, 2).T + b) @ c
    return 0.5 * ((out - TARGETS) ** 2).mean()


def relu_law(w: Tensor) -> Tensor:
    a, b, c = torch.split(w, [8, 4, 4])
    return (a.reshape(4, 2) ** 2).sum(1) + b**2 - c**2


def attention(w: Tensor) -> Tensor:
    q, k = w[:12].reshape(4, 3), w[12:].reshape(4, 3)
    weights = torch.softmax(TOKENS @ q @ k.T @ TOKENS.T, dim=1)
    return ((weights @ TOKENS - WANTED) ** 2).sum()


def attention_law(w: Tensor) -> Tensor:
    q, k = w[:12].reshape(4, 3), w[12:].reshape(4, 3)
    return q.T @ q - k.T @ k


def softmax_layer(w: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(FEATURES @ w.reshape(4, 3), LABELS)


def scale_free(w: Tensor) -> Tensor:
    return ((ROWS @ (w / w.norm()) - 1) ** 2).sum()


LAWS: list[tuple[str, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int, float]] = [
    ("ReLU, per neuron", relu_net, relu_law, 16, 1e-7),  # kinks cost a solver some digits
    ("attention, WqᵀWq − WkᵀWk", attention, attention_law, 24, 1e-10),
    ("softmax layer, Σ_c W_c", softmax_layer, lambda w: w.reshape(4, 3).sum(1), 12, 1e-11),
    ("scale-free weights, ‖w‖", scale_free, torch.linalg.vector_norm, 5, 1e-10),
]


@pytest.mark.parametrize(("loss", "law", "size", "bound"), [case[1:] for case in LAWS], ids=[case[0] for case in LAWS])
def test_what_an_architecture_keeps(loss, law, size, bound):
    start = 0.7 * seeded(size, seed=2)
    final = end(Potential(loss), start, 3.0)
    assert float((final - start).norm()) > 0.1
    assert float((law(final) - law(start)).abs().max()) < bound
    inert = HeavyBall(Potential(loss), damping=1.0)  # with momentum none of them is kept (2405.12888) …
    moved = inert.position(end(inert, inert.lift(start), 3.0)[None])[0]
    if loss is not softmax_layer:  # … but the linear one
        assert float((law(moved) - law(start)).abs().max()) > 1e-3


@pytest.mark.parametrize(("depth", "balanced"), [(2, True), (3, False), (4, False)])
def test_linear_nets_keep_their_balance(depth, balanced):
    member = zoo.named("linear-net", depth=depth, balanced=balanced, product=0.05 if balanced else 0.5)
    final = end(member.field, member.start, 4.0)
    assert float((final - member.start).norm()) > 0.5
    for law, at_end in member.conserved(final[None]).items():
        assert float((at_end - member.conserved(member.start[None])[law]).abs().max()) < 1e-11, law
    aside = final + 1e-3 * seeded(len(final))
    off = [
        member.conserved(aside[None])[law] - member.conserved(final[None])[law] for law in member.conserved(aside[None])
    ]
    assert min(float(d.abs().max()) for d in off) > 1e-5


def test_a_linear_factorisation_of_rank_r_has_r_r_plus_1_over_2_laws():
    r = 3
    point = seeded(5 * r + 4 * r)

    def law(w: Tensor) -> Tensor:
        u, v = w[: 5 * r].reshape(5, r), w[5 * r :].reshape(4, r)
        return (u.T @ u - v.T @ v).reshape(-1)

    slopes = torch.func.jacrev(law)(point)
    assert int(torch.linalg.matrix_rank(slopes)) == r * (r + 1) // 2  # Marcotte, Gribonval & Peyré 2023
    for seed in range(4):  # kept for every loss of the product
        loss = Potential(
            lambda w, s=seed: (
                (w[: 5 * r].reshape(5, r) @ w[5 * r :].reshape(4, r).T - seeded(5, 4, seed=s)) ** 4
            ).sum()
        )
        assert float((slopes @ rate(loss, point)).abs().max()) < 1e-9 * float(rate(loss, point).norm() * slopes.norm())
    other = Potential(lambda w: (w**2 * seeded(27, seed=9)).sum())
    assert float((slopes @ rate(other, point)).abs().max()) > 1.0


def test_weight_decay_lets_the_balance_fade():
    decay, t = 0.3, 2.0
    shape = [(3, 4), (2, 3)]

    def parts(w: Tensor) -> list[Tensor]:
        return [p.reshape(s) for p, s in zip(torch.split(w, [12, 6]), shape, strict=True)]

    def balance(w: Tensor) -> Tensor:
        below, above = parts(w)
        return above.T @ above - below @ below.T

    target, start = seeded(2, 4, seed=5), seeded(18)
    field = Potential(lambda w: 0.5 * ((parts(w)[1] @ parts(w)[0] - target) ** 2).sum(), weight_decay=decay)
    final = balance(end(field, start, t))
    assert torch.allclose(final, math.exp(-2 * decay * t) * balance(start), rtol=0, atol=1e-10)
    assert not torch.allclose(final, math.exp(-decay * t) * balance(start), rtol=0, atol=1e-2)


# ── 7: energy ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
def test_the_loss_that_is_lost_is_the_squared_gradient_that_was_passed(rtol):
    base = zoo.named("himmelblau")
    slope = torch.func.grad(lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2)
    both = VectorField(
        lambda z: torch.cat([-slope(z[:2]), (slope(z[:2]) ** 2).sum()[None]]), start=doubles(0.0, 0.0, 0.0)
    )
    z = flow(both, 0.15, rtol=rtol, atol=rtol * 1e-2, certify=False).final
    lost = float(base.field.value(base.start[None]) - base.field.value(z[None, :2]))
    assert abs(float(z[2]) - lost) <= 10 * rtol * lost
    assert abs(1.01 * float(z[2]) - lost) > 10 * rtol * lost
    path = flow(base.field, 0.15, rtol=rtol, atol=rtol * 1e-2)
    assert bool((path.loss[1:] <= path.loss[:-1]).all()) and path.certificates.ok
    assert path.certificates.named("energy").ok and path.certificates.named("monotone").ok


def test_a_path_on_a_wrong_clock_breaks_the_energy_identity():
    bowl = zoo.named("quadratic", eigenvalues=[4.0, 1.0])
    times = torch.linspace(0, 2, 401, dtype=torch.float64)
    start = bowl.start.expand(401, 2)
    assert certify(bowl.field, times, bowl.solution(start, times)).ok
    wrong = certify(bowl.field, times, bowl.solution(start, 1.05 * times))
    assert wrong.named("energy").ok is False


# ── 9: inertia, Newton, games, signs ─────────────────────────────────────────────────────────────────────────────────


def test_nesterov_on_a_parabola_is_a_bessel_function():
    field = Nesterov(zoo.named("quadratic", eigenvalues=[4.0]).field)
    got = float(end(field, field.start(), 3.0, **TIGHTEST)[0])
    assert got == pytest.approx(-0.0922279527092, abs=1e-12) and got == pytest.approx(2 * j1(6.0) / 6.0, abs=1e-12)
    other = Nesterov(zoo.named("quadratic", eigenvalues=[4.0]).field, r=3.01)
    assert float(end(other, other.start(), 3.0)[0]) != pytest.approx(-0.0922279527092, abs=1e-5)


def test_along_the_newton_flow_the_gradient_fades_exponentially():
    base, z0 = zoo.named("himmelblau").field, doubles(4.0, 3.0)
    final = end(NewtonFlow(base), z0, 2.0)
    assert torch.allclose(rate(base, final), math.exp(-2.0) * rate(base, z0), rtol=1e-9)
    assert not torch.allclose(
        rate(base, end(NewtonFlow(base, damping=0.1), z0, 2.0)), math.exp(-2.0) * rate(base, z0), rtol=1e-4
    )


def test_the_bilinear_game_keeps_its_radius():
    game = zoo.named("bilinear-game")
    z = end(game.field, doubles(0.6, -0.8), 20.0)
    assert float(z.norm()) == pytest.approx(1.0, abs=1e-10)
    assert torch.allclose(z, game.solution(doubles(0.6, -0.8), 20.0), rtol=0, atol=1e-9)
    drawn = zoo.named("dirac-gan", penalty=0.01)
    assert float(end(drawn.field, drawn.start, 20.0).norm()) < 0.99 * math.sqrt(2)  # with a penalty it does not


def test_the_sign_flow_arrives_at_its_time():
    bowl = zoo.named("quadratic", eigenvalues=[1.0, 25.0]).field
    assert torch.allclose(end(SignFlow(bowl), doubles(0.7, -2.0), 0.69), doubles(0.01, -1.31), rtol=0, atol=1e-12)
    soft = SignFlow(bowl, softness=1e-5)
    assert abs(float(end(soft, doubles(0.7, -2.0), 0.71, rtol=1e-6, atol=1e-9)[0])) < 1e-4
    assert float(end(soft, doubles(0.7, -2.0), 0.65, rtol=1e-6, atol=1e-9)[0]) == pytest.approx(0.05, abs=1e-5)


# ── 10: linearised nets, and basins ──────────────────────────────────────────────────────────────────────────────────


def test_a_linearised_net_decays_by_its_kernel():
    j, y, f0, t = seeded(4, 9), seeded(4, seed=1), seeded(4, seed=2), 0.7
    k = j @ j.T
    theta = end(Potential(lambda w: 0.5 * ((f0 + j @ w - y) ** 2).sum()), torch.zeros(9, dtype=torch.float64), t)
    got = f0 + j @ theta
    assert torch.allclose(got, y + torch.linalg.matrix_exp(-k * t) @ (f0 - y), rtol=0, atol=1e-10)
    assert not torch.allclose(got, y + torch.linalg.matrix_exp(-1.001 * k * t) @ (f0 - y), rtol=0, atol=1e-6)


def test_basins_of_the_double_well_are_parted_by_a_line():
    well = zoo.named("double-well")
    for point, eigenvalues in (((0.0, 0.0), (-1.0, 1.0)), ((1.0, 0.0), (1.0, 2.0)), ((-1.0, 0.0), (1.0, 2.0))):
        assert torch.linalg.eigvalsh(hessian(well.field, doubles(*point))).tolist() == pytest.approx(eigenvalues)
    starts = torch.tensor(
        [[s * 10.0**-k, y] for s in (-1, 1) for k in range(5) for y in (-1.0, 0.7)], dtype=torch.float64
    )
    many = flow(well.field, 25.0, starts=starts, rtol=1e-8, atol=1e-12)
    assert torch.allclose(
        many.final, torch.stack([starts[:, 0].sign(), torch.zeros(20, dtype=torch.float64)], dim=1), atol=1e-6
    )
    on_the_line = flow(well.field, 25.0, start=doubles(0.0, 0.7), rtol=1e-8, atol=1e-12).final
    assert float(on_the_line.norm()) < 1e-6  # neither basin: the saddle
