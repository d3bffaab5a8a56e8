"""Very many parameters: measured at once, and told as if one by one."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from gradientflow.depth.probe import leaves, measure
from gradientflow.depth.probe.leaves import MANY, SMALL, grad_stats, is_small, uncollected, value_stats
from gradientflow.depth.probe.stats import grad_stat, value_stat
from gradientflow.depth.watch.sharp import PER_TENSOR, PRODUCTS, SharpnessMeter
from tests.depth.causes.by_hand import flips
from tests.depth.scripts import differences, plain, watched, write


def _odd_and_even() -> list[Tensor]:
    torch.manual_seed(0)
    odd = torch.randn(4, 3)
    odd[1, 1] = math.nan
    endless = torch.randn(4, 3)
    endless[0, 0] = -math.inf
    tensors = [torch.randn(4, 3) * 10.0 ** (k % 9 - 4) for k in range(40)]
    tensors += [
        torch.randn(7).double(),
        torch.randn(7).half(),
        torch.zeros(4, 3),
        torch.full((4, 3), 1e-30),
        odd,
        endless,
    ]
    tensors += [
        torch.randn(()),
        torch.randn(0, 3),
        torch.randn(3, 4).to_sparse(),
        torch.arange(6),
        torch.randn(SMALL + 1),
    ]
    return tensors


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=2e-6, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


@pytest.mark.parametrize(("every", "each"), [(value_stats, value_stat), (grad_stats, grad_stat)])
def test_the_numbers_are_those_of_each(every: Any, each: Any) -> None:
    tensors = _odd_and_even()
    for told, alone in zip(every(tensors), map(each, tensors), strict=True):
        for a, b in zip(msgspec.structs.astuple(told), msgspec.structs.astuple(alone), strict=True):
            assert _close(a, b), (told, alone)
    assert not _close(every(tensors)[0].rms if each is grad_stat else every(tensors)[0].std, 1.0)  # it can fail


def test_more_than_fit_at_once_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.full((5,), float(k)) for k in range(23)]
    monkeypatch.setattr(leaves, "_AT_ONCE", 20)
    assert [v.mean for v in value_stats(tensors)] == list(range(23))


def test_what_is_put_together_is_small_and_ordinary() -> None:
    assert is_small(torch.randn(SMALL)) and not is_small(torch.randn(SMALL + 1))
    assert (
        not is_small(torch.randn(0)) and not is_small(torch.arange(3)) and not is_small(torch.randn(2, 2).to_sparse())
    )


def test_no_garbage_is_collected_only_where_there_are_very_many() -> None:
    for count, collects in ((int(MANY), True), (int(MANY) + 1, False)):
        with uncollected(count):
            assert gc.isenabled() is collects
        assert gc.isenabled()
    gc.disable()
    try:
        with uncollected(int(MANY) + 1):
            pass
        assert not gc.isenabled()  # the script had switched it off
    finally:
        gc.enable()


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
weights = nn.ParameterList([nn.Parameter(torch.randn(3)) for _ in range(COUNT)])
idle, twice = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
heard = []
HOOKS
optimizer = torch.optim.SGD([*weights.parameters(), idle, twice], lr=0.01)
for _ in range(3):
    optimizer.zero_grad()
    loss = (torch.stack([*weights, twice]).tanh().pow(2).sum() + (twice * 3).sum())
    loss.backward()
    optimizer.step()
"""


def _seen(tmp_path: Path, text: str) -> Any:
    tmp_path.mkdir()
    script = write(tmp_path, text)
    left = watched(script)
    assert differences(plain(script), left) == []
    assert left.outcome is not None and left.outcome.verdict.watch.errors == []
    return left.outcome.run


@pytest.mark.parametrize(
    "hooks",
    [
        "",
        "weights[5].register_hook(lambda g: g * 2)",
        "weights[5].register_post_accumulate_grad_hook(lambda p: heard.append(p.grad.zero_()))",
    ],
)
def test_a_model_of_very_many_is_told_as_one_of_few(
    hooks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SCRIPT.replace("COUNT", "40").replace("HOOKS", hooks)
    one_by_one = _seen(tmp_path / "a", text).probes[0]
    asked: list[int] = []
    real = measure.grad_stats
    monkeypatch.setattr(measure, "MANY", 30)
    monkeypatch.setattr(measure, "grad_stats", lambda grads: asked.append(len(grads)) or real(grads))
    at_once = _seen(tmp_path / "b", text).probes[0]
    assert asked[0] == 41 - ("post_acc" in hooks)  # one of which somebody changes is read as it arrives
    assert len(at_once.params) == len(one_by_one.params) == 41
    for a, b in zip(at_once.params, one_by_one.params, strict=True):
        assert a.grad is not None and b.grad is not None
        assert all(map(_close, msgspec.structs.astuple(a.grad), msgspec.structs.astuple(b.grad)))
        assert all(_close(getattr(a, f), getattr(b, f)) for f in ("param", "norm", "mean", "std", "absmax", "alike"))
    for x, y in zip(at_once.ops, one_by_one.ops, strict=True):
        for m, n in zip(x.operands, y.operands, strict=True):
            assert (m.grad is None) == (n.grad is None)
            assert m.grad is None or n.grad is None or _close(m.grad.norm, n.grad.norm)


def test_gradients_that_are_added_to_what_lies_there_are_read_as_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SCRIPT.replace("COUNT", "40").replace("HOOKS", "for p in [*weights, twice]: p.grad = torch.ones(3)")
    text = text.replace("zero_grad()", "zero_grad(set_to_none=False)").replace("range(3)", "range(2)")
    text = text.replace("    optimizer.zero_grad", "    if _: optimizer.zero_grad")  # the first is added to ones
    one_by_one = _seen(tmp_path / "a", text).probes[0]
    monkeypatch.setattr(measure, "MANY", 30)
    at_once = _seen(tmp_path / "b", text).probes[0]
    assert [p.grad for p in at_once.params] == [p.grad for p in one_by_one.params]
    assert all(p.grad is not None for p in at_once.params)


def test_of_more_than_very_many_none_is_asked_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = measure.value_stats
    monkeypatch.setattr(measure, "value_stats", lambda values: asked.append(len(values)) or real(values))
    for count in (int(MANY), int(MANY) + 1):  # with `twice` one more
        text = SCRIPT.replace("COUNT", str(count - 1)).replace("HOOKS", "")
        assert len(_seen(tmp_path / str(count), text).probes[0].params) == count
    assert set(asked) == {int(MANY) + 1}


def test_the_sharpness_of_very_many_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first gradient of it alone would take more than may be spent."""
    weights = [torch.randn(2, requires_grad=True) for _ in range(50)]
    loss = torch.stack(weights).pow(2).sum()
    tried: list[int] = []
    meter = SharpnessMeter()
    monkeypatch.setattr(meter, "_refuse", lambda *_: tried.append(1) or "not here")
    least = 2.5 * PRODUCTS * PER_TENSOR * len(weights)

    class Told:
        def note(self, text: str) -> None: ...

    def tries(allowance: float) -> bool:
        tried.clear()
        meter.measure(loss, weights, Told(), allowance)  # type: ignore[arg-type]
        return bool(tried)

    flips(tries, 0.99 * least, 1.01 * least)
