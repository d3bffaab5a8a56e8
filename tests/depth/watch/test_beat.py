"""What the pulse does while a script runs: no verdict before anything was measured, and no disk that is always busy."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradientflow.depth.watch import session
from gradientflow.depth.watch.session import REST, run_script
from tests.depth.scripts import sandbox, write

SCRIPT = """
import time, torch
from torch import nn
torch.manual_seed(0)
time.sleep(0.8)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x = torch.randn(32, 4)
y = x.sum(1, keepdim=True)
for _ in range(30):
    optimizer.zero_grad()
    (model(x) - y).pow(2).mean().backward()
    optimizer.step()
time.sleep(0.8)
"""


class Heard:
    """A live line that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def open(self) -> None: ...

    def update(self, step: int, loss: float | None, symptom: str, overhead: float, elapsed: float) -> None:
        self.told.append((step, symptom))

    def close(self) -> None: ...


def test_before_anything_is_measured_it_says_watching(tmp_path: Path) -> None:
    heard = Heard()
    with sandbox():
        torch.set_num_threads(1)
        run_script([str(write(tmp_path, SCRIPT))], out=tmp_path / "run", live=heard)
    assert heard.told[0] == (0, "watching")
    assert {symptom for step, symptom in heard.told if step == 0} == {"watching"}
    assert heard.told[-1] == (30, "healthy")  # control: it does not stay so


@pytest.mark.parametrize(("rest", "written"), [(REST - 0.1, 1), (REST + 0.1, 2)])
def test_a_slow_disk_is_left_alone_for_a_while(rest: float, written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now, writes = [100.0], []

    def slow() -> None:
        writes.append(now[0])
        now[0] += 2.0

    recorder: Any = SimpleNamespace(describe=lambda: None, store=SimpleNamespace(flush=slow))
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now[0]))
    beat = session._Beat(SimpleNamespace(on_probe=None), recorder, None)  # type: ignore[arg-type]
    beat()
    now[0] += 2.0 * rest
    beat()
    assert len(writes) == written
