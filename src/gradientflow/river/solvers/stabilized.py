"""Stabilized explicit methods: Runge–Kutta–Chebyshev of order two, with and without monotone damping.

The Jacobian of a gradient flow is −H, symmetric: its spectrum lies on the real axis, where a Chebyshev polynomial of
degree s stays bounded by one over a length that grows as s². Step lengths that would take an ordinary explicit method
h·ρ gradients take these √(h·ρ). All are three-term recurrences: a handful of vectors at any number of stages, no tables.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.solvers.base import Call, Past, Solver, Trial, add, scaled
from gradientflow.river.solvers.recurrence import Recurrence, climb, stage_weights


class Chebyshev(Solver):
    """A step by a three-term recurrence; the methods differ in the coefficients, the last combination, the estimate."""

    stabilized = True
    order = 2
    error_order = 3
    least: int
    grid: tuple[float, float, float]  # of the estimate: (y − y⁺), h F_0, h F_1

    def recurrence(self, stages: int) -> Recurrence:
        """Return the coefficients for so many stages."""
        raise NotImplementedError

    def step(
        self, call: Call, theta: Tensor, here: Evaluation, h: Tensor, stages: list[int], past: Past | None = None
    ) -> Trial:
        rows = [self.recurrence(s) for s in stages]
        now, spare, work = climb(call, theta, here, h, rows)
        there = call(now)
        defect = torch.sub(theta, now, out=spare).mul_(self.grid[0])
        for rate, weight in ((here.rate, self.grid[1]), (there.rate, self.grid[2])):
            if weight:
                add(defect, rate, scaled([weight] * len(rows), h))
        return Trial(now, there, defect, work.total(there.rate, h))


class RKC2(Chebyshev):
    """Runge–Kutta–Chebyshev, order 2, damped by ε = 2/13; reach 0.653 (s² − 1)."""

    name = "rkc2"
    vectors = 4
    least = 2
    grid = (0.8, 0.4, 0.4)
    source = "Sommeijer, Shampine & Verwer 1998, RKC, §2"

    def reach(self, stages: int, ratio: float = 1.0) -> float:
        return 0.653 * (stages * stages - 1)

    def stages(self, z: float, ratio: float = 1.0) -> int:
        return max(self.least, math.ceil(math.sqrt(1.0 + z / 0.653)))

    def recurrence(self, stages: int) -> Recurrence:
        return _rkc2(stages)


@lru_cache(maxsize=1024)
def _rkc2(s: int) -> Recurrence:
    w0 = 1.0 + (2.0 / 13.0) / (s * s)
    t, d, dd = [1.0, w0], [0.0, 1.0], [0.0, 0.0]  # T_j, T'_j, T''_j at w0
    for j in range(2, s + 1):
        t.append(2 * w0 * t[j - 1] - t[j - 2])
        d.append(2 * t[j - 1] + 2 * w0 * d[j - 1] - d[j - 2])
        dd.append(4 * d[j - 1] + 2 * w0 * dd[j - 1] - dd[j - 2])
    w1 = d[s] / dd[s]
    b = [0.0, 0.0, *(dd[j] / d[j] ** 2 for j in range(2, s + 1))]
    b[0] = b[1] = b[2]
    a = [1.0 - b[j] * t[j] for j in range(s + 1)]
    mu, nu, kappa, gamma = [0.0, 1.0], [0.0, 0.0], [0.0, b[1] * w1], [0.0, 0.0]
    for j in range(2, s + 1):
        mu.append(2 * b[j] * w0 / b[j - 1])
        nu.append(-b[j] / b[j - 2])
        kappa.append(2 * b[j] * w1 / b[j - 1])
        gamma.append(-a[j - 1] * kappa[j])
    return Recurrence(tuple(mu), tuple(nu), tuple(kappa), tuple(gamma), None, stage_weights(mu, nu, kappa, gamma))


class RKMC2(Chebyshev):
    """Runge–Kutta–Chebyshev of order 2 whose stability function is positive and monotone: no mode ever flips sign."""

    name = "rkmc2"
    error_order = 2
    vectors = 5
    least = 3
    grid = (0.1, 0.0, 0.1)
    source = "Faleichik & Moisa 2026, monotonic stabilized methods of second order"

    def reach(self, stages: int, ratio: float = 1.0) -> float:
        return float(_rkmc2(stages)[1])

    def stages(self, z: float, ratio: float = 1.0) -> int:
        s: int = max(self.least, math.ceil(-0.8307 + 1.8548 * math.pow(z, 0.53387)))
        while self.reach(s) < z:
            s += 1
        while s > self.least and self.reach(s - 1) >= z:
            s -= 1
        return s

    def recurrence(self, stages: int) -> Recurrence:
        return _rkmc2(stages)[0]


def _chebyshev(n: int, x: float) -> tuple[list[float], list[float]]:
    """Return T_0 … T_n and their derivatives at x."""
    t, d = [1.0, x], [0.0, 1.0]
    for j in range(2, n + 1):
        t.append(2 * x * t[j - 1] - t[j - 2])
        d.append(2 * t[j - 1] + 2 * x * d[j - 1] - d[j - 2])
    return t, d


@lru_cache(maxsize=1024)
def _rkmc2(s: int) -> tuple[Recurrence, float]:
    """Return the recurrence and the reach."""

    def excess(x: float) -> float:
        t, d = _chebyshev(s, x)
        low = t[s - 2] / (2 * (s - 2)) if s > 2 else 0.0
        flip = -1.0 if s % 2 else 1.0
        return 1 + flip / (s * (s - 2)) + x + t[s] / (2 * s) - low - (1 + t[s - 1]) ** 2 / d[s - 1]

    lo, hi = 0.0, 6.0 / s  # α, with w0 = cosh α
    sign = excess(math.cosh(1e-9)) > 0
    while (excess(math.cosh(hi)) > 0) == sign and hi < 50:
        hi *= 1.5
    for _ in range(200):
        mid = 0.5 * (lo + hi)
        if (excess(math.cosh(mid)) > 0) == sign:
            lo = mid
        else:
            hi = mid
    w0 = math.cosh(0.5 * (lo + hi))
    t, d = _chebyshev(s, w0)
    w1 = (1 + t[s - 1]) / d[s - 1]
    b = [1 / (1 + x) for x in t]
    mu, nu, kappa, gamma = [0.0, 1.0], [0.0, 0.0], [0.0, b[1] * w1], [0.0, 0.0]
    for j in range(2, s + 1):
        mu.append(2 * w0 * b[j] / b[j - 1])
        nu.append(-b[j] / b[j - 2])
        kappa.append(2 * w1 * b[j] / b[j - 1])
        gamma.append(-kappa[j] * b[j - 1])
    g, e = b[s - 1] / (2 * s * w1), -b[s - 1] / (2 * (s - 2) * w1)
    closing = (g / b[s], e / b[s - 2], b[s - 1])
    return Recurrence(tuple(mu), tuple(nu), tuple(kappa), tuple(gamma), closing, stage_weights(mu, nu, kappa, gamma)), (
        w0 + 1
    ) / w1
