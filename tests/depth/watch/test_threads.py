"""Several trainings at once: one is watched, and nothing of the others' is touched, as they may be writing to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gradientflow.depth.watch.monitor import Monitor
from tests.depth.scripts import differences, plain, sandbox, watched, write

TOGETHER = """
import threading, torch
from torch import nn
record, start = {}, threading.Barrier(4)
def train(k):
    g = torch.Generator().manual_seed(k)
    model = nn.Linear(8, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    x = torch.randn(16, 8, generator=g)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start.wait()
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
    record[k] = [p.detach().clone() for p in model.parameters()]
threads = [threading.Thread(target=train, args=(k,)) for k in range(4)]
for t in threads: t.start()
for t in threads: t.join()
record = [record[k] for k in range(4)]
"""

IN_TURN = TOGETHER.replace("start = {}, threading.Barrier(4)", "start = {}, threading.Barrier(1)").replace(
    "for t in threads: t.start()\nfor t in threads: t.join()", "for t in threads: t.start(), t.join()"
)


@pytest.fixture(autouse=True)
def isolated() -> Any:
    interval = sys.getswitchinterval()
    with sandbox():
        torch.set_num_threads(1)
        yield
    sys.setswitchinterval(interval)


def test_of_trainings_at_once_one_is_watched_and_the_others_are_told(tmp_path: Path) -> None:
    file = write(tmp_path, TOGETHER.replace("STEPS", "60"))
    alone = plain(file)
    seen: set[tuple[int, int]] = set()

    def listen(monitor: Monitor) -> None:
        sys.setswitchinterval(1e-5)
        real = monitor.optimizers.watch

        def watch(optimizer: Any) -> Any:
            seen.add((id(optimizer), monitor.tracer.thread))
            return real(optimizer)

        monitor.optimizers.watch = watch  # type: ignore[method-assign]

    left = watched(file, probe_every=1, prepare=listen)
    assert left.outcome is not None
    drawn = {k: v for k, v in alone.bits.items() if k.startswith("record")}
    assert {k: v for k, v in left.bits.items() if k.startswith("record")} == drawn
    steps = left.outcome.verdict.steps
    assert 60 <= steps < 240
    assert len({optimizer for optimizer, _ in seen}) == len(seen)  # each from its own thread only
    (told,) = left.outcome.verdict.watch.errors
    assert told.startswith(f"{240 - steps} optimizer steps were taken in other threads")


def test_trainings_in_turn_are_all_watched(tmp_path: Path) -> None:
    file = write(tmp_path, IN_TURN.replace("STEPS", "5"))
    left = watched(file, probe_every=1)
    assert differences(plain(file), left) == []
    assert left.outcome is not None
    assert left.outcome.verdict.watch.errors == []
    assert left.outcome.verdict.steps == 20
    assert len(left.outcome.run.meta.optimizers) == 4
    assert len(left.outcome.run.probes) >= 16  # (a thread's first step was in a window opened elsewhere)
