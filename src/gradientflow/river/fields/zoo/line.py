"""Fields on the line: one number that flows, with the answer in closed form; some of them ill-posed on purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.river.fields.zoo.kinds import ZooField, ZooPotential, ZooVector, points, spread


def logistic_one() -> ZooField:
    """One logistic example: L = ln(1 + e^{−w}); w + e^w = t + w0 + e^{w0}, so w grows like ln t for ever."""

    def solution(w0: Tensor, t: Tensor | float) -> Tensor:
        c = spread(t, w0) + w0 + torch.exp(w0)
        w = torch.where(
            c > 1, torch.log(c.clamp(min=1.0)), c
        )  # right of the root; Newton on a convex function from there
        for _ in range(60):
            w = w - (w + torch.exp(w) - c) / (1 + torch.exp(w))
        return w

    box = [(-3.0, 8.0)]
    field = ZooPotential(
        lambda w: torch.nn.functional.softplus(-w[..., 0], threshold=1e9), start=[-1.0], name="logistic-one", box=box
    )
    return ZooField(
        "logistic-one", "logistic loss on one example: the weight grows like ln t and never rests", field, box,
        points([-1.0])[0], 500.0, solution,
    )  # fmt: skip


def exp_one() -> ZooField:
    """Exponential loss on one example: L = e^{−w}; w = ln(t + e^{w0}), and L·t → 1."""

    def solution(w0: Tensor, t: Tensor | float) -> Tensor:
        return torch.log(spread(t, w0) + torch.exp(w0))

    box = [(-3.0, 8.0)]
    field = ZooPotential(lambda w: torch.exp(-w[..., 0]), start=[0.0], name="exp-one", box=box)
    return ZooField(
        "exp-one", "exponential loss on one example: w = ln(t + e^w0)", field, box, points([0.0])[0], 1000.0, solution
    )


def sqrt() -> ZooField:
    """dθ/dt = √|θ|: at 0 the rate is not Lipschitz, and from 0 a drop may stay or leave, at any time, as (t − s)²/4.

    From θ0 > 0 the flow is unique, (√θ0 + t/2)². From θ0 < 0 it is unique until it reaches 0 at t = 2√|θ0|
    (``facts["until"]``); the solution is NaN after that.
    """

    def until(x0: Tensor) -> Tensor:
        return torch.where(x0 > 0, torch.inf, 2 * x0.abs().sqrt())

    def solution(x0: Tensor, t: Tensor | float) -> Tensor:
        root, time = x0.abs().sqrt(), spread(t, x0)
        x = torch.where(x0 > 0, (root + time / 2) ** 2, -((root - time / 2) ** 2))
        return torch.where(time <= until(x0), x, torch.nan)

    box = [(-1.5, 1.5)]
    field = ZooVector(lambda x: x.abs().sqrt(), start=[-1.0], name="sqrt", box=box)
    return ZooField(
        "sqrt", "dθ/dt = √|θ|: not Lipschitz at 0, so no unique flow from there on", field, box, points([-1.0])[0], 4.0,
        solution, facts={"until": until},
    )  # fmt: skip


def abs_sqrt() -> ZooField:
    """L = √|x|: the rate is infinite at the minimum, which is reached at t = (4/3)|x0|^{3/2} (``facts["arrival"]``)."""

    def arrival(x0: Tensor) -> Tensor:
        return 4 / 3 * x0.abs() ** 1.5

    def solution(x0: Tensor, t: Tensor | float) -> Tensor:
        left = x0.abs() ** 1.5 - 0.75 * spread(t, x0)
        return x0.sign() * left.clamp(min=0.0) ** (2 / 3)

    box = [(-1.5, 1.5)]
    field = ZooPotential(lambda x: x[..., 0].abs().sqrt(), start=[1.0], name="abs-sqrt", box=box)
    return ZooField(
        "abs-sqrt", "L = √|x|: infinite rate at the minimum, which is reached in finite time", field, box,
        points([1.0])[0], 2.0, solution, minima=points([0.0]), facts={"arrival": arrival},
    )  # fmt: skip


def blow_up() -> ZooField:
    """dθ/dt = θ²: θ0/(1 − θ0 t), which is infinite at t = 1/θ0 (``facts["explosion"]``; never where θ0 ≤ 0)."""

    def explosion(x0: Tensor) -> Tensor:
        return torch.where(x0 > 0, 1 / torch.where(x0 > 0, x0, torch.ones_like(x0)), torch.inf)

    def solution(x0: Tensor, t: Tensor | float) -> Tensor:
        time = spread(t, x0)
        return torch.where(time < explosion(x0), x0 / (1 - x0 * time), torch.nan)

    box = [(-2.0, 3.0)]
    field = ZooVector(lambda x: x * x, start=[1.0], name="blow-up", box=box)
    return ZooField(
        "blow-up", "dθ/dt = θ²: reaches infinity at t = 1/θ0", field, box, points([1.0])[0], 2.0, solution,
        facts={"explosion": explosion},
    )  # fmt: skip
