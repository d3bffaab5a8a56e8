from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from gradientflow.depth.watch.cheap import CheapTier, total
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.records import ABSENT, Step


def step(n: int, loss: float | None, grad: float = 1.0, nonfinite: int = 0) -> Step:
    return Step(n, 0.0, 0, 0.1, loss, grad, 1.0, 0.1, nonfinite)


def probed(schedule: Schedule, steps: int, elapsed: float = 1e9, spent: float = 0.0) -> list[int]:
    found = []
    for n in range(1, steps + 1):
        if schedule.due(n, elapsed, spent) is not None:
            found.append(n)
        schedule.saw(step(n, 1.0))
    return found


def test_the_first_steps_are_probed_and_then_ever_fewer() -> None:
    found = probed(Schedule(), 1000)
    assert found[:5] == [1, 2, 3, 5, 8]
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert gaps == sorted(gaps)
    assert len(found) < 20


def test_every_n_means_every_n() -> None:
    assert probed(Schedule(every=10), 45, elapsed=0.0, spent=100.0) == [1, 10, 20, 30, 40]


def test_the_cap_on_cost_holds_probes_back_but_never_the_first() -> None:
    assert probed(Schedule(), 100, elapsed=20.0, spent=10.0) == [1]


@pytest.mark.parametrize(
    "bad",
    [step(20, math.nan), step(20, 1.0, nonfinite=2), step(20, 5.0), step(20, 1.0, grad=100.0), step(20, 1.0, grad=0.0)],
    ids=["loss NaN", "gradient not finite", "loss jumped", "gradient jumped", "gradient gone"],
)
def test_trouble_orders_a_probe_of_the_next_step(bad: Step) -> None:
    schedule = Schedule()
    probed(schedule, 19)
    schedule.due(20, 1e9, 0.0)
    assert schedule.saw(bad) is not None
    reason = schedule.due(21, 1e9, 0.0)
    assert reason is not None
    assert reason.startswith("trouble")


def test_ordinary_noise_is_no_trouble() -> None:
    schedule = Schedule()
    torch.manual_seed(0)
    for n, noise in enumerate(torch.randn(200).tolist(), 1):
        assert schedule.saw(step(n, 2.3 + 0.2 * noise, grad=1.0 + 0.3 * abs(noise))) is None


def test_norms_are_the_norms() -> None:
    a, b, c = (torch.nn.Parameter(torch.randn(n)) for n in (3, 5, 7))
    a.grad, b.grad = torch.randn(3), torch.zeros(5)
    cheap = CheapTier([a, b, c])
    before = a.detach().clone()
    cheap.before()
    with torch.no_grad():
        a.add_(0.5)
    norms = cheap.after(torch.tensor(2.5), False)
    assert norms.grad == [pytest.approx(float(a.grad.norm())), 0.0, ABSENT]
    assert norms.weight[0] == pytest.approx(float(a.detach().norm()))
    assert norms.update == [pytest.approx(float((a.detach() - before).norm())), 0.0, 0.0]
    assert norms.loss == 2.5
    assert total(norms.grad) == pytest.approx(float(a.grad.norm()))
    assert total([ABSENT]) is None


def test_a_gradient_that_is_not_finite_stays_so_and_sparse_ones_count() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True)
    bad = torch.nn.Parameter(torch.ones(2))
    table(torch.tensor([1, 1, 2])).sum().backward()
    bad.grad = torch.tensor([1.0, math.nan])
    cheap = CheapTier([table.weight, bad])
    cheap.before()
    norms = cheap.after(None, False)
    assert norms.grad[0] == pytest.approx(math.sqrt(4 * 2**2 + 4))
    assert math.isnan(norms.grad[1])
    assert norms.loss is None


class Reads(TorchFunctionMode):
    """Counts what would make a GPU wait for the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") in (
            "tolist",
            "item",
            "__float__",
            "__bool__",
            "__int__",
            "cpu",
            "numpy",
        )
        return func(*args, **(kwargs or {}))


def test_one_read_from_the_device_per_step() -> None:
    params = [torch.nn.Parameter(torch.randn(4, 4)) for _ in range(20)]
    for p in params:
        p.grad = torch.randn(4, 4)
    cheap = CheapTier(params)
    with Reads() as reads:
        cheap.before()
        cheap.after(torch.tensor(1.0), False)
    assert reads.count == 1
    with Reads() as reads:
        [float(p.grad.norm()) for p in params if p.grad is not None]  # negative control: the plain way
    assert reads.count == 20


def test_numbers_that_pytorch_does_not_compute_with_are_left_out() -> None:
    kinds = [torch.float32, torch.bool, torch.float8_e5m2, torch.int8, torch.complex64, torch.bfloat16]
    params = [torch.ones(4, dtype=kind) for kind in kinds]
    tier = CheapTier(params)
    tier.before()
    for p in (params[0], params[4]):
        p.mul_(0.5)
    norms = tier.after(None, False)
    assert [w != ABSENT for w in norms.weight] == [True, False, False, False, True, True]
    assert norms.update[0] == pytest.approx(1.0) and norms.update[5] == 0.0
