"""Of a large model a part is looked at in each step; the part comes round to every entry and stands for the whole."""

import math

import pytest
import torch
from torch import Tensor

from gradientflow.depth.watch.cheap import CheapTier, Norms
from gradientflow.depth.watch.rotation import Rotation
from gradientflow.records import ABSENT


def covered(tensors: list[Tensor], steps: int, entries: int, count: int) -> tuple[list[Tensor], int]:
    """Return which entries were looked at within so many steps, and the most that were at once."""
    seen = [torch.zeros_like(t, dtype=torch.bool) for t in tensors]
    most = 0
    rotation = Rotation(tensors, entries, count)
    for _ in range(steps):
        pieces = rotation.next()
        for piece in pieces:
            piece.of(seen[piece.index]).fill_(True)
        most = max(most, sum(piece.of(tensors[piece.index]).numel() for piece in pieces))
    return seen, most


def test_a_small_model_is_looked_at_whole_and_one_entry_more_is_not() -> None:
    tensors = [torch.zeros(6, 4), torch.zeros(6)]
    assert Rotation(tensors, entries=30, count=2).whole
    assert not Rotation(tensors, entries=29, count=2).whole
    assert not Rotation(tensors, entries=30, count=1).whole
    assert all(piece.axis is None for piece in Rotation(tensors, 30, 2).next())


@pytest.mark.parametrize("shapes", [[(40, 7), (40,)], [(3, 90), (1, 1, 50), ()], [(17,)] * 9, [(64, 3)] * 5 + [(2,)]])
def test_every_entry_comes_round(shapes: list[tuple[int, ...]]) -> None:
    tensors = [torch.zeros(shape) for shape in shapes]
    seen, most = covered(tensors, 80, entries=40, count=3)
    assert all(s.all() for s in seen)
    rows = sum(max(13, t.numel() // max(t.shape, default=1)) for t in tensors)
    assert most <= 40 + rows  # a small tensor and a row of a large one there are in any case
    early, _ = covered(tensors, 1, entries=40, count=3)
    assert not all(s.all() for s in early)  # control: one step does not reach all of it


def step_of(params: list[torch.nn.Parameter], tier: CheapTier, change: float, direction: bool = False) -> Norms:
    tier.before(direction)
    with torch.no_grad():
        for p in params:
            assert p.grad is not None
            p.sub_(change * p.grad)
    return tier.after(None, False)


def large() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(1200, 1500) / (i + 1)) for i in range(3)] + [
        torch.nn.Parameter(torch.randn(9))
    ]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def test_the_part_stands_for_the_whole_of_a_large_model() -> None:
    params = large()
    tier = CheapTier(params)
    for _ in range(4):
        norms = step_of(params, tier, 0.01, direction=True)
        truth = 0.01 * math.sqrt(sum(float(p.grad.norm()) ** 2 for p in params if p.grad is not None))
        assert norms.all_update == pytest.approx(truth, rel=0.01)
        assert norms.along == pytest.approx(1.0, abs=1e-3)
        for p, g, w, u in zip(params, norms.grad, norms.weight, norms.update, strict=True):
            assert p.grad is not None
            assert g == pytest.approx(float(p.grad.norm()), rel=1e-4)
            assert w == pytest.approx(float(p.detach().norm()), rel=1e-4)
            assert u == pytest.approx(0.01 * g, rel=0.02)
    assert step_of(params, tier, -0.01, direction=True).along == pytest.approx(-1.0, abs=1e-3)  # control: uphill
    assert step_of(params, tier, 0.0).all_update == 0.0


def test_little_is_copied_of_a_large_model_and_nothing_kept() -> None:
    params = large()
    tier = CheapTier(params)
    tier.before(True)
    copied = sum(t.numel() for t in [*tier._copy, *(g for g in tier._kept if g is not None)])
    assert 2 * (1 << 20) * 0.9 < copied <= 2 * (1 << 20) + 2 * 3 * 1500
    assert copied < 0.4 * sum(p.numel() for p in params)
    tier.after(None, False)
    assert tier._copy == tier._kept == []


def many(n: int = 700) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(3)) for _ in range(n - 1)] + [torch.nn.Parameter(torch.randn(200, 200))]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def test_of_very_many_tensors_some_are_looked_at_by_turns_and_the_gradient_is_that_of_all() -> None:
    params = many()
    params[5].grad = None
    tier = CheapTier(params)
    looked_at: set[int] = set()
    for step in range(3):
        tier.before()
        norms = tier.after(None, False)
        record = norms.record(step + 1, 0, range(1000, 1700))
        assert len(record.params) == (256 if step else 700)  # (all weights are weighed once)
        looked_at.update(i for i, u in zip(record.params, record.update, strict=True) if u != ABSENT)
        assert norms.graded == [i for i in range(700) if i != 5]
        truth = math.sqrt(sum(float(p.grad.norm()) ** 2 for p in params if p.grad is not None))
        assert norms.all_grad == pytest.approx(truth, rel=1e-5)
        assert norms.all_weight == pytest.approx(
            math.sqrt(sum(float(p.detach().norm()) ** 2 for p in params)), rel=1e-5
        )
    assert looked_at == set(range(1000, 1700))


def test_which_gradient_is_not_finite_is_found_among_very_many() -> None:
    params = many()
    tier = CheapTier(params)
    tier.before()
    assert tier.after(None, False).nonfinite == 0
    assert params[600].grad is not None
    params[600].grad[1] = math.nan
    tier.before()
    norms = tier.after(None, False)
    assert norms.nonfinite == 1
    assert math.isnan(norms.grad[600])
    assert norms.grad[599] != ABSENT
    assert norms.all_grad is not None and math.isnan(norms.all_grad)


def test_a_direction_in_half_precision_does_not_vanish_in_its_products() -> None:
    p = torch.nn.Parameter(torch.zeros(64, dtype=torch.float16))
    p.grad = torch.full((64,), 1e-4, dtype=torch.float16)
    tier = CheapTier([p])
    assert step_of([p], tier, 1.0, direction=True).along == pytest.approx(1.0, abs=1e-3)
    assert float((p.grad * p.grad).sum()) < 1e-6  # control: in its own precision a product of two is nearly lost


def test_norms_in_half_precision_are_told_beyond_its_range() -> None:
    p = torch.nn.Parameter(torch.full((1000,), 4000.0, dtype=torch.float16))
    q = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    p.grad, q.grad = torch.full_like(p, 4000.0), torch.ones_like(q)
    tier = CheapTier([q, p])
    tier.before()
    norms = tier.after(None, False)
    assert norms.nonfinite == 0
    assert norms.grad == norms.weight == [pytest.approx(math.sqrt(3)), pytest.approx(4000 * math.sqrt(1000), rel=1e-3)]
    assert float(p.detach().norm()) == math.inf  # control: in its own format there is no such number
    p.grad[0] = math.inf
    tier.before()
    assert tier.after(None, False).nonfinite == 1


def test_a_complex_parameter_has_a_direction_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    p = torch.nn.Parameter(torch.randn(8, dtype=torch.complex64))
    p.grad = torch.randn(8, dtype=torch.complex64)
    assert step_of([p], CheapTier([p]), 0.1, direction=True).along == pytest.approx(1.0, abs=1e-5)
    assert not list(recwarn)
