"""`gf.watch`: a loop of the user's own, watched from within; bit for bit what it is unwatched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradientflow as gf
from gradientflow.errors import OutputError, UsageError
from gradientflow.store import read
from tests.depth.look import nets

F = nn.functional


def train(net: nn.Module, lr: float, steps: int = 30) -> list[float]:
    x, y = nets.batch()
    tool = torch.optim.SGD(net.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        tool.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        tool.step()
        losses.append(loss.item())
    return losses


def net(kind: str = "relu", depth: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nets.Stack(kind, depth)


def test_what_trains_in_the_block_is_judged_and_what_trains_outside_is_not() -> None:
    outside = net("sigmoid", 12)
    train(outside, 0.1, 3)
    with gf.watch() as watch:
        train(net(), 0.1)
    train(outside, 0.1, 3)
    assert watch.verdict.symptom == "healthy" and watch.verdict.steps == 30
    with gf.watch() as watch:
        train(net("sigmoid", 12), 0.1)
    found = watch.diagnosis
    assert (found.symptom, found.cause) == ("vanishing", "saturating-activation")
    assert found.place is not None and found.place.line == nets.line_of("# the activation")
    assert not watch.verdict.watch.errors


def test_a_watched_loop_computes_the_same_to_the_bit() -> None:
    plain_net, watched_net = net(), net()
    plain = train(plain_net, 0.5)
    with gf.watch(watched_net, probe_every=1):
        watched = train(watched_net, 0.5)
    assert watched == plain
    for a, b in zip(plain_net.parameters(), watched_net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_model_that_is_named_is_placed_where_it_was_made() -> None:
    model = nets.ready_made(nn.Sigmoid)
    with gf.watch(model) as watch:
        train(model, 0.1, 3)
    first = nets.line_of("def ready_made")
    assert watch.diagnosis.place is not None and watch.diagnosis.place.file is not None
    assert watch.diagnosis.place.file.endswith("nets.py") and first < (watch.diagnosis.place.line or 0) < first + 10


def test_an_exception_passes_through_and_what_was_seen_is_judged() -> None:
    watch = gf.watch()

    def fails() -> None:
        with watch:
            train(net("sigmoid", 12), 0.1, 3)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    assert watch.verdict.symptom == "vanishing" and watch.diagnosis.run.meta.ended == "exception"
    assert torch._C._len_torch_function_stack() == 0


def test_the_record_lies_where_it_is_wanted_and_nowhere_else(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with gf.watch():
        train(net(), 0.1, 3)
    assert not list(tmp_path.iterdir())
    with gf.watch(out="kept") as watch:
        train(net(), 0.1, 3)
    assert read(tmp_path / "kept").meta.steps == watch.verdict.steps == 3
    with pytest.raises(OutputError, match="already holds a run"), gf.watch(out="kept"):
        pass


def test_it_is_used_once_and_asked_afterwards() -> None:
    watch = gf.watch()
    with watch, pytest.raises(UsageError, match="once the block has ended"):
        _ = watch.verdict
    assert watch.verdict.symptom == "not-measured"  # nothing trained
    with pytest.raises(UsageError, match="used before"), watch:
        pass
    with pytest.raises(UsageError, match="expected models"):
        gf.watch(3)  # type: ignore[arg-type]
