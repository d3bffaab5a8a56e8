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


WITHIN = """
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 8)
y = x[:, :1] * 2 + 1
below, above = nn.Sequential(nn.Linear(8, 32), nn.Tanh()), nn.Linear(32, 1)
params = [*below.parameters(), *above.parameters()]
optimizer = torch.optim.Adam(params, lr=0.05)


def answer():
    h = below(x)
    if h.requires_grad:
        h.register_hook(lambda g: FACTOR * g)  # HERE
        h.register_hook(lambda g: None)
    return above(h)


for step in range(40):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(answer(), y)
    loss.backward()
    optimizer.step()
record = [p.detach().clone() for p in params]
"""


@pytest.mark.parametrize("factor", [-3.0, 1e-4, 1.0, 0.5])
def test_what_a_hook_within_the_graph_makes_of_the_gradient_is_read_and_changes_nothing(
    factor: float, tmp_path: Path
) -> None:
    file = write(tmp_path, WITHIN.replace("FACTOR", repr(factor)))
    alone, left = plain(file), watched(file, probe_every=5)
    assert differences(alone, left) == []
    assert left.outcome is not None and left.outcome.verdict.watch.errors == []
    (line,) = [n for n, text in enumerate(file.read_text().splitlines(), 1) if "# HERE" in text]
    inner = [p.transit.inner for p in left.outcome.run.probes if p.transit is not None]
    assert inner
    if factor == 1.0:  # (one that changes nothing is none)
        assert not any(inner)
        return
    for (hook,) in inner:  # nor is the second
        assert hook.line == line and hook.factor == pytest.approx(factor, rel=1e-5)
