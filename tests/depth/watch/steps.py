"""Steps measured from backward to the weights: at once, as the window does it, and in scripts under watch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.watch.stepping import Stepping
from gradientflow.depth.watch.transmission import Transmission
from gradientflow.records import GroupStep, Passed, Run, Transit
from tests.depth.scripts import differences, plain, watched, write


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A network of two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Its data."""
    torch.manual_seed(1)
    return torch.randn(16, 5, dtype=dtype), torch.randn(16, 3, dtype=dtype)


class Bench:
    """Measures steps of an optimizer as a probed window does, without a script."""

    def __init__(self, optimizer: Optimizer, loss: Callable[[], Tensor]) -> None:
        self.optimizer, self.loss = optimizer, loss
        self.registry = Registry()
        self.params = self.registry.stepped_by(optimizer)
        self.passed: list[Passed] = []

    def step(self, between: Callable[[], object] = lambda: None) -> list[GroupStep]:
        """Take one step; return its groups."""
        way = Transmission(self.registry, lambda function, *args: function(*args))
        stepping = Stepping(self.registry)
        self.optimizer.zero_grad()
        self.loss().backward()
        way.delivered(self.params)
        between()
        self.passed = way.arrived(self.params)
        stepping.before(self.optimizer, way)
        self.optimizer.step()
        named: Any = SimpleNamespace(record=SimpleNamespace(name=type(self.optimizer).__name__))
        return stepping.after(self.optimizer, named)


def steps(
    make: Callable[[nn.Sequential], Optimizer], count: int = 4, dtype: torch.dtype = torch.float32,
    ahead: Callable[[int, nn.Sequential], object] = lambda k, model: None,
) -> list[list[GroupStep]]:  # fmt: skip
    """The groups of some steps of an optimizer that is made for the network's parameters."""
    model, (x, y) = net(dtype), batch(dtype)
    bench = Bench(make(model), lambda: ((model(x) - y) ** 2).mean())
    found = []
    for k in range(count):
        ahead(k, model)
        found.append(bench.step())
    return found


# ── scripts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

START = """
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 5), torch.randn(16, 3)
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""


def script(between: str = "pass", behind: str = "pass", start: str = "", count: int = 3) -> str:
    """A script that takes some steps: `between` stands behind backward, `behind` behind the step."""

    def block(text: str) -> str:
        return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")

    return "\n".join(
        [START, textwrap.dedent(start), f"for k in range({count}):", "    optimizer.zero_grad()",
         "    loss = ((model(x) - y) ** 2).mean()", "    loss.backward()", block(between), "    optimizer.step()", block(behind)]
    )  # fmt: skip


def seen(folder: Path, text: str) -> Run:
    """Run a script watched, every step probed, and hold it bit for bit against itself unwatched."""
    file = write(folder, text)
    left = watched(file, probe_every=1)
    assert left.outcome is not None
    run: Run = left.outcome.run
    assert [n.text for n in run.notes if n.kind == "watcher"] == []
    assert differences(plain(file), left) == []
    return run


def transits(run: Run) -> list[Transit]:
    """The ways of all probed steps that were followed."""
    return [p.transit for p in run.probes if p.transit is not None]


def line_of(text: str, part: str) -> int:
    """The line of a script that holds this, once."""
    (found,) = [k for k, line in enumerate(text.splitlines(), 1) if part in line]
    return found
