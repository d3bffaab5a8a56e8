"""A script that converts its parameters in place (`torch.utils.swap_tensors`), which PyTorch refuses where anybody refers to
them weakly.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.depth.scripts import differences, plain, sandbox, watched, write

MODULES = """
import torch
from torch import nn
torch.__future__.set_swap_module_params_on_conversion(True)
torch.manual_seed(0)
record = []
model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
model[0].weight.requires_grad_(False)
model[0].weight.normal_()
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
x = torch.randn(8, 4)
for i in range(16):
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
    if i % 7 in (2, 5):
        model.to(torch.float64 if i % 7 == 2 else torch.float32)
        x = x.to(torch.float64 if i % 7 == 2 else torch.float32)
    if i == 9:
        model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
"""
LEAVES = """
import torch
torch.manual_seed(0)
record = []
w, b = torch.randn(4, 2, requires_grad=True), torch.randn(2, requires_grad=True)
optimizer = torch.optim.SGD([w, b], lr=0.1)
x = torch.randn(8, 4)
for i in range(6):
    optimizer.zero_grad()
    loss = (x @ w + b).pow(2).mean()
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
    torch.utils.swap_tensors(w, torch.randn(4, 2, requires_grad=True))
    torch.utils.swap_tensors(b, torch.randn(2, requires_grad=True))
"""
HELD = LEAVES.replace("optimizer = ", "import weakref\nheld = weakref.ref(w)\noptimizer = ")


AGAIN = """
import torch
torch.manual_seed(0)
w = torch.randn(4, 2, requires_grad=True)
x = torch.randn(8, 4)
for epoch in range(3):
    optimizer = torch.optim.SGD([w], lr=0.1)
    for i in range(3):
        optimizer.zero_grad()
        (x @ w).pow(2).mean().backward()
        optimizer.step()
        optimizer.param_groups[0]["params"] = list(optimizer.param_groups[0]["params"])
"""


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with sandbox():
        torch.set_num_threads(1)
        yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.parametrize("probe_every", [1, 3])
@pytest.mark.parametrize("script", [MODULES, LEAVES])
def test_parameters_can_be_swapped_under_watch(script: str, probe_every: int, tmp_path: Path) -> None:
    file = write(tmp_path, script)
    alone = plain(file)
    left = watched(file, probe_every=probe_every)
    assert differences(alone, left) == []
    assert left.outcome is not None
    assert left.outcome.ending.how == "finished", left.outcome.ending
    assert left.outcome.verdict.watch.errors == []
    assert left.outcome.verdict.watch.probed_steps >= 2


def test_control_a_weak_reference_is_refused(tmp_path: Path) -> None:
    left = watched(write(tmp_path, HELD))
    assert left.outcome is not None
    assert left.outcome.ending.how == "exception"
    assert "weakref" in str(left.outcome.ending.error)


def test_a_leaf_stays_the_same_one_when_its_optimizer_is_made_anew(tmp_path: Path) -> None:
    left = watched(write(tmp_path, AGAIN), probe_every=1)
    assert left.outcome is not None
    meta = left.outcome.run.meta
    assert len(meta.optimizers) == 3
    assert len(meta.params) == 1
    assert meta.params[0].graded == 9
