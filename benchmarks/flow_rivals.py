"""The rivals of benchmarks/flow.py: other ways to solve the flow, all on one counted gradient.

Each rival is a function (gradient, θ₀, t_end) → θ(t_end) that sees the problem through `Gradient` alone, so that all
counts mean the same: one call of `torch.autograd.grad` on one flat vector is one gradient.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.problems import Problem
from gradientflow.curvature import top_eigenpair

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)  # rtol; atol is a tenth of it
DENSE = 5000  # parameters from which LSODA's dense Jacobian is not asked for


class OverBudget(Exception):
    """A run took more gradients than it was given."""


class Gradient:
    """∇L of a problem as a function of one flat vector, counted and timed.

    Attributes:
        start: the model's own parameters, shape (P,).
        gradients, hvps: evaluations so far.
        inside: CPU seconds spent in them.
        sharpest: largest sharpness that a run has measured, or None.
        limit: gradient equivalents at which `OverBudget` is raised.
        label: where not empty, a line on stderr now and then says how far the count is.
    """

    def __init__(self, problem: Problem, *, limit: float = math.inf, label: str = "") -> None:
        self._model, self._loss, (self._x, self._y), _ = problem
        named = dict(self._model.named_parameters())
        self._names, self._shapes = list(named), [p.shape for p in named.values()]
        self._sizes = [p.numel() for p in named.values()]
        self.start = torch.cat([p.detach().reshape(-1) for p in named.values()])
        self.gradients, self.hvps, self.inside = 0, 0, 0.0
        self.sharpest: float | None = None
        self.limit, self.label, self._said = limit, label, time.monotonic()

    @property
    def equivalents(self) -> float:
        """Gradient equivalents so far: one Hessian-vector product is two gradients."""
        return self.gradients + 2 * self.hvps

    def _value(self, point: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(torch.split(point, self._sizes), self._shapes, strict=True)]
        out = torch.func.functional_call(self._model, dict(zip(self._names, pieces, strict=True)), (self._x,))
        return self._loss(out, self._y)

    def _spend(self) -> None:
        if self.equivalents >= self.limit:
            raise OverBudget
        if self.label and time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            print(f"    {self.label}: {self.equivalents:.0f} gradients so far", file=sys.stderr, flush=True)

    def __call__(self, theta: Tensor) -> Tensor:
        """Return ∇L(θ), shape (P,)."""
        self._spend()
        began = time.process_time()
        point = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self._value(point), point)
        self.gradients += 1
        self.inside += time.process_time() - began
        return slope

    def value(self, theta: Tensor) -> float:
        """Return L(θ), not counted."""
        with torch.no_grad():
            return float(self._value(theta))

    def hessian(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Return v ↦ Hv at θ. Each product counts, and the gradient whose graph they go through is a gradient."""
        self._spend()
        began = time.process_time()
        point = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self._value(point), point, create_graph=True)
        self.gradients += 1
        self.inside += time.process_time() - began

        def product(v: Tensor) -> Tensor:
            self._spend()
            began = time.process_time()
            (out,) = torch.autograd.grad(slope, point, v, retain_graph=True)
            self.hvps += 1
            self.inside += time.process_time() - began
            return out

        return product

    def sharpness(self, theta: Tensor, warm: Tensor | None = None, *, products: int = 6) -> tuple[float, Tensor]:
        """Return the largest Hessian eigenvalue by Lanczos, counted, and its vector to start from next time."""
        if warm is None:
            generator = torch.Generator().manual_seed(0)
            warm, products = torch.randn(theta.numel(), generator=generator, dtype=torch.float64).to(theta), 30
        found = top_eigenpair(self.hessian(theta), warm, max_products=products, tolerance=0.01)
        if found is None:
            return math.nan, warm
        self.sharpest = found.value if self.sharpest is None else max(self.sharpest, found.value)
        return found.value, found.vector


Solve = Callable[[Gradient, Tensor, float], Tensor]


@dataclass(frozen=True)
class Rival:
    """One setting of one rival method.

    Attributes:
        name, setting: as the table shows them.
        solve: (gradient, θ₀, t_end) → θ(t_end).
        cost: gradients it will take, roughly; (λ at the end, t_end) → count.
        missing: why it cannot be run here; empty where it can.
    """

    name: str
    setting: str
    solve: Solve
    cost: Callable[[float, float], float]
    missing: str = ""


def descent(rate: float) -> Solve:
    """Gradient descent at a constant learning rate; the last step is cut to end at t_end."""

    def solve(gradient: Gradient, theta: Tensor, t_end: float) -> Tensor:
        theta = theta.clone()
        for k in range(math.ceil(t_end / rate - 1e-9)):
            theta.sub_(gradient(theta), alpha=min(rate, t_end - k * rate))
        return theta

    return solve


def by_sharpness(fraction: float, stages: int, tick: float = 1.0) -> Solve:
    """RK4 or Euler with h = fraction/S, the sharpness S measured anew every `tick` of flow time.

    The rule of Cohen et al. 2021's code (RK4, fraction 1, one tick 1.0) and of the central-flow code (Euler, ½). Theirs
    start each measurement cold; here it starts from the last eigenvector, at a fifth of the cost.
    """

    def solve(gradient: Gradient, theta: Tensor, t_end: float) -> Tensor:
        warm: Tensor | None = None
        begin = 0.0
        while begin < t_end - 1e-9:
            span = min(tick, t_end - begin)
            sharpness, warm = gradient.sharpness(theta, warm)
            length = fraction / max(sharpness, fraction / span)
            left = span
            while left > 1e-12 * span:
                h = min(length, left)
                left -= h
                k1 = gradient(theta)
                if stages == 1:
                    theta = theta - h * k1
                    continue
                k2 = gradient(theta - 0.5 * h * k1)
                k3 = gradient(theta - 0.5 * h * k2)
                k4 = gradient(theta - h * k3)
                theta = theta - (h / 6) * (k1 + 2 * k2 + 2 * k3 + k4)
            begin += span
        return theta

    return solve


