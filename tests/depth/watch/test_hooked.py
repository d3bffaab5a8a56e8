"""Hooks on parameters: what they make of a gradient is told, and they are left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.depth.scripts import differences, plain, watched, write

SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 8)
y = x[:, :1] * 2 + 1
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
for weight in model.parameters():
    weight.register_hook(HOOK)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(30):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
state = [p.detach().clone() for p in model.parameters()]
hooks = [len(p._backward_hooks) for p in model.parameters()]
assert hooks == [1] * 4, hooks
"""


@pytest.mark.parametrize("hook", ["lambda grad: -grad", "torch.neg"])
def test_a_hook_that_turns_the_gradient_is_the_cause(hook: str, tmp_path: Path) -> None:
    file = write(tmp_path, SCRIPT.replace("HOOK", hook))
    left = watched(file)
    assert left.outcome is not None and left.outcome.ending.how == "finished", left.outcome
    found = left.outcome.verdict.findings[0]
    assert (found.symptom, found.cause) == ("diverging", "gradient-altered"), found
    assert found.place is not None and "register_hook" in file.read_text().splitlines()[(found.place.line or 0) - 1]
    assert differences(plain(file), left) == []
    assert left.outcome.verdict.watch.errors == []


@pytest.mark.parametrize("hook", ["lambda grad: None", "lambda grad: grad.clone()"])
def test_a_hook_that_looks_on_is_none(hook: str, tmp_path: Path) -> None:
    left = watched(write(tmp_path, SCRIPT.replace("HOOK", hook)))
    assert left.outcome is not None and left.outcome.verdict.symptom == "healthy", left.outcome
    assert not any(a.name == "hook" for p in left.outcome.run.probes if p.transit for a in p.transit.alterations)
