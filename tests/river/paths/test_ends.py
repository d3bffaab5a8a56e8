"""Why a path ends: budget, cancellation, blow-up, a point that is not Lipschitz, an unreachable tolerance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gradientflow.river import Moment, Path, Potential, VectorField, flow

D = torch.float64
QUARTIC = Potential(lambda w: (w**4).sum() / 4 + 0.5 * (w[0] - 2 * w[1]) ** 2, start=[2.0, -1.5], name="quartic")


def same_up_to(part: Path, whole: Path) -> bool:
    n = len(part)
    return torch.equal(part.times, whole.times[:n]) and torch.equal(part.theta, whole.theta[:n])  # type: ignore[arg-type,index]


# ── budget and cancellation ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["auto", "rkc2", "tsrkc3", "dp54"])
def test_a_spent_budget_returns_what_there_is_and_says_what_to_change(method: str):
    whole = flow(QUARTIC, 10.0, method=method)
    part = flow(QUARTIC, 10.0, method=method, max_gradients=60)
    assert whole.status.reason == "reached"
    assert part.status.reason == "budget" and not part.status.ok
    assert "max_gradients" in part.status.remedy and "rtol" in part.status.remedy
    assert 60 <= part.cost.equivalents < 60 + 40  # no more than the step that was under way
    assert 1 < len(part) < len(whole) and same_up_to(part, whole)
    assert torch.equal(part.final, part.theta[-1])  # type: ignore[index]
    error = part.certificates.named("error")
    assert error.ok is None and "budget" in error.text


def test_checking_does_not_overdraw_the_budget():
    free = flow(QUARTIC, 3.0)
    solving = free.cost.equivalents - free.cost.checking
    for limit in (solving + 1, 1.5 * solving, 4 * solving):
        assert flow(QUARTIC, 3.0, max_gradients=limit).cost.equivalents <= limit + 40
    assert free.cost.checking > 0


def test_a_budget_of_seconds():
    part = flow(QUARTIC, 1e6, rtol=1e-9, max_seconds=0.05)
    assert part.status.reason == "budget" and "max_seconds" in part.status.remedy
    assert 0 < float(part.times[-1]) < 1e6
    assert flow(QUARTIC, 1.0, max_seconds=1e6).status.reason == "reached"


def test_a_budget_of_nothing_returns_the_start():
    for limits in ({"max_gradients": 0}, {"max_seconds": 0.0}):
        path = flow(QUARTIC, 1.0, **limits)
        assert path.status.reason == "budget" and path.times.tolist() == [0.0]
        assert torch.equal(path.final, torch.tensor([2.0, -1.5], dtype=D))


def test_a_callback_that_returns_true_cancels():
    moments: list[Moment] = []

    def enough(moment: Moment) -> bool:
        moments.append(moment)
        return len(moments) == 7

    whole, part = flow(QUARTIC, 10.0), flow(QUARTIC, 10.0, callback=enough)
    assert part.status.reason == "cancelled" and len(moments) == 7
    assert len(part) == 8 and same_up_to(part, whole)
    times = [m.t for m in moments]
    assert times == sorted(times) and times[-1] == float(part.times[-1])
    assert all(m.t_end == 10.0 and m.loss is not None and m.gradients > 0 and m.drops == 1 for m in moments)
    assert flow(QUARTIC, 10.0, callback=lambda m: None).status.reason == "reached"
    assert flow(QUARTIC, 10.0, progress=lambda m: True).status.reason == "reached"  # only callback= may stop


def interrupted(after: int) -> Potential:
    calls = [0]

    def loss(w: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == after:
            raise KeyboardInterrupt
        return (w**4).sum() / 4 + 0.5 * (w[0] - 2 * w[1]) ** 2

    return Potential(loss, start=[2.0, -1.5], name="quartic")


@pytest.mark.parametrize("after", [15, 40, 77])
def test_an_interrupt_keeps_what_there_is(after: int):
    whole, part = flow(QUARTIC, 10.0), flow(interrupted(after), 10.0)
    assert part.status.reason == "cancelled" and "interrupted" in part.status.text
    assert len(part) < len(whole) and same_up_to(part, whole)


def test_an_interrupt_during_the_check_leaves_the_path_whole():
    whole = flow(QUARTIC, 10.0)
    solving = int(whole.cost.equivalents - whole.cost.checking)
    path = flow(interrupted(solving + 20), 10.0)
    assert path.status.reason == "reached" and torch.equal(path.final, whole.final)
    assert path.certificates.named("error").ok is None and whole.certificates.named("error").ok is True


# ── singular ends ────────────────────────────────────────────────────────────────────────────────────────────────────


def time_told(path: Path) -> float:
    return float(path.status.text.split("t ≈ ")[1].split(";")[0])


@pytest.mark.parametrize("method", ["auto", "dp54"])
def test_blow_up_is_timed_to_six_digits(method: str):
    path = flow(VectorField(lambda z: z**2, start=[1.0]), 2.0, rtol=1e-7, method=method, max_gradients=20_000)
    assert path.status.reason == "blow-up" and not path.status.ok
    assert time_told(path) == pytest.approx(1.0, abs=5e-7)
    assert time_told(path) != pytest.approx(1.00001, abs=5e-7)
    assert "before" in path.status.remedy


def test_blow_up_of_a_loss_that_is_not_bounded_below():
    cubic = Potential(lambda w: -(w**3).sum() / 3, start=[1.0, -1.0])
    path = flow(cubic, 2.0, rtol=1e-7)
    assert path.status.reason == "blow-up"
    assert time_told(path) == pytest.approx(1.0, abs=5e-7)
    assert flow(cubic, 2.0, start=[-1.0, -1.0]).status.reason == "reached"  # negative control: from there it does not


def test_fast_growth_is_no_blow_up():
    path = flow(VectorField(lambda z: 5 * z, start=[1.0]), 20.0, rtol=1e-6)
    assert path.status.reason == "reached"
    assert float(path.final) == pytest.approx(math.exp(100.0), rel=1e-3)


def test_a_step_that_is_too_long_is_not_called_a_blow_up_of_the_flow():
    quartic = Potential(lambda w: (w**4).sum() / 4, start=[2.0, 1.0])
    path = flow(quartic, 10.0, method="euler", step=1.0)
    assert not path.status.ok
    assert path.status.reason != "blow-up"  # the flow itself goes to 0
    assert "step" in path.status.remedy
    assert not path.certificates.ok
    assert flow(quartic, 10.0, method="euler", step=0.01).status.reason == "reached"


def test_a_point_that_is_not_lipschitz_is_told():
    root = Potential(lambda w: w.abs().sqrt().sum(), start=[1.0])  # reaches 0 at t = 4/3, infinitely steep
    path = flow(root, 2.0)
    assert path.status.reason == "not-lipschitz" and "Lipschitz" in path.status.text
    assert float(path.times[-1]) == pytest.approx(4 / 3, rel=1e-3)
    before = flow(root, 1.2)  # negative control: up to before that point all is well
    assert before.status.reason == "reached" and before.certificates.ok
    assert float(before.final) == pytest.approx((1 - 0.75 * 2 * 1.2 / 2) ** (2 / 3), rel=1e-3)


def test_a_path_that_leaves_the_domain_ends_there():
    # −√(1−x): the path reaches x = 1 with infinite speed at a finite time; beyond, loss and gradient are NaN.
    edge = Potential(lambda w: torch.sqrt(1 - w).sum(), start=[0.0])
    path = flow(edge, 5.0)
    assert path.status.reason in ("not-finite", "not-lipschitz", "blow-up") and not path.status.ok
    assert float(path.final) <= 1.0
    assert float(path.times[-1]) == pytest.approx(4 / 3, rel=1e-2)


def test_a_loss_that_is_not_a_number_is_never_stepped_onto():
    # log has a NaN value and a finite slope on the other side of its pole, where a long step would land.
    barrier = Potential(lambda w: (w - torch.log(w)).sum(), start=[1e-7, 1.0])
    path = flow(barrier, 2.0)
    assert path.loss is not None and bool(torch.isfinite(path.loss).all())
    assert path.status.reason == "reached" and bool((path.final > 0).all())
    exact = math.sqrt(2 * 2.0)  # an early stage of w' = 1/w − 1; the fixed point is 1
    assert 0.5 < float(path.final[0]) < min(1.0, exact)


def test_products_that_are_not_finite_do_not_spoil_the_spectrum_for_good():
    # Beside the edge of the domain a difference may step over it: √ has a NaN gradient there.
    root = Potential(lambda w: (w - torch.sqrt(w)).sum(), start=[1e-7, 1e-7, 1.0])
    path = flow(root, 2.0, certify=False)
    assert path.status.reason == "reached"
    assert float(path.sharpness[-1]) == pytest.approx(float((0.25 * path.final**-1.5).max()), rel=0.2)
    assert path.cost.equivalents < 400


# ── tolerances that cannot be had ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["auto", "dp54", "rkc2"])
def test_a_tolerance_below_round_off_is_told(method: str):
    single = Potential(lambda w: (w**4).sum() / 2, start=torch.tensor([1.0, 2.0]))
    path = flow(single, 2.0, rtol=1e-15, method=method, max_gradients=4000, certify=False)
    assert path.status.reason == "stuck"
    assert "float32" in path.status.remedy and "rtol" in path.status.remedy
    assert flow(single, 2.0, rtol=1e-3, method=method, certify=False).status.reason == "reached"  # negative control


# ── the trivial and the extreme ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["auto", "rkc2", "rkmc2", "tsrkc3", "dp54", "dp87", "rk4", "euler"])
def test_a_field_of_zeros_stays(method: str):
    for field in (VectorField(lambda z: 0 * z, start=[1.0, 0.0]), Potential(lambda w: 0 * w.sum(), start=[1.0, 0.0])):
        for atol in (None, 0.0):
            path = flow(field, 3.0, method=method, atol=atol)
            assert path.status.reason == "reached" and path.final.tolist() == pytest.approx([1.0, 0.0], abs=1e-14)
            assert path.certificates.ok


@pytest.mark.parametrize("method", ["auto", "rkc2", "rkmc2", "tsrkc3", "dp54", "dp87", "rk4", "euler"])
def test_a_constant_field_is_followed_and_its_tensor_is_left_alone(method: str):
    wind = torch.tensor([1.0, -2.0], dtype=D)
    path = flow(VectorField(lambda z: wind, start=[0.0, 1.0]), 3.0, method=method)
    assert wind.tolist() == [1.0, -2.0]
    assert path.status.reason == "reached"
    torch.testing.assert_close(path.final, torch.tensor([3.0, -5.0], dtype=D), rtol=1e-9, atol=1e-9)


def test_a_long_stay_at_a_minimum():
    for method in ("auto", "dp54", "rkc2", "rk4"):
        path = flow(lambda w: 0.5 * (w**2).sum(), 300.0, start=[1.0, 2.0], method=method)
        assert path.status.reason == "reached" and float(path.final.norm()) < 1e-3
    path = flow(lambda w: 0.5 * ((w - 3) ** 2).sum(), 300.0, start=[1.0, 2.0])
    assert path.status.reason == "reached" and path.certificates.ok


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1.0, 1e4])
def test_times_tiny_and_long(t: float):
    path = flow(lambda w: 0.5 * (w**2).sum(), t, start=[1.0, 2.0])
    assert path.status.reason == "reached" and float(path.times[-1]) == t
    assert path.certificates.ok
    exact = math.exp(-t) * torch.tensor([1.0, 2.0], dtype=D)
    torch.testing.assert_close(path.final, exact, rtol=0, atol=2e-3)
    if t == 1.0:
        assert not torch.allclose(path.final, 1.02 * exact, rtol=0, atol=2e-3)


def test_the_flow_does_not_depend_on_the_units_of_theta():
    """L(θ/s) flows s times what L does, s² times as slow."""

    def bent(w: Tensor) -> Tensor:
        return torch.cosh(w[0] + w[1]) + 50 * (w[0] - w[1]) ** 2

    plain = flow(bent, 1.0, start=[1.0, 0.2], atol=1e-6, certify=False)
    for s in (1e-6, 1e-3, 1e6):
        scaled = flow(lambda w, s=s: bent(w / s), s * s, start=[s * 1.0, s * 0.2], atol=s * 1e-6, certify=False)
        torch.testing.assert_close(scaled.final / s, plain.final, rtol=2e-3, atol=0)
        assert scaled.cost.equivalents < 2 * plain.cost.equivalents


@pytest.mark.parametrize("method", ["dp54", "rkc2", "rk4", "euler"])
def test_a_fixed_step_is_kept(method: str):
    path = flow(QUARTIC, 0.1, method=method, step=0.01, rtol=1e-6, certify=False)
    torch.testing.assert_close(path.step[1:], torch.full((10,), 0.01, dtype=D), rtol=1e-9, atol=0)
    free = flow(QUARTIC, 0.1, method="dp54", certify=False)
    assert not torch.allclose(free.step[1:], free.step[1].expand(len(free) - 1))