def torchdiffeq(method: str, rtol: float) -> Solve:
    """Adaptive Runge–Kutta by torchdiffeq.odeint."""

    def solve(gradient: Gradient, theta: Tensor, t_end: float) -> Tensor:
        from torchdiffeq import odeint

        times = torch.tensor([0.0, t_end], dtype=torch.float64)
        with torch.no_grad():
            out: Tensor = odeint(
                lambda _, w: _negative(gradient, w), theta, times, method=method, rtol=rtol, atol=rtol / 10
            )
        return out[-1]

    return solve


def scipy(method: str, rtol: float, atol: float | None = None) -> Solve:
    """An integrator of scipy.integrate, step by step."""

    def solve(gradient: Gradient, theta: Tensor, t_end: float) -> Tensor:
        from scipy import integrate

        def rate(_: float, z: Any) -> Any:
            return gradient(torch.from_numpy(z).to(theta)).neg().double().numpy()

        tolerances = {"rtol": rtol, "atol": rtol / 10 if atol is None else atol}
        solver = getattr(integrate, method)(rate, 0.0, theta.double().numpy(), t_end, **tolerances)
        while solver.status == "running":
            trouble = solver.step()
            if solver.status == "failed":
                raise RuntimeError(trouble)
        return torch.from_numpy(solver.y.copy()).to(theta)

    return solve


def diffrax(method: str, rtol: float) -> Solve:
    """Adaptive Runge–Kutta by diffrax; JAX calls back into the counted gradient, so it solves the same problem exactly."""

    def solve(gradient: Gradient, theta: Tensor, t_end: float) -> Tensor:
        import diffrax as dfx
        import jax
        import numpy as np

        jax.config.update("jax_enable_x64", True)
        shape = jax.ShapeDtypeStruct(tuple(theta.shape), np.float64)

        def host(z: Any) -> Any:
            return gradient(torch.from_numpy(np.array(z))).neg().numpy()

        out = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, z, args: jax.pure_callback(host, shape, z)), getattr(dfx, method)(), 0.0, t_end, None,
            jax.numpy.asarray(theta.numpy()), max_steps=None, adjoint=dfx.DirectAdjoint(),
            stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol / 10),
        )  # fmt: skip
        return torch.from_numpy(np.array(out.ys[-1]))

    return solve


def _negative(gradient: Gradient, theta: Tensor) -> Tensor:
    with torch.enable_grad():
        return gradient(theta).neg()


def _steps(share: float, sharpness: float, t_end: float) -> float:
    return t_end * sharpness / share


def absent(module: str) -> str:
    """Return why a package cannot be used, or nothing."""
    try:
        __import__(module)
    except ImportError:
        return f"{module} is not installed"
    return ""


def rivals(size: int, sharpness: float, dtype: torch.dtype = torch.float64) -> Iterator[Rival]:
    """Yield every setting of every rival.

    Args:
        size: parameters of the problem.
        sharpness: what gradient descent's rate is made from: λ at the end of the flow, or its peak where it fell.
        dtype: of the problem; in float32 no tolerance is asked for that its round-off does not allow.
    """
    for share in (1.9, 0.95):
        rate = share / sharpness
        yield Rival("gd", f"η = {share:g}/λ = {rate:.3g}", descent(rate), partial(_steps, share))
    yield Rival("rk4", "h = 1/S", by_sharpness(1.0, 4), lambda s, t: 4 * t * max(s, 1) + 4 * t)
    yield Rival("euler", "h = 1/(2S)", by_sharpness(0.5, 1), lambda s, t: 2 * t * max(s, 1) + 4 * t)

    def explicit(s: float, t: float) -> float:
        return 2 * t * s + 1000

    tolerances = [r for r in TOLERANCES if dtype == torch.float64 or r >= 1e-5]
    lacking = absent("torchdiffeq")
    for method in ("dopri5", "dopri8", "bosh3"):
        for rtol in tolerances:
            yield Rival(f"torchdiffeq {method}", f"rtol {rtol:.0e}", torchdiffeq(method, rtol), explicit, lacking)
    lacking = absent("scipy")
    for method in ("DOP853", "RK45", "LSODA"):
        dense = (
            f"would allocate a dense Jacobian of {size * size * 8 / 1e9:.1f} GB"
            if method == "LSODA" and size > DENSE
            else ""
        )
        for rtol in tolerances if method != "LSODA" else tolerances[1::2]:  # a stiff LSODA pays P gradients a Jacobian
            yield Rival(f"scipy {method}", f"rtol {rtol:.0e}", scipy(method, rtol), explicit, lacking or dense)
    lacking = absent("diffrax") or ("" if dtype == torch.float64 else "only run in float64")
    for method in ("Dopri5", "Tsit5"):
        for rtol in tolerances:
            yield Rival(f"diffrax {method}", f"rtol {rtol:.0e}", diffrax(method, rtol), explicit, lacking)
