"""The zoo against itself and against SciPy: every closed form solves its field, every law is kept, every minimum is one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import lambertw
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields import zoo
from tests.river.fields.checks import difference, jacobian, jacobian_gap, judge, rate, rows_gap, slope_of_value

MEMBERS = {name: zoo.named(name) for name in zoo.NAMES}
SOLVED = [name for name, member in MEMBERS.items() if member.solution is not None]
LAWFUL = [name for name, member in MEMBERS.items() if member.conserved(member.start[None])]
POTENTIAL = [name for name, member in MEMBERS.items() if member.field.potential]


def scattered(member: zoo.ZooField, n: int = 5, seed: int = 0) -> Tensor:
    """Points inside the member's box, away from where one-dimensional members are singular."""
    made = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(member.box, dtype=torch.float64).T
    theta = low + (high - low) * (0.1 + 0.8 * torch.rand(n, len(low), generator=made, dtype=torch.float64))
    if member.name in ("sqrt", "abs-sqrt"):
        theta = theta.sign() * theta.abs().clamp(min=0.3)
    return theta


def test_the_names_are_those_asked_for_and_each_member_is_whole():
    assert tuple(sorted(zoo.NAMES)) == zoo.NAMES
    assert set(zoo.NAMES) >= {
        "quadratic", "saddle", "w1w2", "rosenbrock", "himmelblau", "beale", "styblinski-tang", "double-well",
        "bilinear-game", "dirac-gan", "linear-net", "diagonal-net", "logistic-one", "exp-one", "sqrt", "abs-sqrt", "blow-up",
    }  # fmt: skip
    for name, member in MEMBERS.items():
        assert member.name == name and member.text and zoo.about(name)
        assert member.field.size == len(member.start) == len(member.box) == len(member.field.box)
        assert all(low < high for low, high in member.box) and member.time > 0
        assert torch.equal(member.field.start(), member.start) and member.start.dtype == torch.float64
        assert str(member).startswith(name)


def test_unknown_names_and_parameters_are_told_with_close_matches():
    with pytest.raises(UsageError, match=r"did you mean rosenbrock\?"):
        zoo.named("rosenbrok")
    with pytest.raises(UsageError, match=r"It has: abs-sqrt, beale"):
        zoo.named("nothing like it at all")
    with pytest.raises(UsageError, match=r"did you mean eigenvalues\?"):
        zoo.named("quadratic", eigenvalue=[1.0])
    with pytest.raises(UsageError, match="takes none"):
        zoo.named("himmelblau", size=3)
    assert zoo.named("Styblinski_Tang").name == "styblinski-tang"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("quadratic", {"size": 0}), ("quadratic", {"eigenvalues": []}), ("w1w2", {"target": -1.0}),
        ("styblinski-tang", {"size": 0}), ("dirac-gan", {"penalty": -1.0}), ("linear-net", {"widths": [3]}),
        ("linear-net", {"width": 1}), ("linear-net", {"product": 0.0}), ("diagonal-net", {"alpha": 0.0}),
        ("diagonal-net", {"nonzero": 9}),
    ],
)  # fmt: skip
def test_parameters_that_make_no_field_are_refused(name, parameters):
    with pytest.raises(FieldError, match=r"expected|needs|got"):
        zoo.named(name, **parameters)


@pytest.mark.parametrize("name", POTENTIAL)
def test_the_rate_is_minus_the_slope_of_the_loss(name):
    member = MEMBERS[name]
    theta = scattered(member)
    got, want = rate(member.field, theta), -slope_of_value(member.field, theta)
    assert float((got - want).norm() / want.norm()) < 1e-8
    assert float((1.001 * got - want).norm() / want.norm()) > 1e-4  # a rate wrong by 0.1 % is seen


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_jacobian_is_the_slope_of_the_rate_and_rows_stay_apart(name):
    member = MEMBERS[name]
    theta = scattered(member)
    assert jacobian_gap(member.field, theta) < 1e-7
    assert jacobian_gap(member.field, theta, wrong=0.01) > 1e-6
    assert rows_gap(member.field, theta) < 1e-12
    if member.field.potential:
        j = jacobian(member.field, theta[:1])[0]
        assert torch.allclose(j, j.T, atol=1e-10)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_points_are_left_as_they_are_and_float32_stays_float32(name):
    member = MEMBERS[name]
    theta = scattered(member).float()
    before = theta.clone()
    at = member.field.evaluate(theta)
    at.rate.add_(1.0)
    assert torch.equal(theta, before) and at.rate.dtype == torch.float32
    assert at.value is None or at.value.dtype == torch.float32


