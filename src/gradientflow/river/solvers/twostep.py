"""The two-step stabilized method of order three, for tighter tolerances on stiff flows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.solvers.base import Call, Past, Solver, Trial, add, rowwise, scaled
from gradientflow.river.solvers.recurrence import Recurrence, climb, stage_weights

LEAST_RATIO = 0.5  # h₋/h below which the two-step method is not stable: a step may at most double


class TSRKC3(Solver):
    """Two-step Runge–Kutta–Chebyshev of order 3: y⁺ = (1−A−B) y + A y₋ + B Y_s, with Y_s a Chebyshev stage at time c > 1.

    With q = h₋/h and κ = T‴T′/T″² at w0, the conditions up to order 3 are Bc − Aq = 1, Bc² + Aq² = 1 and
    κBc³ − Aq³ = 1; they leave κ(1 − Aq²)² = (1 + Aq)(1 + Aq³), of which A is the root near zero. The step's
    characteristic polynomial keeps its roots inside the unit circle for q ≥ ½ as long as Y_s does its damping, which
    makes the reach (w0 + 1)/w1, about 0.5 s² at q = 1.
    """

    name = "tsrkc3"
    order = 3
    error_order = 4
    stabilized = True
    two_step = True
    vectors = 5
    least = 4
    source = "after Moisa 2024, two-step RKC of order three; coefficients and estimate derived here"

    def reach(self, stages: int, ratio: float = 1.0) -> float:
        return plan(stages, ratio).reach

    def stages(self, z: float, ratio: float = 1.0) -> int:
        s = max(self.least, int(math.sqrt(z / 0.6)))
        while self.reach(s, ratio) < z:
            s += 1
        return s

    def step(
        self, call: Call, theta: Tensor, here: Evaluation, h: Tensor, stages: list[int], past: Past | None = None
    ) -> Trial:
        if past is None:
            raise ValueError("a two-step method needs the step before")
        ratios = (past.h / h)[:, 0].double().tolist()
        plans = [plan(s, q) for s, q in zip(stages, ratios, strict=True)]
        now, spare, work = climb(call, theta, here, h, [p.recurrence for p in plans])
        now.mul_(rowwise([p.here for p in plans], theta))
        add(now, past.theta, rowwise([p.before for p in plans], theta))
        add(now, theta, rowwise([1.0 - p.before - p.here for p in plans], theta))
        there = call(now)
        defect = spare.zero_()
        for vector, i in ((past.theta, 0), (theta, 1), (now, 2)):
            add(defect, vector, rowwise([p.estimate[i] for p in plans], theta))
        for rate, i in ((here.rate, 3), (there.rate, 4)):
            add(defect, rate, scaled([p.estimate[i] for p in plans], h))
        return Trial(now, there, defect, work.total(there.rate, h))


@dataclass(frozen=True, slots=True)
class Plan:
    """The coefficients for s stages at the step ratio q."""

    recurrence: Recurrence
    before: float  # A
    here: float  # B
    reach: float
    estimate: tuple[float, ...]  # of y₋, y, y⁺, h F, h F⁺


@lru_cache(maxsize=4096)
def plan(s: int, q: float) -> Plan:
    """Return the coefficients for s stages where the step before was q times as long."""
    w0 = math.cosh(math.acosh(1.25) / s)
    d: list[list[float]] = [[1.0, w0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]  # T_j and four derivatives
    for _ in range(2, s + 1):
        lower = [x[-1] for x in d]
        for k in range(5):
            d[k].append(2 * w0 * d[k][-1] - d[k][-2] + (2 * k * lower[k - 1] if k else 0.0))
    t1, t2, t3, t4 = (d[k][s] for k in (1, 2, 3, 4))
    kappa3, kappa4 = t3 * t1 / t2**2, t4 * t1**2 / t2**3
    p, r = (kappa3 - 1) * q**4, 2 * kappa3 * q * q + q + q**3
    a = 2 * (kappa3 - 1) / (r + math.sqrt(r * r - 4 * p * (kappa3 - 1)))
    c = (1 - a * q * q) / (1 + a * q)
    b = (1 + a * q) / c
    w1 = c * t1 / t2
    w = [0.0, 0.0, *(d[2][j] / d[1][j] ** 2 for j in range(2, s + 1))]
    # Small at j = 1: there the stage is of first order only, and what that leaves in the order condition of the bushy tree
    # shrinks with it (10⁻⁴ at s = 4). Smaller still would cost digits in float32.
    w[0], w[1] = w[2], w[2] / 256
    shift = [1 - w[j] * d[0][j] for j in range(s + 1)]
    mu, nu, kappa, gamma = [0.0, 1.0], [0.0, 0.0], [0.0, w[1] * w1], [0.0, 0.0]
    for j in range(2, s + 1):
        mu.append(2 * w[j] * w0 / w[j - 1])
        nu.append(-w[j] / w[j - 2])
        kappa.append(2 * w[j] * w1 / w[j - 1])
        gamma.append(-shift[j - 1] * kappa[j])
    # Y_1 = y + κ_1 h F_0 weighs heavily with its sign changing: put in by hand, what of y cancels does not get rounded.
    gamma[2] += mu[2] * kappa[1]
    gamma[3] += nu[3] * kappa[1]
    mu[2] = nu[2] = nu[3] = 0.0
    left = (1 - a * q**4 - b * c**4 * kappa4) / 24  # of h⁴ y⁗ in the local error
    return Plan(
        Recurrence(tuple(mu), tuple(nu), tuple(kappa), tuple(gamma), None, stage_weights(mu, nu, kappa, gamma)),
        a, b, (w0 + 1) / w1, tuple(left * x for x in _fourth_derivative(q)),
    )  # fmt: skip


def _fourth_derivative(q: float) -> list[float]:
    """Return the combination of y(−q), y(0), y(1), y′(0), y′(1) that is y⁗ for quartics and 0 for cubics."""
    rows = [[(-q) ** p, float(p == 0), 1.0, float(p == 1), float(p)] for p in range(5)]
    right = torch.tensor([0.0, 0.0, 0.0, 0.0, 24.0], dtype=torch.float64)
    solved: list[float] = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), right).tolist()
    return solved
