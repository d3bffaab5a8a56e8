"""Random landscapes, times and tolerances: the error is what was asked for, and the path's own checks hold."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

from gradientflow.river import Keep, Potential, certify, flow

D = torch.float64
QUICK = settings(
    max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
TOLERANCES = st.sampled_from([1e-2, 1e-3, 1e-4, 1e-6, 1e-8])
METHODS = st.sampled_from(["auto", "auto", "rkc2", "tsrkc3", "dp54"])


def asked_for(rtol: float) -> float:
    """100 rtol, and from 10⁻³ down as rtol^¾: local errors of rtol add up over ever more steps."""
    return 100 * rtol * (1e-3 / min(rtol, 1e-3)) ** 0.25


def turned(size: int, seed: int, values: Tensor) -> Tensor:
    maker = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=maker, dtype=D))
    return (q * values) @ q.T


@QUICK
@given(
    size=st.integers(1, 8), seed=st.integers(0, 10_000), stiff=st.floats(-1.0, 3.5), time=st.floats(-2.0, 1.0),
    lowest=st.sampled_from([0.0, 0.1, 1.0, -0.3]), rtol=TOLERANCES, method=METHODS,
)  # fmt: skip
def test_random_quadratics(size: int, seed: int, stiff: float, time: float, lowest: float, rtol: float, method: str):
    t = 10.0**time
    if method == "dp54":
        stiff = min(stiff, 1.0)  # its price is h·λ
    if method == "rkc2":
        rtol = max(rtol, 1e-6)
    values = lowest + torch.logspace(-1, stiff, size, dtype=D)
    h = turned(size, seed, values)
    bowl = Potential(lambda w: 0.5 * w @ h @ w - w.sum())
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed + 1), dtype=D)
    path = flow(bowl, t, start=start, rtol=rtol, atol=1e-3 * rtol, method=method)
    # θ' = −Hθ + 1
    rest = torch.linalg.solve(h, torch.ones(size, dtype=D))
    exact = rest + torch.linalg.matrix_exp(-t * h) @ (start - rest)
    way = max(float((exact - start).norm()), float(exact.norm()), 1e-3)
    assert path.status.reason == "reached"
    assert float((path.final - exact).norm()) <= asked_for(rtol) * way
    assert path.certificates.ok, str(path.certificates)
    wrong = rest + torch.linalg.matrix_exp(t * h).clamp(-1e6, 1e6) @ (start - rest)  # negative control: uphill
    assert float((path.final - wrong).norm()) > asked_for(rtol) * way or float((start - rest).norm()) * t < 0.5 * way


@QUICK
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5), time=st.floats(-1.5, 0.7), rtol=TOLERANCES, method=METHODS)
def test_random_quartics(seed: int, size: int, time: float, rtol: float, method: str):
    t = 10.0**time
    if method == "rkc2":
        rtol = max(rtol, 1e-6)
    maker = torch.Generator().manual_seed(seed)
    a, b = torch.randn(size + 1, size, generator=maker, dtype=D), torch.randn(size + 1, generator=maker, dtype=D)
    start = torch.randn(size, generator=maker, dtype=D)

    def loss(w: Tensor) -> Tensor:
        return 0.25 * ((a @ w) ** 2 - b).square().sum()

    def rate(_: float, w: np.ndarray) -> np.ndarray:
        u = a.numpy() @ w
        return -(a.numpy().T @ (u * (u**2 - b.numpy())))

    path = flow(Potential(loss), t, start=start, rtol=rtol, atol=1e-3 * rtol, method=method)
    exact = torch.tensor(solve_ivp(rate, (0, t), start.numpy(), method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1])
    # how much an early error is amplified, by a second path that begins beside the first
    beside = solve_ivp(rate, (0, t), start.numpy() * (1 + 1e-7), method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    growth = max(1.0, float((torch.tensor(beside) - exact).norm()) / (1e-7 * float(start.norm())))
    assert path.status.reason == "reached"
    size_ = max(float(exact.norm()), float(start.norm()))
    assert float((path.final - exact).norm()) <= asked_for(rtol) * size_ * growth
    if growth < 3:
        assert path.certificates.ok, str(path.certificates)


def test_a_flow_with_the_wrong_sign_is_found_out():
    """Negative control of the checks: uphill along the same landscape, presented as the flow downhill."""
    bowl = Potential(lambda w: 0.5 * (w**2).sum() + 0.1 * (w**4).sum())
    hill = Potential(lambda w: -0.5 * (w**2).sum() - 0.1 * (w**4).sum())
    times = torch.linspace(0, 0.5, 41, dtype=D)
    down, up = (flow(x, 0.5, start=[1.0, -0.5], rtol=1e-6, keep=Keep(at=times, theta=True)) for x in (bowl, hill))
    assert certify(bowl, times, down.theta).ok  # type: ignore[arg-type]
    broken = {c.name for c in certify(bowl, times, up.theta).broken}  # type: ignore[arg-type]
    assert {"monotone", "energy", "residual"} <= broken
