"""What every solver is measured on: a smooth nonlinear flow with a reference from SciPy, and the scalar test equation."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from gradientflow.river.fields.base import Evaluation, Potential
from gradientflow.river.solvers import METHODS, solver
from gradientflow.river.solvers.base import Past, Solver, Trial

D = torch.float64
START = (0.9, 0.4)
END = 2.0
BUMPS = Potential(lambda w: torch.cos(w[0]) + torch.sin(w[0] + 0.5 * w[1]) + 0.2 * w[1] ** 2, start=START, name="bumps")

# How many stages each method is measured at: the fewest it has, the next, and many.
STAGES = {name: [solver(name).stages(0.0)] for name in METHODS} | {
    "rkc2": [2, 3, 5, 15],
    "rkmc2": [3, 4, 5, 15],
    "tsrkc3": [4, 5, 15],
}
TABLE = [(name, s) for name, counts in STAGES.items() for s in counts]


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=D)[:, None]


@lru_cache(maxsize=64)
def truth(t: float) -> np.ndarray:
    """θ(t) of BUMPS from START, and ∫‖dθ/dt‖² dt up to there; t may be negative."""

    def f(_: float, z: np.ndarray) -> list[float]:
        x, y, _ = z
        slope = math.cos(x + 0.5 * y)
        a, b = math.sin(x) - slope, -0.5 * slope - 0.4 * y
        return [a, b, a * a + b * b]

    return solve_ivp(f, (0, t), [*START, 0.0], method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


def one_step(name: str, h: float, stages: int, ratio: float = 1.0) -> tuple[Trial, np.ndarray]:
    """One step from START, with an exact point before it where the method wants one; and the truth after it."""
    method, theta = solver(name), torch.tensor([START], dtype=D)
    past = Past(torch.tensor(truth(-ratio * h)[None, :2]), column(ratio * h)) if method.two_step else None
    return method.step(BUMPS.evaluate, theta, BUMPS.evaluate(theta), column(h), [stages], past), truth(h)


def march(name: str, steps: int, stages: int, wave: float) -> tuple[float, float]:
    """Errors of θ(END) and of the work, after steps whose lengths alternate by a factor 1 + wave."""
    method = solver(name)
    lengths = np.ones(steps)
    lengths[1::2] += wave
    lengths *= END / lengths.sum()
    theta = torch.tensor([START], dtype=D)
    here, work = BUMPS.evaluate(theta), 0.0
    past = Past(torch.tensor(truth(-lengths[1])[None, :2]), column(lengths[1])) if method.two_step else None
    for h in lengths:
        trial = method.step(BUMPS.evaluate, theta, here, column(h), [stages], past)
        past = Past(theta, column(h))
        theta, here = trial.theta, trial.there
        work += float(trial.work)
    end = truth(END)
    return float(np.linalg.norm(theta[0].numpy() - end[:2])), abs(work - float(end[2]))


def amplification(method: Solver, stages: int, z: Tensor, ratio: float = 1.0) -> Tensor:
    """By how much a step of h·λ = z grows a mode of dy/dt = −λy: |R(z)|, or the spectral radius for a two-step method."""
    z, one = z[:, None], torch.ones(len(z), 1, dtype=D)

    def decay(theta: Tensor) -> Evaluation:
        return Evaluation(-z * theta, None)

    def result(theta: Tensor, before: Tensor | None) -> Tensor:
        past = None if before is None else Past(before, ratio * one)
        return method.step(decay, theta, decay(theta), one, [stages] * len(z), past).theta[:, 0]

    if not method.two_step:
        return result(one, None)
    companion = torch.zeros(len(z), 2, 2, dtype=D)
    companion[:, 0, 0], companion[:, 0, 1] = result(one, 0 * one), result(0 * one, one)
    companion[:, 1, 0] = 1.0
    return torch.linalg.eigvals(companion).abs().amax(1)


def stable_up_to(method: Solver, stages: int, ratio: float, far: float, points: int = 2001) -> float:
    """The smallest z on a grid up to `far` at which a mode grows; infinity where none does."""
    z = torch.linspace(0, far, points, dtype=D)[1:]
    grows = (amplification(method, stages, z, ratio).abs() > 1 + 1e-9).nonzero()
    return float(z[int(grows[0])]) if len(grows) else math.inf
