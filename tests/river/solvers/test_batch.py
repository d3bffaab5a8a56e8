"""A batch is its rows: every drop with its own step length, number of stages and step before."""

from __future__ import annotations

import pytest
import torch

from gradientflow.river.fields.base import Evaluation, Potential
from gradientflow.river.solvers import METHODS, candidates, solver
from gradientflow.river.solvers.base import Past, Trial
from tests.river.solvers.cases import BUMPS, D, column

H = (0.05, 0.21, 0.4, 0.11)
PAST = (0.06, 0.21, 0.2, 0.5)
COUNTS = {"rkc2": [2, 9, 4, 30], "rkmc2": [3, 9, 4, 30], "tsrkc3": [4, 9, 5, 30]}


def points(seed: int) -> torch.Tensor:
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(seed), dtype=D)


def step(name: str, rows: list[int], h: tuple[float, ...] = H) -> Trial:
    method, theta = solver(name), points(1)[rows]
    counts = COUNTS.get(name, [method.stages(0.0)] * 4)
    past = Past(points(1)[rows] + 0.1 * points(2)[rows], column(*(PAST[i] for i in rows))) if method.two_step else None
    lengths = column(*(h[i] for i in rows))
    return method.step(BUMPS.evaluate, theta, BUMPS.evaluate(theta), lengths, [counts[i] for i in rows], past)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_equals_its_rows(name: str):
    together = step(name, [0, 1, 2, 3])
    for i in range(4):
        alone = step(name, [i])
        for a, b in (
            (together.theta[i], alone.theta[0]),
            (together.there.rate[i], alone.there.rate[0]),
            (together.work[i], alone.work[0]),
        ):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        if alone.defect is not None and together.defect is not None:
            torch.testing.assert_close(together.defect[i], alone.defect[0], rtol=1e-9, atol=1e-13)
    # negative control: row 1 with the length of row 0 goes somewhere else, and only row 1 does
    other = step(name, [0, 1, 2, 3], (H[0], H[0], H[2], H[3]))
    assert not torch.allclose(other.theta[1], together.theta[1], rtol=1e-6)
    torch.testing.assert_close(other.theta[[0, 2, 3]], together.theta[[0, 2, 3]], rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_leaves_what_it_was_given(name: str):
    method, theta = solver(name), points(3)
    here = BUMPS.evaluate(theta)
    past = Past(points(4), column(*PAST)) if method.two_step else None
    given = [theta.clone(), here.rate.clone(), None if past is None else past.theta.clone()]
    method.step(BUMPS.evaluate, theta, here, column(*H), COUNTS.get(name, [method.stages(0.0)] * 4), past)
    assert torch.equal(theta, given[0]) and torch.equal(here.rate, given[1])
    assert past is None or torch.equal(past.theta, given[2])


@pytest.mark.parametrize("name", METHODS)
def test_a_step_makes_as_many_calls_as_it_says_the_last_at_the_new_point(name: str):
    method, theta = solver(name), points(3)[:1]
    for stages in COUNTS.get(name, [method.stages(0.0)]):
        seen = []

        def call(x: torch.Tensor, seen: list[torch.Tensor] = seen) -> Evaluation:
            seen.append(x.clone())
            return BUMPS.evaluate(x)

        past = Past(points(4)[:1], column(0.1)) if method.two_step else None
        trial = method.step(call, theta, BUMPS.evaluate(theta), column(0.1), [stages], past)
        assert len(seen) == stages
        assert torch.equal(seen[-1], trial.theta)
        assert not torch.equal(seen[0], trial.theta) or stages == 1


@pytest.mark.parametrize("name", METHODS)
def test_single_precision_follows_double(name: str):
    method, theta = solver(name), points(3)
    count = COUNTS.get(name, [method.stages(0.0)] * 4)
    ends = []
    for dtype in (D, torch.float32):
        x = theta.to(dtype)
        past = Past(points(4).to(dtype), column(*PAST).to(dtype)) if method.two_step else None
        trial = method.step(BUMPS.evaluate, x, BUMPS.evaluate(x), column(*H).to(dtype), count, past)
        assert trial.theta.dtype == dtype and trial.work.dtype == D
        ends.append(trial.theta.double())
    torch.testing.assert_close(ends[0], ends[1], rtol=2e-5, atol=2e-5)
    assert not torch.equal(ends[0], ends[1])


def test_round_off_grows_with_the_stages_and_stays_below_a_tenth_of_the_tolerance_at_the_cap():
    """RKC 1998, §3.5: s_max = √(rtol/(10u)), 41 for float32 and rtol 10⁻³."""
    import math

    from gradientflow.river.paths.integrate import Flow
    from gradientflow.river.paths.meter import Meter

    def bowl(dtype: torch.dtype) -> Potential:
        scale = torch.linspace(0.1, 1, 64, dtype=dtype)
        return Potential(lambda w: 0.5 * (scale * w * w).sum(), start=torch.ones(64, dtype=dtype))

    def cap(dtype: torch.dtype, rtol: float) -> int:
        field = bowl(dtype)
        theta = torch.ones(1, 64, dtype=dtype)
        flow = Flow(Meter(field), theta, 1.0, candidates("rkc2", rtol, potential=True), rtol, 0.0)
        return flow._most_stages(theta)

    unit = torch.finfo(torch.float32).eps / 2
    assert cap(torch.float32, 1e-3) in (40, 41) and abs(math.sqrt(1e-3 / (10 * unit)) - 41) < 0.1
    assert cap(torch.float32, 1e-2) > 100 and cap(D, 1e-3) >= 200
    field, theta = bowl(torch.float32), torch.ones(1, 64)
    exact, start = bowl(D), torch.ones(1, 64, dtype=D)

    def noise(stages: int) -> float:
        h = column(0.9 * solver("rkc2").reach(stages))
        rough = solver("rkc2").step(field.evaluate, theta, field.evaluate(theta), h.float(), [stages])
        fine = solver("rkc2").step(exact.evaluate, start, exact.evaluate(start), h.float().double(), [stages])
        return float((rough.theta.double() - fine.theta).norm() / 8)

    assert noise(41) < 1e-4  # a tenth of rtol 10⁻³
    assert noise(400) > noise(41)  # negative control: it does grow


def test_a_single_precision_flow_keeps_to_the_cap():
    from gradientflow.river import flow

    scale = torch.linspace(0.01, 1000.0, 16)
    bowl = Potential(lambda w: 0.5 * (scale * w * w).sum(), start=torch.ones(16))
    path = flow(bowl, 20.0, method="rkc2", rtol=1e-3, certify=False)
    assert path.status.ok and path.final.dtype == torch.float32
    assert 20 < int(path.stages.max()) <= 41
    double = flow(
        Potential(lambda w: 0.5 * (scale.double() * w * w).sum(), start=torch.ones(16, dtype=D)),
        20.0, method="rkc2", rtol=1e-3, certify=False,
    )  # fmt: skip
    assert int(double.stages.max()) > 41  # negative control: the same flow in double precision goes beyond
