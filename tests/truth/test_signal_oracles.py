"""Published numbers on how gradients travel through depth, as the probe measures them; each within 3 %.

Schoenholz et al. 2017 (tanh at and off the edge of chaos), Yang et al. 2019 (batch norm with ReLU), He et al. 2015
(residual blocks without norm), Xiong et al. 2020 (norm before against after the block), McCandlish et al. 2018 (noise).
"""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch
from torch import nn

from gradientflow.depth import judge
from gradientflow.depth.watch.noise import NoiseMeter, noise_scale
from gradientflow.records import Finding, Noise
from tests.truth.signal import mean_field, normalised, per_layer, residual, top_gradient
from tests.truth.watching import watched

WITHIN = 0.03

# ── signal propagation ───────────────────────────────────────────────────────────────────────────────────────────────

CHI = [
    pytest.param(1.3, 0.8802, id="ordered"),
    pytest.param(1.76, 0.9998, id="edge"),
    pytest.param(2.5, 1.1335, id="chaotic"),
]


@pytest.mark.parametrize(("weight", "chi"), CHI)
def test_tanh_passes_the_squared_gradient_on_times_chi(weight: float, chi: float) -> None:
    measured = fmean(per_layer(mean_field(weight, 0.05, seed)) ** 2 for seed in range(4))
    assert measured == pytest.approx(chi, rel=WITHIN)


@pytest.mark.parametrize(("weight", "chi"), CHI)
def test_tanh_with_weights_a_tenth_too_large_is_refused(weight: float, chi: float) -> None:
    """Negative control."""
    measured = fmean(per_layer(mean_field(1.21 * weight, 0.05, seed)) ** 2 for seed in range(2))
    assert measured != pytest.approx(chi, rel=WITHIN)


def test_batch_norm_with_relu_lets_gradients_grow_by_the_root_of_pi_over_pi_minus_one() -> None:
    expected = math.sqrt(math.pi / (math.pi - 1))
    assert expected == pytest.approx(1.2112, abs=1e-4)
    assert fmean(per_layer(normalised(s, nn.BatchNorm1d)) for s in range(3)) == pytest.approx(expected, rel=WITHIN)
    without = fmean(per_layer(normalised(s, lambda _: nn.Identity())) for s in range(3))
    assert without != pytest.approx(expected, rel=WITHIN)  # negative control: no norm
    assert without == pytest.approx(1.0, rel=WITHIN)


def test_a_residual_block_without_norm_doubles_the_squared_gradient() -> None:
    assert fmean(residual(seed, 1.0) for seed in range(4)) == pytest.approx(2.0, rel=WITHIN)
    assert fmean(residual(seed, 1.05**2) for seed in range(4)) != pytest.approx(2.0, rel=WITHIN)  # 5 % larger weights


@pytest.mark.slow
def test_norm_before_the_block_shrinks_the_top_gradient_with_depth_and_norm_after_it_does_not() -> None:
    seeds = range(10)
    before = {depth: top_gradient(depth, seeds, pre=True) for depth in (6, 24, 48)}
    after = {depth: top_gradient(depth, seeds, pre=False) for depth in (6, 48)}
    expected = {depth: math.sqrt((1 + 6 / 2) / (1 + depth / 2)) for depth in before}  # 1 : .555 : .400
    assert [expected[24], expected[48]] == pytest.approx([0.555, 0.400], abs=1e-3)
    for depth in (24, 48):
        assert before[depth] / before[6] == pytest.approx(expected[depth], rel=WITHIN)
        assert before[depth] / before[6] != pytest.approx(1.0, rel=WITHIN)  # negative controls
    assert after[48] / after[6] == pytest.approx(1.0, rel=WITHIN)
    assert after[48] / after[6] != pytest.approx(expected[48], rel=WITHIN)
    unnormed = top_gradient(24, range(2), pre=True, last=False) / top_gradient(6, range(2), pre=True, last=False)
    assert unnormed != pytest.approx(
        expected[24], rel=0.2
    )  # without the last norm nothing divides by the stream's size


# ── noise ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bowl(sigma: float, batch: int, seed: int, rate: float = 1e-6, steps: int = 400) -> Noise:
    """Watch SGD on ½‖θ − x‖² with x ~ N(0, σ²): every sample's gradient is θ − x, so B = d σ² / ‖θ‖²."""
    torch.manual_seed(seed)
    theta = nn.Parameter(torch.ones(64))  # d = ‖θ‖² = 64, so B = σ²
    optimizer = torch.optim.SGD([theta], lr=rate)
    meter = NoiseMeter()
    for _ in range(steps):
        x = sigma * torch.randn(batch, 64)
        optimizer.zero_grad()
        (0.5 * (theta - x).square().sum(1)).mean().backward()
        meter.see([theta])
        optimizer.step()
    found = meter.estimate(batch)
    assert found is not None
    return found


@pytest.mark.parametrize("batch", [2, 8])
def test_the_noise_scale_of_a_quadratic_is_sixteen(batch: int) -> None:
    found = [bowl(4.0, batch, seed) for seed in range(4)]
    assert fmean(f.spread for f in found) / fmean(f.signal for f in found) == pytest.approx(16.0, rel=WITHIN)
    assert fmean(f.spread for f in found) == pytest.approx(16.0 * 64, rel=WITHIN)
    assert fmean(f.signal for f in found) == pytest.approx(64.0, rel=WITHIN)
    louder = [bowl(4.2, batch, seed) for seed in range(4)]
    assert fmean(f.spread for f in louder) / fmean(f.signal for f in louder) != pytest.approx(
        16.0, rel=WITHIN
    )  # 5 % more


def test_the_noise_meter_says_nothing_where_it_cannot_know() -> None:
    meter, p = NoiseMeter(), nn.Parameter(torch.ones(3))
    assert meter.estimate(4) is None
    for k in range(4):
        p.grad = torch.full((3,), float(k))
        meter.see([p])
        assert torch.equal(p.grad, torch.full((3,), float(k)))  # reads only
    assert meter.estimate(4) is not None
    p.grad = torch.full((3,), math.nan)
    meter.see([p])
    assert meter.estimate(4) is None
    meter.see([p, p])  # other parameters: starts anew
    assert meter.steps == 1
    with pytest.raises(ValueError, match="b_small < b_large"):
        noise_scale(1.0, 1.0, 8, 8)
    assert noise_scale(16.0, 1.0, 1, 16).scale == math.inf  # chance alone


# ── softmax twice ────────────────────────────────────────────────────────────────────────────────────────────────────


def classifier(*, twice: bool) -> tuple[list[Finding], float]:
    """Train ten separable classes to the end, with or without a softmax before cross-entropy."""
    torch.manual_seed(0)
    x, y = 4.0 * torch.eye(10).repeat(4, 1), torch.arange(10).repeat(4)
    net = nn.Sequential(nn.Linear(10, 10), *([nn.Softmax(dim=1)] if twice else []))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.3)
    with watched(every=50) as run:
        for _ in range(300):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge(run).findings, float(loss.detach())


def test_softmax_twice_has_a_floor_of_ln_one_plus_nine_over_e() -> None:
    findings, end = classifier(twice=True)
    (finding,) = [f for f in findings if f.cause == "output-activation"]
    assert finding.evidence["loss_floor"] == pytest.approx(1.461, rel=WITHIN)
    assert end == pytest.approx(1.461, rel=WITHIN)  # and that is where training ends
    findings, end = classifier(twice=False)  # negative control: once
    assert not [f for f in findings if f.cause == "output-activation"]
    assert end < 0.1
