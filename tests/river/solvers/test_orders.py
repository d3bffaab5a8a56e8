"""Every method is of the order it says: step, error estimate, and the work integral of the energy identity."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from gradientflow.river.solvers import solver
from gradientflow.river.solvers.base import Past
from gradientflow.river.solvers.explicit import RungeKutta
from gradientflow.river.solvers.recurrence import Recurrence
from gradientflow.river.solvers.tableaus import DP54, DP87, RK4, Tableau, elementary_weights
from gradientflow.river.solvers.twostep import plan
from tests.river.solvers.cases import BUMPS, END, START, TABLE, D, column, march, one_step, truth

STEPS = {"dp87": (4, 8), "euler": (80, 160), "rk4": (20, 40), "dp54": (10, 20), "tsrkc3": (60, 120)}
RATIOS = [(n, s, q) for n, s in TABLE if n not in ("rk4", "euler") for q in ((1.0, 1.7) if n == "tsrkc3" else (1.0,))]


@pytest.mark.parametrize(("name", "stages"), TABLE)
def test_convergence_order_at_alternating_step_lengths(name: str, stages: int):
    method = solver(name)
    counts = STEPS.get(name, (40, 80) if stages < 5 else (20, 40))
    coarse, fine = (march(name, n, stages, wave=0.5) for n in counts)
    order, work_order = (math.log2(a / b) for a, b in zip(coarse, fine, strict=True))
    assert order > method.order - 0.45
    # The work of the stabilized methods is a quadrature of order 2 to 3 over the stages; of the others, the method's own.
    assert work_order > min(method.order, 2 if method.stabilized else 9) - 0.45
    if name not in ("dp87", "tsrkc3"):  # negative control: nor is it of the next order
        assert order < method.order + 0.6


def test_a_wrong_coefficient_costs_the_order():
    wrong = dataclasses.replace(RK4, b=(1 / 6, 1 / 3 + 1e-3, 1 / 3 - 1e-3, 1 / 6))  # still consistent
    spoilt = RungeKutta("spoilt", wrong, "nobody")

    def error(method: RungeKutta, steps: int) -> float:
        theta = torch.tensor([[0.9, 0.4]], dtype=D)
        here = BUMPS.evaluate(theta)
        for _ in range(steps):
            trial = method.step(BUMPS.evaluate, theta, here, column(END / steps), [4])
            theta, here = trial.theta, trial.there
        return float(np.linalg.norm(theta[0].numpy() - truth(END)[:2]))

    assert math.log2(error(solver("rk4"), 40) / error(solver("rk4"), 80)) > 3.7
    assert math.log2(error(spoilt, 40) / error(spoilt, 80)) < 3.2


@pytest.mark.parametrize(("name", "stages", "ratio"), RATIOS)
def test_the_error_estimate_shrinks_at_its_order_and_is_no_less_than_the_error(name: str, stages: int, ratio: float):
    method = solver(name)
    h = 0.4 if name == "dp87" else 0.1
    estimates, errors = [], []
    for length in (h, h / 2):
        trial, exact = one_step(name, length, stages, ratio)
        assert trial.defect is not None
        estimates.append(float(trial.defect.norm()))
        errors.append(float(np.linalg.norm(trial.theta[0].numpy() - exact[:2])))
    slope = math.log2(estimates[0] / estimates[1])
    assert method.error_order - 0.3 < slope < method.error_order + 0.6
    assert math.log2(errors[0] / errors[1]) > method.order + 1 - 0.3
    assert all(1.0 < e / x < 200 for e, x in zip(estimates, errors, strict=True))


@pytest.mark.parametrize("stages", [4, 5, 9, 30])
@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.3, 3.0, 20.0])
def test_the_two_step_method_is_of_order_three_at_every_step_ratio(stages: int, ratio: float):
    h = 0.1 if ratio < 5 else 0.02  # the point before must still be on the same stretch of path
    errors = []
    for length in (h, h / 2):
        trial, exact = one_step("tsrkc3", length, stages, ratio)
        errors.append(float(np.linalg.norm(trial.theta[0].numpy() - exact[:2])))
    assert math.log2(errors[0] / errors[1]) > 3.7
    # negative control: the same coefficients with the wrong ratio are of lower order
    slips = []
    for length in (h, h / 2):
        theta = torch.tensor([START], dtype=D)
        past = Past(torch.tensor(truth(-ratio * length)[None, :2]), column(1.2 * ratio * length))
        wrong = solver("tsrkc3").step(BUMPS.evaluate, theta, BUMPS.evaluate(theta), column(length), [stages], past)
        slips.append(float(np.linalg.norm(wrong.theta[0].numpy() - truth(length)[:2])))
    assert math.log2(slips[0] / slips[1]) < 2.6


def residuals(tableau: Tableau, order: int) -> tuple[float, int]:
    """The largest violation of an order condition up to that order, and how many conditions there are."""
    a = torch.zeros(len(tableau.b), len(tableau.b), dtype=D)
    for i, row in enumerate(tableau.a):
        a[i, : len(row)] = torch.tensor(row, dtype=D)
    b = torch.tensor(tableau.b, dtype=D)
    trees = elementary_weights(a, order)
    found = [abs(float(b @ w) - 1 / density) for group in trees.values() for w, density in group]
    return max(found), len(found)


@pytest.mark.parametrize(("tableau", "trees"), [(DP54, 17), (DP87, 200)], ids=["dp54", "dp87"])
def test_order_conditions_of_the_tableaus(tableau: Tableau, trees: int):
    worst, count = residuals(tableau, tableau.order)
    assert count == trees  # rooted trees with up to 5, 8 vertices: 1+1+2+4+9, … +20+48+115
    assert worst < 1e-14
    assert residuals(tableau, tableau.order + 1)[0] > 1e-6  # negative control: not of a higher order
    for i in range(len(tableau.a) - 1, 0, -1):  # and every coefficient counts: one part in 10⁶ is seen
        row = list(tableau.a[i])
        k = max(range(len(row)), key=lambda j: abs(row[j]))
        row[k] *= 1 + 1e-6
        bent = dataclasses.replace(tableau, a=(*tableau.a[:i], tuple(row), *tableau.a[i + 1 :]))
        assert residuals(bent, tableau.order)[0] > 10 * worst


def stage_matrix(r: Recurrence) -> torch.Tensor:
    """The Runge–Kutta matrix of the stages Y_0 … Y_last of a three-term recurrence."""
    a = torch.zeros(r.last + 1, r.last + 1, dtype=D)
    for j in range(1, r.last + 1):
        a[j] = r.mu[j] * a[j - 1] + (r.nu[j] * a[j - 2] if j > 1 else 0.0)
        a[j, j - 1] += r.kappa[j]
        a[j, 0] += r.gamma[j]
    return a


@pytest.mark.parametrize("stages", [2, 3, 4, 5, 9, 40])
@pytest.mark.parametrize("name", ["rkc2", "rkmc2"])
def test_order_conditions_of_the_chebyshev_methods(name: str, stages: int):
    if name == "rkmc2":
        stages += 1
    r = solver(name).recurrence(stages)  # type: ignore[attr-defined]
    a = stage_matrix(r)
    b = a[-1].clone()
    if r.closing is not None:
        b = r.closing[0] * a[-1] + r.closing[1] * a[-3]
        b[0] += r.closing[2]
    trees = elementary_weights(a, 3)
    assert max(abs(float(b @ w) - 1 / d) for n in (1, 2) for w, d in trees[n]) < 1e-12
    assert max(abs(float(b @ w) - 1 / d) for w, d in trees[3]) > 1e-4  # negative control: not of order 3


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("stages", [4, 5, 9, 40])
def test_order_conditions_of_the_two_step_method(stages: int, ratio: float):
    """B Φ_s + A (−q)ⁿ/γ = 1/γ for every tree with n ≤ 3 vertices; for the bushy tree of three it is only nearly so.

    The first stage is of first order, and what that leaves (c₁² times its weight) must be too small to be met in practice.
    """
    p = plan(stages, ratio)
    a = stage_matrix(p.recurrence)
    trees = elementary_weights(a, 4)

    def defect(n: int, w: torch.Tensor, density: int, before: float) -> float:
        return abs(p.here * float(a[-1] @ w) + before * (-ratio) ** n / density - 1 / density)

    for n in (1, 2):
        assert max(defect(n, w, d, p.before) for w, d in trees[n]) < 1e-12
    tall, bushy = sorted(defect(3, w, d, p.before) for w, d in trees[3])
    assert tall < 1e-12
    assert bushy < 2e-4
    assert max(defect(4, w, d, p.before) for w, d in trees[4]) > 1e-4  # negative controls: not of order 4,
    assert max(defect(3, w, d, 1.01 * p.before) for w, d in trees[3]) > 1e-5  # and the weight before counts


@pytest.mark.parametrize("tableau", [DP54, DP87], ids=["dp54", "dp87"])
def test_the_embedded_difference_vanishes_up_to_its_order(tableau: Tableau):
    n = len(tableau.b)
    a = torch.zeros(n + 1, n + 1, dtype=D)
    for i, row in enumerate((*tableau.a, tableau.b)):
        a[i, : len(row)] = torch.tensor(row, dtype=D)
    assert tableau.e is not None
    e = torch.tensor(tableau.e, dtype=D)
    size = {
        n: max(abs(float(e @ w)) for w, _ in group) for n, group in elementary_weights(a, tableau.error_order).items()
    }
    assert max(v for n, v in size.items() if n < tableau.error_order) < 1e-14
    assert size[tableau.error_order] > 1e-5  # and there it begins
