"""How many parameter vectors a step holds, counted where they are made: as few at two hundred stages as at five."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradientflow.river import Keep, flow
from gradientflow.river.fields.base import Evaluation, Field, Linear
from gradientflow.river.solvers import METHODS, solver
from gradientflow.river.solvers.base import Call, Past, Solver, Trial
from gradientflow.river.solvers.spectrum import Spectrum
from tests.river.solvers.cases import D, column

WHOLE = 11  # with the caller's start, the spectrum's basis, and the end of the first run while the second is made
P = 30_000  # above the size up to which a path's strangest step is kept
ALLOWED = 8
STABILIZED = [n for n in METHODS if solver(n).stabilized]


class Vectors(TorchDispatchMode):
    """Counts the storages of at least P numbers that were made inside and are alive; `peak` is the most at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, float] = {}
        self.peak = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                size, key = storage.nbytes() / (P * tensor.element_size()), storage._cdata
                if size >= 1 and key not in self.alive:
                    self.alive[key] = size
                    weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


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
    with Vectors() as count:
        field.evaluate(torch.ones(1, P, dtype=D))
    return count.peak


def vectors_of_a_step(method: Solver, stages: int) -> float:
    field, theta = Bowl(), torch.ones(1, P, dtype=D)
    here, past = field.evaluate(theta), Past(1.01 * theta, column(0.01))
    with Vectors() as count:
        method.step(field.evaluate, theta, here, column(0.01), [stages], past)
    return (
        count.peak + 2 + (1 if method.two_step else 0) - made_by_the_field(field)
    )  # θ, its rate, and the point before


@pytest.mark.parametrize("name", STABILIZED)
def test_a_step_holds_as_many_vectors_at_two_hundred_stages_as_at_five(name: str):
    few, many = vectors_of_a_step(solver(name), 5), vectors_of_a_step(solver(name), 200)
    assert few == many
    assert many <= solver(name).vectors + 1
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
    assert vectors_of_a_step(Hoarder(), 5) != vectors_of_a_step(Hoarder(), 200)
    assert vectors_of_a_step(Hoarder(), 200) > 100


def test_a_look_at_the_spectrum_holds_no_more_than_its_basis_and_a_product():
    field, theta = Bowl([300.0, 1000.0, 3000.0]), torch.ones(1, P, dtype=D)
    with Vectors() as count:
        spectrum = Spectrum(1, P, theta)
        for _ in range(3):
            spectrum.measure(field.linearize(theta), torch.tensor([0]))
    assert 4 <= count.peak <= ALLOWED
    with Vectors() as hoard:  # negative control: a Krylov space of twenty would not pass
        kept = [theta * k for k in range(20)]
    assert hoard.peak == len(kept) > ALLOWED


@pytest.mark.parametrize(("name", "certify"), [("rkc2", False), ("rkc2", True), ("rkmc2", False), ("tsrkc3", True)])
def test_a_whole_flow_holds_a_few_vectors_more_than_a_step_at_any_stage_count(name: str, certify: bool):
    """Start, θ, rate, work vectors, the spectrum's, what the loop and the checks hold: all there is, at any stage count."""
    peaks = []
    for outliers, time, most in (((), 0.5, 12), ((100.0, 300.0), 20.0, 500)):
        field, start = Bowl(outliers), torch.ones(P, dtype=D)
        with Vectors() as count:
            path = flow(field, time, start=start, method=name, rtol=0.03, certify=certify, keep=Keep(theta=False))
        assert path.status.ok and int(path.stages.max()) <= most
        peaks.append(count.peak - made_by_the_field(field))
    assert int(path.stages.max()) > 40
    assert abs(peaks[0] - peaks[1]) <= 3  # by whether the last look at the spectrum was a cold one
    assert max(peaks) <= WHOLE
