"""Explicit Runge–Kutta methods: for flows that are not stiff, for tight tolerances, and as baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.solvers.base import Call, Past, Solver, Trial, add, squared
from gradientflow.river.solvers.tableaus import DP54 as _DP54
from gradientflow.river.solvers.tableaus import DP87 as _DP87
from gradientflow.river.solvers.tableaus import EULER as _EULER
from gradientflow.river.solvers.tableaus import RK4 as _RK4
from gradientflow.river.solvers.tableaus import Tableau


class RungeKutta(Solver):
    """One explicit Runge–Kutta step from a tableau. Its last call is at the new point."""

    rule: float | None = None  # without an error estimate: the step length is rule / ρ

    def __init__(self, name: str, tableau: Tableau, source: str, *, rule: float | None = None) -> None:
        self.name, self.source, self.tableau, self.rule = name, source, tableau, rule
        self.order, self.error_order = tableau.order, tableau.error_order
        self.vectors = 2 + len(tableau.b)

    def reach(self, stages: int, ratio: float = 1.0) -> float:
        return self.tableau.reach

    def stages(self, z: float, ratio: float = 1.0) -> int:
        return len(self.tableau.b)

    def step(
        self, call: Call, theta: Tensor, here: Evaluation, h: Tensor, stages: list[int], past: Past | None = None
    ) -> Trial:
        t = self.tableau
        single = theta.shape[0] == 1
        length: float | Tensor = float(h) if single else h
        rates: list[Tensor | None] = [here.rate]
        work = t.b[0] * squared(here.rate)
        point = torch.empty_like(theta)
        for i, row in enumerate((*t.a[1:], t.b), 1):
            point.copy_(theta)
            for rate, weight in zip(rates, row, strict=True):
                if weight and rate is not None:
                    add(point, rate, weight * length)
            if i == len(t.b):
                break
            rate = call(point).rate
            work = work + t.b[i] * squared(rate)
            rates.append(rate)
        there = call(point)
        defect: Tensor | None = None
        if t.e is not None:
            defect = rates[1] if rates[1] is not None and not t.e[1] and not t.b[1] else torch.empty_like(theta)
            defect.zero_()
            for rate, weight in zip([*rates, there.rate], t.e, strict=True):
                if weight and rate is not None:
                    add(defect, rate, weight * length)
        return Trial(point, there, defect, _work(work, theta, point, here, there, h))


def _work(stages: Tensor, theta: Tensor, after: Tensor, here: Evaluation, there: Evaluation, h: Tensor) -> Tensor:
    """Return ∫‖dθ/dt‖² over the step, from the stages or, where these are far off the path, from the path itself.

    The method's own weights on ‖k_i‖² are of its order. Near the stability bound, though, inner stages overshoot in the
    stiff directions while the step does not; then Simpson's rule on the slope of the cubic through both ends is nearer.
    """
    length = h[:, 0].double()
    slope = torch.sub(after, theta).mul_(1.5 / h).sub_(here.rate, alpha=0.25).sub_(there.rate, alpha=0.25)
    ends = (squared(here.rate) + 4 * squared(slope) + squared(there.rate)) / 6
    smooth = (stages - ends).abs() <= 0.05 * ends
    return torch.where(smooth, stages, ends) * length


def euler() -> RungeKutta:
    """Return Euler's method with h = 1/(2ρ): gradient descent at a quarter of its largest stable rate."""
    return RungeKutta("euler", _EULER, "Euler 1768", rule=0.5)


def rk4() -> RungeKutta:
    """Return the classical fourth-order method with h = 1/ρ, as the edge-of-stability experiments run it."""
    return RungeKutta("rk4", _RK4, "Kutta 1901; step rule of Cohen et al. 2021, App. A", rule=1.0)


def dp54() -> RungeKutta:
    """Return the 5(4) pair of Dormand & Prince."""
    return RungeKutta("dp54", _DP54, "Dormand & Prince 1980, RK5(4)7M")


def dp87() -> RungeKutta:
    """Return the 8(7) pair of Prince and Dormand."""
    return RungeKutta("dp87", _DP87, "Prince & Dormand 1981, RK8(7)13M")
