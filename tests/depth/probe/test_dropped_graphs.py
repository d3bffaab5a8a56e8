"""A traced window that sees no backward call must not keep alive what the script has dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradientflow.depth.probe.tape import Tape
from gradientflow.depth.probe.traced import Trace
from tests.depth.scripts import sandbox, watched, write

ROUNDS = 300
SCRIPT = f"""
import weakref
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(8)])
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
refs = []
for step in range({ROUNDS}):  # without no_grad: every round builds a graph, which saves x
    x = torch.randn(2, 4)
    refs.append(weakref.ref(x))
    net(x).sum()
alive = sum(r() is not None for r in refs)
net(x).sum().backward()
optimizer.step()
"""


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with sandbox():
        torch.set_num_threads(1)
        yield


def test_dropped_graphs_are_let_go(tmp_path: Path) -> None:
    left = watched(write(tmp_path, SCRIPT))
    assert left.scope["alive"] <= 50  # of 300; some are held until the next look
    assert left.outcome is not None
    (probe,) = left.outcome.run.probes  # and the step that does come is measured whole
    assert sum(op.grad is not None for op in probe.ops) == 9
    assert all(state.grad is not None for state in probe.params)
    assert len(probe.params) == 16


@pytest.mark.parametrize("keeper", [Trace, Tape])
def test_without_the_look_they_are_all_held(keeper: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(keeper, "sweep", lambda self: None)
    assert watched(write(tmp_path, SCRIPT)).scope["alive"] == ROUNDS


def test_a_long_forward_is_measured_whole(tmp_path: Path) -> None:
    """Many looks fall into one forward pass: what leads to the loss stays, though its tensors are gone by then."""
    text = """
    import torch
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1e-6)
    x = w
    for i in range(2200):
        x = x * 1.0001
    x.sum().backward()
    optimizer.step()
    """
    left = watched(write(tmp_path, text))
    assert left.outcome is not None
    (probe,) = left.outcome.run.probes
    assert sum(op.grad is not None for op in probe.ops) == len(probe.ops) == 2201
    assert probe.ops[0].operands[0].param is not None
