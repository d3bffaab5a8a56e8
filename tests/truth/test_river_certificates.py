"""The checks that paths carry, on paths known to be right and on paths known to be wrong.

Ordinary adaptive solvers follow a wrong flow on a small network without noticing: their error estimate is blind to stiff
directions at rough tolerances. Our checks, fed with such a path, must flag it; fed with ours, must not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchdiffeq
from scipy.integrate import solve_ivp
from sklearn.datasets import load_digits
from torch import Tensor

from gradientflow.river import Certificates, Keep, LossField, Potential, VectorField, certify, flow
from gradientflow.river.fields.base import Evaluation

D = torch.float64
TOLERANCES = {"rtol": 1e-3, "atol": 1e-4}


class Digits(Potential):
    """½‖out − onehot‖² of a tanh network 64-30-30-10 on 500 digits that are not centred; `calls` counts gradients."""

    def __init__(self) -> None:
        digits = load_digits()
        x = torch.tensor(digits.data[:500] / 8, dtype=D)
        y = torch.nn.functional.one_hot(torch.tensor(digits.target[:500]), 10).to(D)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [torch.nn.Linear(a, b, dtype=D) for a, b in ((64, 30), (30, 30), (30, 10))]
        weights = [p.detach() for layer in layers for p in layer.parameters()]
        sizes = [w.numel() for w in weights]

        def loss(theta: Tensor) -> Tensor:
            a, b, c, d, e, f = (part.view_as(w) for part, w in zip(theta.split(sizes), weights, strict=True))
            linear = torch.nn.functional.linear
            out = linear(torch.tanh(linear(torch.tanh(linear(x, a, b)), c, d)), e, f)
            return 0.5 * ((out - y) ** 2).sum(1).mean()

        super().__init__(loss, start=torch.cat([w.reshape(-1) for w in weights]), name="digits")
        self.calls = 0

    def evaluate(self, theta: Tensor) -> Evaluation:
        self.calls += theta.shape[0]
        return super().evaluate(theta)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def rate(field: Potential) -> Callable[[float, np.ndarray], np.ndarray]:
    return lambda _, theta: field.evaluate(torch.tensor(theta)[None]).rate[0].numpy()


def names(certificates: Certificates) -> set[str]:
    return {c.name for c in certificates.broken}


# ── the wrong paths of others ────────────────────────────────────────────────────────────────────────────────────────


def test_torchdiffeq_follows_a_wrong_flow_and_is_flagged(digits: Digits):
    start, times = digits.start(), torch.linspace(0, 10, 41, dtype=D)
    assert start is not None
    with torch.no_grad():
        theirs = torchdiffeq.odeint(
            lambda _, theta: digits.evaluate(theta[None]).rate[0], start, times, method="dopri5", **TOLERANCES
        )
    ours = flow(digits, 10.0, keep=Keep(at=times, theta=True))
    assert ours.status.reason == "reached" and ours.certificates.ok and ours.theta is not None
    way = float((ours.final - start).norm())
    assert float((theirs[-1] - ours.final).norm()) > 0.1 * way  # it is wrong indeed: about a quarter of the way gone
    flagged = certify(digits, times, theirs)
    assert {"monotone", "residual"} <= names(flagged), str(flagged)
    passed = certify(digits, times, ours.theta)
    assert passed.ok, str(passed)


def test_scipy_lets_the_loss_rise_and_is_flagged(digits: Digits):
    start = digits.start()
    assert start is not None
    theirs = solve_ivp(rate(digits), (0, 39.0), start.numpy(), method="RK45", **TOLERANCES)
    assert theirs.success  # as far as it knows
    times, theta = torch.tensor(theirs.t), torch.tensor(theirs.y.T)
    flagged = certify(digits, times, theta)
    assert {"monotone", "energy"} <= names(flagged), str(flagged)
    ours = flow(digits, 39.0, keep=Keep(at=times[::4], theta=True), rtol=1e-3)
    passed = certify(digits, times[::4], ours.theta)  # type: ignore[arg-type]
    assert passed.ok, str(passed)
    assert ours.loss is not None and float(digits.value(theta[-1:])) > 1.02 * float(ours.loss[-1])


# ── our own ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "rtol", "t"),
    [
        ("auto", 1e-2, 100.0), ("auto", 1e-3, 100.0), ("auto", 1e-4, 10.0),
        ("rkc2", 1e-2, 10.0), ("rkc2", 1e-3, 100.0), ("rkc2", 1e-4, 10.0),
        ("rkmc2", 1e-2, 10.0), ("rkmc2", 1e-3, 10.0), ("rkmc2", 1e-4, 5.0),
        ("tsrkc3", 1e-2, 100.0), ("tsrkc3", 1e-3, 10.0), ("tsrkc3", 1e-4, 5.0),
    ],
)  # fmt: skip
def test_our_own_paths_hold(digits: Digits, method: str, rtol: float, t: float):
    path = flow(digits, t, method=method, rtol=rtol)
    assert path.status.reason == "reached"
    assert {c.name for c in path.certificates} >= {"monotone", "energy", "stability", "error"}
    assert path.certificates.ok and path.certificates.named("error").ok is True, str(path.certificates)
    if t == 100.0:  # known from DOP853 at rtol 1e-11: sharpness 26.049, loss 0.0467524
        assert path.loss is not None and float(path.loss[-1]) == pytest.approx(0.0467524, rel=2 * rtol + 1e-3)
        assert float(path.sharpness[-1]) == pytest.approx(26.049, rel=0.05)


@pytest.mark.parametrize(("method", "good", "bad"), [("euler", 0.01, 0.2), ("rk4", 0.1, 0.25)])
def test_a_fixed_step_that_is_too_long_is_flagged(digits: Digits, method: str, good: float, bad: float):
    """h·λ > 2 for Euler, > 2.785 for RK4, with λ about 13 by then."""
    path = flow(digits, 12.0, method=method, step=bad)
    assert {"energy", "stability"} <= names(path.certificates), str(path.certificates)
    assert flow(digits, 4.0, method=method, step=good).certificates.ok  # negative control


# ── what checks of points must see, and must not ─────────────────────────────────────────────────────────────────────

BOWL = Potential(lambda w: 0.5 * (w**2).sum())
TURN = VectorField(lambda z: torch.stack([-z[1], z[0]]))
TIMES = torch.linspace(0, 10, 101, dtype=D)


def circle(t: Tensor) -> Tensor:
    return torch.stack([t.cos(), t.sin()], 1)


def test_exact_paths_pass_and_slightly_wrong_ones_do_not():
    shrunk = torch.exp(-TIMES)[:, None] * torch.tensor([1.0, 2.0], dtype=D)
    assert certify(BOWL, TIMES, shrunk).ok and certify(TURN, TIMES, circle(TIMES)).ok
    for wrong in (shrunk**1.1, shrunk + 0.1 * TIMES[:, None], 1 / (1 + TIMES)[:, None] * torch.ones(1, 2, dtype=D)):
        assert not certify(BOWL, TIMES, wrong).ok
    for factor in (1.05, 0.9):
        assert not certify(TURN, TIMES, circle(factor * TIMES)).ok


@pytest.mark.parametrize("when", [0.35, 3.05, 6.65, 9.85])
def test_a_jump_between_two_points_is_seen_wherever_it_is(when: float):
    late = TIMES + 0.5 * (when < TIMES)
    assert "residual" in names(certify(TURN, TIMES, circle(late)))
    fallen = torch.exp(-TIMES * 0.2)[:, None] * torch.tensor([1.0, 2.0], dtype=D)
    slow = Potential(lambda w: 0.1 * (w**2).sum())
    assert certify(slow, TIMES, fallen).ok
    fallen = fallen * (1 - 0.5 * (when < TIMES))[:, None]
    assert not certify(slow, TIMES, fallen).ok


def test_exact_paths_of_two_modes_pass_however_sparse_the_points():
    """A fast mode that is gone before the second point: ∫‖∇L‖² cannot be had from the points, and must not be held against them."""
    for fast in (10.0, 100.0, 1e3, 1e4):
        for weight in (1e-3, 1e-2):
            for spacing in (0.02, 0.1, 0.3):
                for end in (0.1, 1.0, 6.0):
                    if end < 2 * spacing:
                        continue
                    rates, first = torch.tensor([0.5, fast], dtype=D), torch.tensor([1.0, weight], dtype=D)
                    times = torch.linspace(0, end, int(end / spacing) + 1, dtype=D)
                    theta = first * torch.exp(-rates * times[:, None])
                    two = Potential(lambda w, rates=rates: 0.5 * (rates * w * w).sum())
                    found = certify(two, times, theta, checks=0)
                    assert found.ok, (fast, weight, spacing, end, str(found))
                    if spacing == 0.02:
                        continue
                    wrong = certify(two, times, first * torch.exp(-0.5 * rates * times[:, None]), checks=1)
                    assert not wrong.ok, (fast, weight, spacing, end)


def test_points_that_are_not_finite_are_flagged_and_not_raised():
    theta = torch.exp(-TIMES)[:, None] * torch.ones(1, 2, dtype=D)
    theta[60:] = float("nan")
    found = certify(BOWL, TIMES, theta)
    assert not found.ok and {"monotone", "energy", "residual"} <= names(found)
    runaway = theta.clone()
    runaway[60:] = float("inf")
    assert not certify(BOWL, TIMES, runaway).ok
    runaway_turn = circle(TIMES)
    runaway_turn[40:] = float("nan")
    assert not certify(TURN, TIMES, runaway_turn).ok


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t, w: (t[:1], w[:1]),
        lambda t, w: (t.flip(0), w),
        lambda t, w: (t[:5], w[:6]),
        lambda t, w: (torch.cat([t[:1], t[:1]]), w[:2]),
        lambda t, w: (t, w[:, 0]),
    ],
    ids=["one point", "descending", "not as many", "the same time twice", "no axis of parameters"],
)
def test_points_that_are_no_path_are_refused(wrong: Any):
    from gradientflow.errors import UsageError

    times, theta = wrong(TIMES, circle(TIMES))
    with pytest.raises(UsageError, match=r"(?s)times.*expected|expected.*times"):
        certify(TURN, times, theta)


def test_a_plain_function_and_plain_numbers_are_taken():
    shrunk = torch.exp(-TIMES)[:, None] * torch.tensor([1.0, 2.0], dtype=D)
    assert certify(lambda w: 0.5 * (w**2).sum(), TIMES, shrunk).ok  # type: ignore[arg-type]
    assert certify(BOWL, TIMES.tolist(), shrunk.tolist()).ok  # type: ignore[arg-type]
    assert certify(BOWL, TIMES.numpy(), shrunk.numpy()).ok  # type: ignore[arg-type]
    assert not certify(BOWL, TIMES.tolist(), (shrunk**1.1).tolist()).ok  # type: ignore[arg-type]


# ── kinks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def few_examples(activation: torch.nn.Module) -> LossField:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, y = torch.randn(8, 3, dtype=D), torch.randn(8, 1, dtype=D)
        model = torch.nn.Sequential(torch.nn.Linear(3, 16), activation, torch.nn.Linear(16, 1)).double()
    return LossField(model, torch.nn.functional.mse_loss, (x, y))


def test_a_check_that_kinks_break_says_so_and_how_far_off_the_end_is():
    path = flow(few_examples(torch.nn.ReLU()), 20.0)
    broken = path.certificates.named("energy")
    assert broken.ok is False and "The loss has kinks (ReLU)" in broken.text
    unknown = "not estimated" in path.certificates.named("error").text
    assert ("how far off the end is was not estimated" if unknown else "The end is off by about") in broken.text
    smooth = flow(few_examples(torch.nn.Tanh()), 5.0)
    assert smooth.certificates.ok and "kink" not in str(smooth.certificates)  # negative control


def test_a_path_that_is_wrong_for_another_reason_is_not_laid_to_kinks():
    """Steps that are too long break the same checks, on a network with kinks as on one without."""
    for activation in (torch.nn.ReLU(), torch.nn.Tanh()):
        path = flow(few_examples(activation), 20.0, method="euler", step=0.6)
        assert path.certificates.named("energy").ok is False and "kink" not in str(path.certificates)


def test_jumps_are_counted_where_the_gradient_jumps_and_nowhere_else():
    """|x| + ½(y − 3)²: along x = 0 the path slides. With √(x² + 1) for |x| there is no kink."""
    more = {"start": [0.5, 0.0], "method": "rkc2", "rtol": 1e-2, "max_gradients": 3000}  # so many let it slide on
    kink = flow(lambda w: w[0].abs() + 0.5 * (w[1] - 3) ** 2, 1.5, **more)
    bend = flow(lambda w: (w[0] ** 2 + 1).sqrt() + 0.5 * (w[1] - 3) ** 2, 1.5, **more)
    assert bend.certificates.ok and "kink" not in str(bend.certificates)
    assert not kink.certificates.ok and "kink (absolute value)" in str(kink.certificates)


# ── the estimate of the error ────────────────────────────────────────────────────────────────────────────────────────

STIFF = torch.logspace(-1, 2.5, 12, dtype=D)
PROBLEMS: dict[str, tuple[Callable[[Tensor], Tensor], list[float], float]] = {
    "stiff quadratic": (lambda w: 0.5 * (STIFF * w * w).sum(), [1.0] * 12, 3.0),
    "two-layer linear": (lambda w: 0.5 * (3 - w[0] * w[1]) ** 2, [0.1, 0.02], 1.5),
    "Rosenbrock": (lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [-1.2, 1.0], 0.3),
    "logistic": (lambda w: torch.nn.functional.softplus(-w).sum(), [-1.0, 0.5], 500.0),
    "stiff quartic": (lambda w: (w**4).sum() / 4 + 0.5 * (w[0] - 20 * w[1]) ** 2, [2.0, -1.5], 2.0),
}


@functools.cache
def end_of(problem: str) -> Tensor:
    loss, start, t = PROBLEMS[problem]
    field = Potential(loss)
    solved = solve_ivp(rate(field), (0, t), np.array(start), method="LSODA", rtol=1e-12, atol=1e-13)
    return torch.tensor(solved.y[:, -1])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    ("method", "rtol"),
    [("auto", 1e-3), ("rkc2", 1e-3), ("rkmc2", 1e-3), ("tsrkc3", 1e-3)],
)
def test_the_estimated_error_is_within_a_factor_five_of_the_true_one(problem: str, method: str, rtol: float):
    loss, start, t = PROBLEMS[problem]
    path = flow(loss, t, start=start, method=method, rtol=rtol, keep=Keep(theta=True))
    assert path.theta is not None
    way = float((path.theta - path.start).norm(dim=1).max())
    true = float((path.final - end_of(problem)).norm()) / way
    told = path.certificates.named("error").value
    assert true / 5 <= told <= 5 * true, (told, true)
    assert path.certificates.ok, str(path.certificates)


def test_where_the_path_amplifies_errors_beyond_bounds_the_checks_say_so():
    """Along a ridge neighbouring paths part as e^(2t), here by 10⁷: what a step may err decides where the path ends."""
    ridge = Potential(lambda w: w[0] + 2.0 * torch.cos(w[1]))
    exact = 2 * math.atan(math.tan(0.5e-6) * math.exp(16.0))
    for method in ("auto", "rkc2", "dp54"):
        path = flow(ridge, 8.0, start=[0.0, 1e-6], method=method)
        wrong = abs(float(path.final[1]) - exact) / float((path.final - path.start).norm())
        error = path.certificates.named("error")
        assert error.ok is not True or (wrong < error.bound and error.value > 0.2 * wrong), (wrong, str(error))
    valley = flow(ridge, 8.0, start=[0.0, 3.0])  # negative control: there they come together
    assert valley.certificates.ok and valley.certificates.named("error").ok is True


def test_the_sharpness_at_the_end_is_that_of_the_end():
    scale = torch.tensor([1.0, 3.0, 9.0, 27.0], dtype=D)
    quartic = Potential(lambda w: (scale * w**4).sum() / 12, start=[1.0, 1.0, 1.0, 1.0])
    for method in ("auto", "rkc2", "dp54"):
        for t in (1.0, 3.7, 30.0):
            path = flow(quartic, t, method=method, certify=False)
            truth = float((scale * path.final**2).max())
            assert float(path.sharpness[-1]) == pytest.approx(truth, rel=1e-3)
            assert float(path.sharpness[0]) != pytest.approx(truth, rel=0.05)  # negative control: it was another before
