"""An ensemble is its drops, each solved alone: same points, same ends, each with a fate of its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.river import Keep, LossTarget, Potential, VectorField, When, flow, zoo
from gradientflow.river.solvers import METHODS

D = torch.float64
HIMMELBLAU = zoo.named("himmelblau").field


def drops(n: int, seed: int = 0, half: float = 5.0) -> Tensor:
    maker = torch.Generator().manual_seed(seed)
    return half * (2 * torch.rand(n, 2, generator=maker, dtype=D) - 1)


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_an_ensemble_is_a_loop_of_singles(method: str):
    starts, at = drops(4), [0.0, 0.02, 0.1, 0.2]
    asked: dict[str, Any] = {"method": method, "keep": Keep(at=at, theta=True), "certify": False}
    if method in ("rk4", "euler"):
        asked["step"] = 5e-3
    many = flow(HIMMELBLAU, 0.2, starts=starts, **asked)
    assert many.theta is not None and many.values is not None and many.loss is not None
    # auto refreshes the spectrum of drops together, which may move a step by a hair: to tolerance there
    near: dict[str, float] = {"rtol": 1e-10, "atol": 1e-10} if method != "auto" else {"rtol": 1e-3, "atol": 1e-3}
    for i, start in enumerate(starts):
        one = flow(HIMMELBLAU, 0.2, start=start, **asked)
        assert one.theta is not None and one.loss is not None
        torch.testing.assert_close(many.theta[:, i], one.theta, **near)
        torch.testing.assert_close(many.final[i], one.final, **near)
        torch.testing.assert_close(many.values[:, i], one.loss, rtol=1e-8 if method != "auto" else 1e-2, atol=1e-6)
        torch.testing.assert_close(many.rates[:, i], one.grad_norm, rtol=1e-6 if method != "auto" else 1e-2, atol=1e-6)
        assert float(many.loss[i]) == pytest.approx(float(HIMMELBLAU.value(one.final[None])), rel=1e-2, abs=1e-6)
        assert many.statuses[i].reason == one.status.reason == "reached"
    assert not torch.allclose(many.final[0], many.final[1], atol=1e-6)  # negative control: the drops differ


def test_the_rows_of_an_ensemble_do_not_depend_on_their_neighbours():
    starts = drops(6, seed=3)
    asked: dict[str, Any] = {"method": "rkc2", "certify": False}
    all_six, some = flow(HIMMELBLAU, 1.0, starts=starts, **asked), flow(HIMMELBLAU, 1.0, starts=starts[[4, 1]], **asked)
    torch.testing.assert_close(all_six.final[[4, 1]], some.final, rtol=1e-3, atol=1e-3)
    reversed_ = flow(HIMMELBLAU, 1.0, starts=starts.flip(0), **asked)
    torch.testing.assert_close(reversed_.final.flip(0), all_six.final, rtol=1e-9, atol=1e-9)


def test_drops_of_different_fates():
    """dz/dt = z² on the first coordinate: one runs away, one decays, one stands still, one meets an event."""
    field = VectorField(lambda z: torch.stack([z[0] ** 2, torch.zeros_like(z[1])]))
    starts = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.2, 9.9]], dtype=D)
    many = flow(field, 2.0, starts=starts, events=[lambda z: 9.905 - z.norm() if z[1] > 9 else z[1] + 1])
    assert [s.reason for s in many.statuses] == ["blow-up", "reached", "reached", "event"]
    assert "t ≈ " in many.statuses[0].text
    assert many.ends[:3].tolist() == pytest.approx([1.0, 2.0, 2.0], abs=1e-3)
    when = 5.0 - 1.0 / math.sqrt(9.905**2 - 9.9**2)
    assert float(many.ends[3]) == pytest.approx(when, rel=1e-3)
    assert many.final[1].tolist() == pytest.approx([-1 / 3, 0.0], abs=1e-3)
    assert many.status.reason == "blow-up" and "1 of 4 drops" in many.status.text
    assert flow(field, 0.5, starts=starts).status.reason == "reached"  # negative control: by then nothing has happened


def test_one_drop_that_leaves_the_domain_does_not_take_the_others_along():
    barrier = Potential(lambda w: torch.sqrt(1 - w).sum())
    many = flow(barrier, 1.0, starts=torch.tensor([[0.9], [0.0], [-3.0]], dtype=D))
    assert not many.statuses[0].ok and many.statuses[0].reason in ("not-lipschitz", "not-finite", "blow-up")
    assert [s.reason for s in many.statuses[1:]] == ["reached", "reached"]
    assert float(many.final[1]) == pytest.approx(1 - (1 - 0.75) ** (2 / 3), rel=2e-3)


def test_nothing_is_kept_after_a_drops_end():
    away = Potential(lambda w: 0.5 * ((w - 1) ** 2).sum())
    at = torch.linspace(0, 4, 41, dtype=D)
    half = When(lambda w: 0.5 - w[0] if w[0] < 1 else 1.0)  # from above it never comes
    many = flow(away, 4.0, starts=torch.tensor([[0.0], [2.0]], dtype=D), events=[half], keep=Keep(at=at, theta=True))
    assert many.theta is not None and many.values is not None
    end = float(many.ends[0])
    assert end == pytest.approx(math.log(2), rel=1e-3) and many.statuses[0].reason == "event"
    alive = at <= end
    for kept in (many.theta[:, 0, 0], many.values[:, 0], many.rates[:, 0]):
        assert bool(kept[alive].isfinite().all()) and bool(kept[~alive].isnan().all())
    assert bool(many.theta[:, 1].isfinite().all())  # negative control: the other drop goes on to the end
    assert float(many.final[0]) == pytest.approx(0.5, abs=1e-8)


def test_losses_between_steps_are_as_good_as_those_of_a_single():
    away = Potential(lambda w: 0.5 * ((w - 1) ** 2).sum())
    at = torch.linspace(0, 4, 41, dtype=D)
    many = flow(away, 4.0, starts=torch.tensor([[0.0], [3.0]], dtype=D), keep=Keep(at=at))
    exact = torch.stack([0.5 * torch.exp(-2 * at), 2.0 * torch.exp(-2 * at)], 1)
    assert many.values is not None
    torch.testing.assert_close(many.values, exact, rtol=0, atol=4e-2)
    assert not torch.allclose(many.values, exact.flip(1), rtol=0, atol=4e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_and_isotropic_drops_beside_stiff_ones(dtype: torch.dtype):
    scale = torch.tensor([1.0, 2.0, 3.0, 400.0], dtype=dtype)
    quartic = Potential(lambda w: (scale * w**4).sum() / 4, start=torch.ones(4, dtype=dtype))
    starts = torch.tensor([[0.0] * 4, [1.0] * 4, [0.0, 0.0, 0.0, 1.0]], dtype=dtype)
    for method in ("rkc2", "auto"):
        many = flow(quartic, 1.0, starts=starts, method=method)
        exact = starts / torch.sqrt(1 + 2 * scale * starts**2)
        assert [s.reason for s in many.statuses] == ["reached"] * 3
        torch.testing.assert_close(many.final, exact, rtol=1e-2, atol=2e-3)
        assert not torch.allclose(many.final, 1.05 * exact, rtol=1e-2, atol=2e-3)


def test_checks_of_an_ensemble_name_the_drop():
    good = flow(HIMMELBLAU, 0.5, starts=drops(5))
    assert good.certificates.ok and {"monotone", "energy", "stability"} <= {c.name for c in good.certificates}
    bad = flow(HIMMELBLAU, 0.5, starts=torch.tensor([[3.01, 2.0], [-4.9, 4.9]], dtype=D), method="euler", step=0.02)
    assert not bad.certificates.ok and "drop 1" in bad.certificates.named("energy").text


def test_the_error_of_drops_is_estimated_and_told_of_the_worst():
    starts = drops(6, seed=2)
    many = flow(HIMMELBLAU, 0.05, starts=starts)
    tight = flow(HIMMELBLAU, 0.05, starts=starts, rtol=1e-8, certify=False)
    true = (many.final - tight.final).norm(dim=1) / (many.final - starts).norm(dim=1)
    told = many.certificates.named("error")
    assert told.ok is True and float(true.max()) / 5 <= told.value <= 5 * float(true.max())
    assert 0 < many.cost.checking < many.cost.equivalents
    bare = flow(HIMMELBLAU, 0.05, starts=starts, certify=False)
    assert torch.equal(bare.final, many.final) and not bare.certificates and bare.cost.checking == 0
    events = flow(HIMMELBLAU, 5.0, starts=starts, events=[LossTarget(1.0)])  # each is held against its own end
    assert float(events.ends.std()) > 0 and events.certificates.named("error").ok is True


def test_of_a_large_ensemble_a_sample_is_solved_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gradientflow.river.paths.trust.SAMPLED", 4)
    starts = drops(40, seed=4)
    some = flow(HIMMELBLAU, 0.3, starts=starts)
    assert "made for 4 of the 40 drops" in some.certificates.named("error").text
    monkeypatch.setattr("gradientflow.river.paths.trust.SAMPLED", 40)
    whole = flow(HIMMELBLAU, 0.3, starts=starts)
    assert "made for" not in whole.certificates.named("error").text and whole.cost.checking > 4 * some.cost.checking
    assert whole.certificates.named("error").value >= some.certificates.named("error").value


RIDGE = Potential(lambda w: w[0] + 2.0 * torch.cos(w[1]))  # along w[1] = 0 neighbouring paths part as e^(2t)


def test_a_drop_on_a_ridge_is_named_and_one_in_the_valley_is_not():
    starts = torch.tensor([[0.0, 3.0], [0.0, 1e-6], [0.0, 2.0]], dtype=D)
    error = flow(RIDGE, 8.0, starts=starts).certificates.named("error")
    assert error.ok is False and "1 of 3 drops broken; worst, drop 1" in error.text
    assert flow(RIDGE, 8.0, starts=starts[[0, 2]]).certificates.named("error").ok is True


def test_drops_are_held_against_a_tighter_run():
    starts = torch.tensor([[0.0, 3.0], [0.0, 1e-5]], dtype=D)
    good = flow(RIDGE, 6.0, starts=starts, rtol=1e-6).certificates.named("error")
    assert good.ok is True and "tighter" in good.text
    assert flow(RIDGE, 6.0, starts=starts, rtol=1e-3).certificates.named("error").ok is False


def test_vector_fields_are_checked_too():
    turn = VectorField(lambda z: torch.stack([-z[1], z[0]]), conserved={"radius": lambda z: z.norm()})
    good = flow(turn, 6.28, starts=drops(3))
    assert {c.name for c in good.certificates} == {"conserved radius", "stability", "error"}
    assert good.certificates.ok and good.certificates.named("error").ok is True and "certificates hold" in repr(good)
    one = flow(turn, 6.28, start=[1.0, 0.0])
    assert {c.name for c in one.certificates} == {"conserved radius", "stability", "error"} and one.certificates.ok
    bad = flow(turn, 6.28, starts=drops(3), method="euler", step=0.05)  # a radius that grows by 17 %
    assert "3 of 3 drops broken" in bad.certificates.named("conserved radius").text and "BROKEN" in repr(bad)
    decay = VectorField(lambda z: -torch.tensor([1.0, 50.0], dtype=D) * z)
    long = flow(decay, 0.2, starts=drops(3), method="euler", step=0.05).certificates.named("stability")
    assert long.ok is False and long.value == pytest.approx(0.05 * 50 / 2, rel=1e-3)
    short = flow(decay, 0.2, starts=drops(3), method="euler", step=0.01).certificates.named("stability")
    assert short.ok is True and short.value == pytest.approx(0.01 * 50 / 2, rel=1e-3)


def test_ensembles_of_one_and_what_they_refuse():
    one = flow(HIMMELBLAU, 1.0, starts=[[1.0, 1.0]])
    assert len(one) == 1 and one.status.reason == "reached"
    assert torch.allclose(one.final[0], flow(HIMMELBLAU, 1.0, start=[1.0, 1.0]).final, atol=1e-9)
    with pytest.raises(UsageError, match=r"functions"):
        flow(HIMMELBLAU, 1.0, starts=drops(2), keep=Keep(functions={"n": lambda w: w.norm()}))
    part = flow(HIMMELBLAU, 1.0, starts=drops(3), max_gradients=60)
    assert part.status.reason == "budget" and "max_gradients" in part.status.remedy
    calls: list[int] = []
    stopped = flow(HIMMELBLAU, 1.0, starts=drops(3), callback=lambda m: calls.append(m.live) or len(calls) == 4)
    assert stopped.status.reason == "cancelled" and calls == [3] * 4


def test_ten_thousand_drops_of_himmelblau_find_their_minima():
    many = flow(HIMMELBLAU, 0.7, starts=drops(10_000))
    assert many.status.reason == "reached" and many.certificates.ok
    minima = torch.tensor([[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]], dtype=D)
    away = torch.cdist(many.final, minima)
    assert float((away.amin(1) < 0.02).double().mean()) > 0.98
    shares = away.argmin(1).bincount(minlength=4) / 10_000
    assert bool((shares > 0.15).all())
    assert float((away[:, 0] < 0.02).double().mean()) < 0.5  # negative control: not all in one


def test_many_drops_of_a_network():
    """256 drops of a tanh network of 3 000 parameters, the flat vector cut into its layers by hand."""
    shapes = [(46, 20), (46,), (40, 46), (40,), (4, 40), (4,)]
    sizes = [math.prod(s) for s in shapes]
    maker = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 20, generator=maker), torch.randn(24, 4, generator=maker)

    def loss(w: Tensor) -> Tensor:
        a, b, c, d, e, f = (part.reshape(s) for part, s in zip(w.split(sizes), shapes, strict=True))
        out = torch.tanh(torch.tanh(x @ a.T + b) @ c.T + d) @ e.T + f
        return 0.5 * ((out - y) ** 2).sum(1).mean()

    assert 2_900 < sum(sizes) < 3_100
    net = Potential(loss, start=torch.zeros(sum(sizes)), name="net")
    starts = 0.15 * torch.randn(256, sum(sizes), generator=maker)
    many = flow(net, 0.5, starts=starts, rtol=1e-2)
    assert many.status.reason == "reached" and many.certificates.ok and many.theta is None
    first = net.value(starts).double()
    assert many.loss is not None and bool((many.loss < 0.95 * first).all())
    one = flow(net, 0.5, start=starts[7], rtol=1e-4, certify=False)
    way = float((one.final - starts[7]).norm())
    assert float((many.final[7] - one.final).norm()) < 0.05 * way
    assert float((many.final[8] - one.final).norm()) > 0.05 * way  # negative control