@pytest.mark.parametrize("name", SOLVED)
def test_closed_forms_begin_at_the_start_and_solve_the_field(name):
    member = MEMBERS[name]
    start = member.start[None].repeat(4, 1) if name == "linear-net" else scattered(member, 4)
    zero = torch.zeros(4, dtype=torch.float64)
    assert torch.allclose(member.solution(start, zero), start, rtol=1e-12, atol=1e-13)
    for t in (0.05, 0.2):
        time = torch.full((4,), t, dtype=torch.float64)
        speed = difference(lambda at: member.solution(start, at), time, torch.ones_like(time), 1e-4)
        want = rate(member.field, member.solution(start, time))
        assert torch.isfinite(want).all()
        assert float((speed - want).norm() / want.norm()) < 1e-8, t
        slow = difference(lambda at: member.solution(start, 0.999 * at), time, torch.ones_like(time), 1e-4)
        assert float((slow - want).norm() / want.norm()) > 1e-4  # a clock wrong by 0.1 % is seen


@pytest.mark.parametrize("name", [n for n in SOLVED if n not in ("sqrt", "abs-sqrt", "blow-up")])
def test_closed_forms_agree_with_scipy_over_the_whole_time(name):
    member = MEMBERS[name]
    want = judge(member.field, member.start, member.time)
    got = member.solution(member.start, member.time)
    assert float((got - want).norm() / want.norm()) < 3e-9
    early = member.solution(member.start, 0.99 * member.time)
    if name != "quadratic":  # which has come to rest
        gap = float((early - want).norm() / want.norm())
        assert gap > 1e-7 or float(rate(member.field, want[None]).norm()) < 1e-6


