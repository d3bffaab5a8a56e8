"""Every method is stable as far as it says, and not much farther; damping is what the method is for."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.solvers import METHODS, solver
from gradientflow.river.solvers.base import Past
from gradientflow.river.solvers.recurrence import quadrature, stage_weights
from gradientflow.river.solvers.tableaus import RK4
from gradientflow.river.solvers.twostep import LEAST_RATIO, plan
from tests.river.solvers.cases import TABLE, D, amplification, stable_up_to

LEAST = {"rkc2": 2, "rkmc2": 3, "tsrkc3": 4}
MANY = [("rkc2", 10), ("rkc2", 50), ("rkc2", 200), ("rkmc2", 10), ("rkmc2", 50), ("rkmc2", 200), ("tsrkc3", 50)]


@pytest.mark.parametrize(("name", "stages"), [*TABLE, *MANY])
def test_stable_on_the_whole_claimed_length(name: str, stages: int):
    method = solver(name)
    for ratio in (LEAST_RATIO, 0.7, 1.0, 2.0, 10.0, 1e3) if method.two_step else (1.0,):
        claimed = method.reach(stages, ratio)
        measured = stable_up_to(method, stages, ratio, 1.6 * claimed)
        assert measured >= claimed * (1 - 1e-3)
        # The claim is a formula in s: for few stages it gives part of the length away.
        assert measured <= claimed * (1.03 if stages >= 30 or not method.stabilized else 1.3) or stages == 4


def test_a_claim_that_is_too_long_is_found_out():
    # negative control of the scan itself: at 1.05 times its length every method grows a mode
    for name, stages in (("rkc2", 50), ("rkmc2", 200), ("tsrkc3", 50), ("dp54", 6), ("rk4", 4), ("euler", 1)):
        method = solver(name)
        assert stable_up_to(method, stages, 1.0, 1.05 * method.reach(stages)) < math.inf


@pytest.mark.parametrize("name", [n for n in METHODS if solver(n).stabilized])
def test_as_many_stages_as_needed_and_not_one_more(name: str):
    method = solver(name)
    for z in (0.0, 0.5, 3.0, 10.0, 57.0, 333.0, 2e3, 1.7e4):
        for ratio in (0.5, 1.0, 2.0) if method.two_step else (1.0,):
            s = method.stages(z, ratio)
            assert method.reach(s, ratio) >= z
            fewest = LEAST[name]
            assert s == fewest or method.reach(s - 1, ratio) < z
    assert method.stages(0.0) == LEAST[name]


@pytest.mark.parametrize("stages", [3, 4, 5, 6, 7, 12, 25, 60, 199])
def test_rkmc2_is_positive_and_monotone(stages: int):
    reach = solver("rkmc2").reach(stages)
    z = torch.linspace(0, reach, 3001, dtype=D)
    grown = amplification(solver("rkmc2"), stages, z)
    assert float(grown.min()) > -1e-9
    assert float(grown.diff().max()) < 1e-9
    if stages > 3:  # negative control: RKC2 at as many stages is neither
        other = amplification(
            solver("rkc2"), stages, torch.linspace(0, 0.9 * solver("rkc2").reach(stages), 3001, dtype=D)
        )
        assert float(other.diff().max()) > 1e-4


def test_rkc2_damps_what_it_passes():
    for stages in (5, 20, 100):
        reach = solver("rkc2").reach(stages)
        inside = amplification(solver("rkc2"), stages, torch.linspace(0.1 * reach, reach, 2001, dtype=D)).abs()
        assert float(inside.max()) < 0.97
    assert float(amplification(solver("rk4"), 4, torch.tensor([0.999 * RK4.reach], dtype=D)).abs()) > 0.97


@pytest.mark.parametrize("stages", [4, 12, 60])
def test_the_two_step_method_stays_bounded_when_the_step_length_keeps_changing(stages: int):
    method = solver("tsrkc3")

    def product(ratios: list[float]) -> float:
        """Largest growth over the modes after this sequence of step ratios, repeated; λ = 1/h of the shortest reach."""
        lengths = list(itertools.accumulate(ratios, lambda h, q: h / q, initial=1.0))
        shortest = min(plan(stages, q).reach / h for q, h in zip(ratios, lengths[1:], strict=True))
        lam = torch.linspace(0, shortest, 401, dtype=D)[1:, None]

        def decay(theta: Tensor) -> Evaluation:
            return Evaluation(-lam * theta, None)

        before, now = torch.ones_like(lam), 0.5 * torch.ones_like(lam)
        for k, h in enumerate(lengths[1:]):
            past = Past(before, torch.full_like(lam, lengths[k]))
            trial = method.step(decay, now, decay(now), torch.full_like(lam, h), [stages] * len(lam), past)
            before, now = now, trial.theta
        return float(now.abs().max())

    assert product([0.5, 2.0] * 12) < 1.0
    assert product([0.5, 0.8, 2.5, 1.0] * 6) < 1.0


def test_the_two_step_method_is_not_stable_where_a_step_more_than_triples():
    # negative control, and the reason for LEAST_RATIO: undamped modes grow where h₋/h is small
    method = solver("tsrkc3")
    z = torch.linspace(0, 0.01, 50, dtype=D)[1:]
    assert float(amplification(method, 8, z, LEAST_RATIO).max()) < 1.0
    a, b = plan(8, 0.05).before, plan(8, 0.05).here
    assert abs(1 - a - b) > 0.5 or a > 0.5  # the point before weighs as much as the present one


@pytest.mark.parametrize("times", [[0.0, 1.0], [0.0, 0.3, 1.0], [0.0, 0.04, 0.2, 0.45, 0.8, 1.0]])
def test_quadrature_weights_are_exact_for_quadratics(times: list[float]):
    weights = quadrature(times)
    highest = 2 if len(times) > 2 else 1
    for power in range(highest + 1):
        assert sum(w * t**power for w, t in zip(weights, times, strict=True)) == pytest.approx(
            1 / (power + 1), abs=1e-14
        )
    if len(times) > 2:  # negative control: not for a power that three unevenly spaced points cannot integrate
        assert abs(sum(w * t**5 for w, t in zip(weights, times, strict=True)) - 1 / 6) > 1e-6


@pytest.mark.parametrize("name", [n for n in METHODS if solver(n).stabilized])
@pytest.mark.parametrize("stages", [4, 7, 40])
def test_work_of_a_constant_and_of_a_parabola_along_the_stage_times(name: str, stages: int):
    """∫‖rate‖² where ‖rate‖² is constant is ‖rate‖²·h, and where it is a parabola in t it is exact too."""
    r = plan(stages, 1.0).recurrence if name == "tsrkc3" else solver(name).recurrence(stages)  # type: ignore[attr-defined]
    assert sum(r.weights) == pytest.approx(1.0, abs=1e-12)
    times = [0.0]
    for j in range(1, r.last):
        times.append(r.mu[j] * times[j - 1] + (r.nu[j] * times[j - 2] if j > 1 else 0.0) + r.kappa[j] + r.gamma[j])
    assert all(0 <= t <= 1.6 for t in times)
    assert sum(w * t * t for w, t in zip(r.weights, [*times, 1.0], strict=True)) == pytest.approx(1 / 3, abs=1e-12)
    assert (
        abs(sum(w * t for w, t in zip(r.weights, [*times[1:], 1.0, 1.0], strict=True)) - 0.5) > 1e-6
    )  # shifted: wrong
    assert stage_weights(list(r.mu), list(r.nu), list(r.kappa), list(r.gamma)) == r.weights
