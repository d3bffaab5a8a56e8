"""The way into the backward pass is known by what it is, whatever the script has put around it or calls it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.depth.scripts import differences, plain, sandbox, watched, write

_HEAD = """
import torch, functools
from torch import nn
torch.manual_seed(0)
record = []
model = nn.Sequential(*[l for _ in range(4) for l in (nn.Linear(8, 8), nn.Sigmoid())])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(16, 8)
"""
_LOOP = """
for i in range(6):
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    BACKWARD
    optimizer.step()
    record.append(loss.detach().clone())
"""

WAYS: dict[str, tuple[str, str]] = {
    "Tensor.backward wrapped": (
        "before = torch.Tensor.backward\ndef mine(self, *a, **k): return before(self, *a, **k)\ntorch.Tensor.backward = mine\n",
        "loss.backward()",
    ),
    "Tensor.backward wrapped twice": (
        "for _ in range(2):\n    before = torch.Tensor.backward\n"
        "    torch.Tensor.backward = functools.wraps(before)(lambda self, *a, before=before, **k: before(self, *a, **k))\n",
        "loss.backward()",
    ),
    "Tensor.backward by autograd.backward": (
        "torch.Tensor.backward = lambda self, *a, **k: torch.autograd.backward([self])\n",
        "loss.backward()",
    ),
    "autograd.backward wrapped": (
        "before = torch.autograd.backward\ntorch.autograd.backward = lambda *a, **k: before(*a, **k)\n",
        "torch.autograd.backward(loss)",
    ),
    "autograd.backward wrapped, called by the tensor": (
        "before = torch.autograd.backward\ntorch.autograd.backward = lambda *a, **k: before(*a, **k)\n",
        "loss.backward()",
    ),
    "an alias": ("bw = torch.autograd.backward\n", "bw((loss,))"),
    "an alias of the wrapped": (
        "bw = torch.Tensor.backward\ntorch.Tensor.backward = lambda self, *a, **k: bw(self, *a, **k)\n",
        "bw(loss)",
    ),
    "autograd.grad": (
        "",
        "for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))): p.grad = g",
    ),
    "autograd.grad wrapped": (
        "before = torch.autograd.grad\ntorch.autograd.grad = lambda *a, **k: before(*a, **k)\n",
        "for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))): p.grad = g",
    ),
    "a tensor of another class": (
        "class Mine(torch.Tensor):\n    def backward(self, *a, **k): return super().backward(*a, **k)\n",
        "loss.as_subclass(Mine).backward()",
    ),
}


@pytest.fixture(autouse=True)
def isolated() -> Any:
    kept = torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad
    with sandbox():
        torch.set_num_threads(1)
        yield
    torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad = kept  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_into_the_backward_pass_is_measured(way: str, tmp_path: Path) -> None:
    ahead, call = WAYS[way]
    file = write(tmp_path, _HEAD + ahead + _LOOP.replace("BACKWARD", call))
    kept = torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad
    alone = plain(file)
    torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad = kept  # type: ignore[method-assign, assignment]
    left = watched(file, probe_every=1)
    assert differences(alone, left) == []
    assert left.outcome is not None
    verdict = left.outcome.verdict
    assert verdict.watch.errors == []
    assert verdict.watch.probed_steps == 6
    assert verdict.symptom != "not-measured"
    assert verdict.loss.first == pytest.approx(float(left.scope["record"][0]))


ENGINE = """
from torch.autograd import Variable
for i in range(6):
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    Variable._execution_engine.run_backward((loss,), (torch.ones(()),), False, False, (), allow_unreachable=True, accumulate_grad=True)
    optimizer.step()
"""


COMPILED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = model
    def forward(self, x):
        return self.body(x) + 1
model = Net()
model.compile(backend="eager")
"""
READY_MADE = (
    "model.compile(backend='eager')"  # of which PyTorch compiles nothing: a forward of its own it leaves as it is
)


def test_where_nothing_of_a_compiled_model_is_compiled_it_is_measured(tmp_path: Path) -> None:
    """(PyTorch 2.14 compiles ready-made modules, 2.13 leaves them as they are.)"""
    file = write(tmp_path, _HEAD + READY_MADE + _LOOP.replace("BACKWARD", "loss.backward()"))
    torch._dynamo.utils.counters.clear()
    alone = plain(file)
    compiles = torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()
    left = watched(file, probe_every=1)
    torch._dynamo.reset()
    assert differences(alone, left) == []
    assert left.outcome is not None
    assert left.outcome.verdict.watch.probed_steps == (0 if compiles else 6)
    assert (left.outcome.verdict.symptom == "not-measured") == compiles


@pytest.mark.parametrize(("middle", "compiled"), [(ENGINE, False), (COMPILED + _LOOP, True)])
def test_to_leave_out_compile_is_advised_only_where_something_was_compiled(
    middle: str, compiled: bool, tmp_path: Path
) -> None:
    file = write(tmp_path, _HEAD + middle.replace("BACKWARD", "loss.backward()"))
    left = watched(file, probe_every=1)
    torch._dynamo.reset()
    assert left.outcome is not None
    assert left.outcome.verdict.symptom == "not-measured"
    assert ("Try it without torch.compile" in left.outcome.verdict.summary) == compiled