@pytest.mark.parametrize("name", LAWFUL)
def test_conserved_quantities_do_not_change_along_the_rate(name):
    member = MEMBERS[name]
    theta = scattered(member, 3)
    along = rate(member.field, theta)
    across = torch.randn(theta.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for law in member.conserved(theta):
        change = difference(lambda at, law=law: member.conserved(at)[law], theta, along / along.norm(), 1e-4)
        assert float(change.abs().max()) < 1e-9, law
        other = difference(lambda at, law=law: member.conserved(at)[law], theta, across / across.norm(), 1e-4)
        assert float(other.abs().max()) > 1e-3, law  # but does along another direction


@pytest.mark.parametrize("name", [n for n in zoo.NAMES if MEMBERS[n].minima.numel() or MEMBERS[n].saddles.numel()])
def test_minima_and_saddles_are_what_they_are_called(name):
    member = MEMBERS[name]
    for points, kind in ((member.minima, "minimum"), (member.saddles, "saddle")):
        for point in points:
            if name == "abs-sqrt":
                assert float(member.field.value(point[None])) == 0.0
                continue
            h = -torch.linalg.eigvalsh(jacobian(member.field, point[None])[0])
            assert float(rate(member.field, point[None]).norm()) < 1e-8 * float(h.abs().max()), (kind, point)
            assert (float(h.min()) > -1e-9) if kind == "minimum" else (float(h.min()) < 0 < float(h.max())), (
                kind,
                point,
            )
    if name == "himmelblau":
        assert len(member.minima) == 4 == len(member.saddles)
        near = member.minima + 1e-3  # the control: a point a thousandth off is no rest
        assert float(rate(member.field, near).norm(dim=1).min()) > 1e-3


def test_known_numbers():
    well = MEMBERS["double-well"].field
    assert torch.allclose(
        -torch.diagonal(jacobian(well, torch.tensor([[1.0, 0.0]]).double())[0]), torch.tensor([2.0, 1.0]).double()
    )
    himmelblau = MEMBERS["himmelblau"]
    top = torch.tensor([[-0.270844590667, -0.923038522305]], dtype=torch.float64)
    assert float(rate(himmelblau.field, top).norm()) < 1e-5 < float(rate(himmelblau.field, top + 1e-3).norm())
    assert float(himmelblau.field.value(top)) == pytest.approx(himmelblau.facts["largest"], abs=1e-5)
    tang = MEMBERS["styblinski-tang"]
    assert float(tang.field.value(tang.minima[:1])) == pytest.approx(-39.16616570377142 * 2, rel=1e-13)
    assert MEMBERS["bilinear-game"].facts["growth"](0.1, 100).item() == pytest.approx(1.644631821844, rel=1e-12)
    square = zoo.named("w1w2", target=2.0)
    assert float(square.facts["final_sharpness"](torch.tensor([3.0, 0.1], dtype=torch.float64))) == pytest.approx(
        9.839720524486, rel=1e-12
    )


def test_quadratics_know_gradient_descent():
    bowl = zoo.named("quadratic", eigenvalues=[3.0])
    theta, one = torch.ones(1, dtype=torch.float64), 1.0
    for k, ratio in ((100, 0.9974), (200, 0.9987), (400, 0.9994)):
        gap = (bowl.facts["descent"](theta, one / k, k) - bowl.solution(theta, one)) * k
        assert float(gap / bowl.facts["leading_error"](theta, one)) == pytest.approx(ratio, abs=6e-5)
    assert float(gap / bowl.facts["leading_error"](theta, 2 * one)) != pytest.approx(ratio, abs=0.1)


@pytest.mark.parametrize(
    "start",
    [
        [1.9, -1.2],
        [-1.2, 1.9],
        [0.3, 0.3],
        [0.4, -0.4],
        [-0.5, -0.5],
        [0.0, 0.7],
        [-2.0, 0.0],
        [-1.5, 1.0],
        [1e-9, 2e-9],
    ],
)
def test_the_two_weights_flow_as_the_formula_says_from_everywhere(start):
    member = zoo.named("w1w2", target=1.5)
    z0 = torch.tensor(start, dtype=torch.float64)
    for t in (0.3, 2.0):
        want = judge(member.field, z0, t, atol=1e-22)
        assert float((member.solution(z0, t) - want).abs().max()) < 1e-10
        assert float((zoo.named("w1w2", target=1.51).solution(z0, t) - want).abs().max()) > 1e-6 * float(z0.abs().max())
    assert torch.isfinite(member.solution(z0, 1e4)).all()


@pytest.mark.parametrize(("depth", "balanced"), [(1, True), (2, True), (3, True), (4, True), (3, False)])
def test_linear_nets_keep_their_balance_and_their_modes_go_alone(depth, balanced):
    member = zoo.named("linear-net", depth=depth, product=0.05 if balanced else 0.4, balanced=balanced, seed=1)
    end = judge(member.field, member.start, 1.0)
    both = torch.stack([member.start, end])
    for law, kept in member.conserved(both).items():
        assert float((kept[0] - kept[1]).abs().max()) < 1e-11, law
    assert len(member.conserved(both)) == depth - 1
    u = member.facts["modes"](both)
    if not balanced:
        assert float(member.conserved(both)["balance of layers 1 and 2"].abs().max()) > 1e-2
        return
    speed = torch.einsum("k,kr->r", torch.tensor([-1.0, 1.0]).double(), member.facts["modes"](torch.stack([
        end - 1e-5 * rate(member.field, end[None])[0], end + 1e-5 * rate(member.field, end[None])[0]]))) / 2e-5  # fmt: skip
    assert torch.allclose(speed, member.facts["mode_rate"](u[1], torch.tensor([3.0, 1.5]).double()), rtol=1e-7)
    assert not torch.allclose(speed, member.facts["mode_rate"](u[1], torch.tensor([3.0, 1.6]).double()), rtol=1e-2)
    if depth == 2:
        assert torch.allclose(member.solution(member.start, 1.0), end, atol=1e-11)
        one = member.facts["mode"](torch.tensor(1e-3, dtype=torch.float64), torch.tensor(3.0).double(), 2.0)
        assert float(one) == pytest.approx(2.945720698616, rel=1e-12)


def test_layers_may_have_any_width():
    member = zoo.named("linear-net", widths=[4, 7, 2], singular_values=[2.0], product=0.1)
    assert member.field.size == 4 * 7 + 7 * 2
    assert torch.allclose(member.solution(member.start, 1.3), judge(member.field, member.start, 1.3), atol=1e-10)


def test_diagonal_nets_stay_in_the_row_space():
    member = zoo.named("diagonal-net", alpha=0.1)
    x, beta = member.facts["X"](), member.facts["beta"]
    end = judge(member.field, member.start, 30.0)
    inside = torch.asinh(beta(end) / (2 * 0.1**2))
    left = inside - torch.linalg.pinv(x) @ (x @ inside)
    assert float(left.norm() / inside.norm()) < 1e-10
    other = torch.asinh(beta(end) / (2 * 0.11**2))  # the wrong α
    assert float((other - torch.linalg.pinv(x) @ (x @ other)).norm() / other.norm()) > 1e-3


def test_logistic_against_lambert():
    member = MEMBERS["logistic-one"]
    for w0, t in ((-1.0, 500.0), (-30.0, 10.0), (5.0, 0.1), (-1.0, 1e-9), (20.0, 1e6)):
        c = t + w0 + math.exp(w0)
        got = float(member.solution(torch.tensor([w0], dtype=torch.float64), t))
        # e^c overflows beyond c = 700, where w = c − W(e^c) is read off w + e^w = c instead
        want = c - float(lambertw(math.exp(c)).real) if c < 500 else np.log(c) if c > 1e5 else None
        assert got + math.exp(got) == pytest.approx(c, rel=1e-12)
        if want is not None and c < 500:
            assert got == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert float(member.solution(torch.tensor([-1.0], dtype=torch.float64), 500.0)) == pytest.approx(
        6.20084792298, rel=1e-12
    )
    assert float(MEMBERS["exp-one"].solution(torch.tensor([0.0], dtype=torch.float64), 999.0)) == pytest.approx(
        math.log(1000.0), rel=1e-13
    )


def test_ill_posed_members_say_where_they_end():
    one = torch.tensor([1.0], dtype=torch.float64)
    blow = MEMBERS["blow-up"]
    assert float(blow.facts["explosion"](2 * one)) == 0.5
    assert float(blow.solution(one, 0.999)) == pytest.approx(1000.0)
    assert math.isnan(float(blow.solution(one, 1.001))) and float(blow.solution(-one, 9.0)) == pytest.approx(-0.1)
    root = MEMBERS["sqrt"]
    assert float(root.facts["until"](-one)) == 2.0 and math.isinf(float(root.facts["until"](one)))
    assert math.isnan(float(root.solution(-one, 2.1))) and float(root.solution(one, 2.0)) == pytest.approx(4.0)
    fall = MEMBERS["abs-sqrt"]
    assert float(fall.facts["arrival"](one)) == pytest.approx(4 / 3)
    assert float(fall.solution(one, 1.4)) == 0.0 and float(fall.solution(-one, 1.0)) == pytest.approx(
        -(0.25 ** (2 / 3))
    )


def test_games_turn_and_a_penalty_draws_them_in():
    free, drawn = zoo.named("dirac-gan"), zoo.named("dirac-gan", penalty=1.0)
    z0 = free.start
    assert float(judge(free.field, z0, 20.0).norm()) == pytest.approx(math.sqrt(2), rel=1e-10)
    assert float(judge(drawn.field, z0, 40.0).norm()) < 1e-3
    h = torch.linalg.eigvals(jacobian(drawn.field, torch.zeros(1, 2, dtype=torch.float64))[0])
    assert float(h.real.max()) == pytest.approx(-0.5) and not drawn.conserved(z0[None])
    cycle = MEMBERS["van-der-pol"]
    out = solve_ivp(
        lambda _, z: rate(cycle.field, torch.from_numpy(z.copy())[None])[0].numpy(), (0, 60), [0.1, 0.0], method="DOP853",
        rtol=1e-11, atol=1e-12, events=lambda _, z: z[1],
    )  # fmt: skip
    assert abs(out.y_events[0][-1][0]) == pytest.approx(cycle.facts["amplitude"], rel=1e-8)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_ten_thousand_drops_are_one_call(name):
    member = MEMBERS[name]
    theta = scattered(member, 10_000)
    at = member.field.evaluate(theta)
    assert at.rate.shape == theta.shape and torch.isfinite(at.rate).all()
    alone = member.field.evaluate(theta[7:8])
    assert torch.allclose(alone.rate[0], at.rate[7], rtol=1e-12, atol=1e-12)
