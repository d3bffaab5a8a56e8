"""How many parameter vectors a step holds, counted where they are made: as few at two hundred stages as at five."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gradientflow.curvature import lanczos
from gradientflow.river import Keep, LossField, Path, flow
from gradientflow.river.fields.base import Evaluation, Field, Linear
from gradientflow.river.solvers import METHODS, solver
from gradientflow.river.solvers.base import Call, Past, Solver, Trial
from gradientflow.river.solvers.spectrum import WIDE, WIDTH, Spectrum
from tests.river.solvers.cases import D, column

P = 30_000  # above the size up to which a path's strangest step is kept
ALLOWED = 8
LITTLE = 0.05  # of a vector: numbers and small tensors
STABILIZED = [n for n in METHODS if solver(n).stabilized]


def peak(call: Callable[[], Any], size: int = P, itemsize: int = 8) -> float:
    """The most memory allocated at one time while something is called, in vectors, as PyTorch's allocator reports it."""
    gc.collect()  # what is left over from before must not be freed inside
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    events = [(e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    most = max(itertools.accumulate(number for _, number in sorted(events, key=lambda event: event[0])))
    return most / (size * itemsize)


class Bowl(Field):
    """½ Σ λ_i θ_i²: a field whose own evaluation makes one vector besides the rate."""

    size = P
    potential = True
    name = "bowl"

    def __init__(self, outliers: Sequence[float] = ()) -> None:
        self.scale = torch.linspace(0.05, 1.0, P, dtype=D)
        if outliers:
            self.scale[-len(outliers) :] = torch.tensor(outliers, dtype=D)

    def evaluate(self, theta: Tensor) -> Evaluation:
        rate = theta * self.scale
        value = torch.linalg.vecdot(rate, theta).mul_(0.5)
        return Evaluation(rate.neg_(), value)

    def linearize(self, theta: Tensor) -> Linear:
        return lambda v: -self.scale * v


def made_by_the_field(field: Field) -> float:
    theta = torch.ones(1, P, dtype=D)
    return peak(lambda: field.evaluate(theta))


def vectors_of_a_step(method: Solver, stages: int) -> float:
    field, theta = Bowl(), torch.ones(1, P, dtype=D)
    here, past = field.evaluate(theta), Past(1.01 * theta, column(0.01))
    most = peak(lambda: method.step(field.evaluate, theta, here, column(0.01), [stages], past))
    return most + 2 + (1 if method.two_step else 0) - made_by_the_field(field)  # θ, its rate, and the point before


@pytest.mark.parametrize("name", STABILIZED)
def test_a_step_holds_as_many_vectors_at_two_hundred_stages_as_at_five(name: str):
    few, many = vectors_of_a_step(solver(name), 5), vectors_of_a_step(solver(name), 200)
    assert few == pytest.approx(many, abs=LITTLE)
    assert many <= solver(name).vectors + 1 + LITTLE
    assert many <= ALLOWED


class Hoarder(Solver):
    """A step that keeps the rate of every stage, as table-driven Runge–Kutta methods do."""

    name, order, error_order, stabilized, vectors, source = "hoarder", 1, 2, True, 3, "nobody"

    def reach(self, stages: int, ratio: float = 1.0) -> float:
        return 2.0 * stages

    def stages(self, z: float, ratio: float = 1.0) -> int:
        return max(2, int(z / 2.0) + 1)

    def step(
        self, call: Call, theta: Tensor, here: Evaluation, h: Tensor, stages: list[int], past: Past | None = None
    ) -> Trial:
        rates, now = [here.rate], theta.clone()
        for _ in range(stages[0]):
            now.add_(rates[-1], alpha=float(h) / stages[0])
            rates.append(call(now).rate)
        return Trial(now, Evaluation(rates[-1], None), None, torch.zeros(1, dtype=D))


def test_a_method_that_keeps_its_stages_is_found_out():
    assert vectors_of_a_step(Hoarder(), 5) < vectors_of_a_step(Hoarder(), 200) - 100
    assert vectors_of_a_step(Hoarder(), 200) > 100


def test_a_look_at_the_spectrum_holds_no_more_than_its_basis_and_a_product():
    field, theta = Bowl([300.0, 1000.0, 3000.0]), torch.ones(1, P, dtype=D)

    def looks() -> None:
        spectrum = Spectrum(1, P, theta)
        for _ in range(3):
            spectrum.measure(field.linearize(theta), torch.tensor([0]))

    def wide() -> None:  # negative control: a large Krylov space would not pass
        lanczos(field.linearize(theta), theta.clone(), width=12, tolerance=0.0)

    assert 4 <= peak(looks) <= WIDTH + 3 <= ALLOWED < peak(wide)


# ── a whole flow ─────────────────────────────────────────────────────────────────────────────────────────────────────


def vectors_of_a_flow(name: str, outliers: Sequence[float], time: float, **more: Any) -> tuple[float, Path]:
    field, start = Bowl(outliers), torch.ones(P, dtype=D)
    paths: list[Path] = []
    most = peak(lambda: paths.append(flow(field, time, start=start, method=name, rtol=0.03, **more)))
    assert paths[0].status.ok
    return most - made_by_the_field(field), paths[0]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the vectors were too large for a wide look at the sharpness: that is where memory counts."""
    monkeypatch.setattr("gradientflow.river.solvers.spectrum.ROOM", 0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("name", STABILIZED)
def test_a_whole_flow_holds_eight_vectors_at_any_stage_count(name: str):
    """θ, rate, work vectors, the spectrum's basis, what the loop, the checks and the second run hold; the start is the caller's."""
    few, short = vectors_of_a_flow(name, (), 0.5)
    many, long = vectors_of_a_flow(name, (100.0, 300.0), 10.0)
    assert int(short.stages.max()) <= 4 and int(long.stages.max()) > 30
    assert abs(few - many) <= 2  # by whether the last look at the spectrum was a cold one
    assert 5 <= max(few, many) <= ALLOWED + LITTLE


def test_a_flow_that_keeps_more_is_found_out(monkeypatch: pytest.MonkeyPatch, large: None):
    """Negative controls: a path that keeps its points, an explicit method's stages, a wide basis of the spectrum."""
    assert vectors_of_a_flow("rkc2", (), 0.5, keep=Keep(theta=True))[0] > ALLOWED
    assert vectors_of_a_flow("dp54", (), 0.5)[0] > ALLOWED
    monkeypatch.setattr("gradientflow.river.paths.course.WIDTH", 8)
    assert vectors_of_a_flow("rkc2", (), 0.5)[0] > ALLOWED
    monkeypatch.undo()  # and where there is room a wide look is taken
    assert ALLOWED < vectors_of_a_flow("rkc2", (), 0.5)[0] <= ALLOWED + WIDE


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("name", "dtype"), [*((n, torch.float64) for n in STABILIZED), ("tsrkc3", torch.float32)])
def test_a_whole_flow_of_a_network_holds_eight_vectors_beyond_a_gradient(name: str, dtype: torch.dtype):
    """As a user calls it, checks and all; pieces of a vector (the gradient's, layer by layer) count as what they are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [torch.nn.Linear(a, b, dtype=dtype) for a, b in ((40, 200), (200, 60), (60, 3))]
        x, y = 3 * torch.randn(8, 40, dtype=dtype), torch.randn(8, 3, dtype=dtype)
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    field = LossField(model, torch.nn.functional.mse_loss, (x, y))
    theta = field.start()[None]

    def most(call: Callable[[], Any]) -> float:
        return peak(call, field.size, theta.element_size())

    product = most(lambda: field.linearize(theta)(torch.ones_like(theta)))  # once: the field keeps a buffer of its own
    own = most(lambda: field.evaluate(theta))
    if dtype == torch.float32:  # where Hessian products are exact; in float64 they are differences of gradients
        own = max(own, product)
    beyond = most(lambda: flow(field, 3.0, method=name)) - own
    assert beyond <= ALLOWED + 0.1, beyond  # the rest is activations
    if (name, dtype) == ("rkc2", torch.float64):  # negative control
        assert most(lambda: flow(field, 3.0, method="dp87")) - own > ALLOWED + 1
