"""Parameters in whose place in a module another tensor lies: under FSDP2 the same parameter, in a script of the user's its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradientflow.depth.probe import registry as registry_
from gradientflow.depth.probe.frames import Where
from gradientflow.depth.probe.registry import Registry


def _made(layer: nn.Linear) -> Registry:
    registry = Registry()
    for name, p in layer.named_parameters():
        registry.made(p, Where("train.py", 1), (layer, name))
    return registry


def test_what_is_exchanged_without_being_registered_goes_by_one_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_, "takes_turns", lambda: True)
    layer = nn.Linear(2, 3)
    registry = _made(layer)
    for _ in range(2):
        layer._parameters["weight"] = nn.Parameter(torch.ones(3, 2))  # as FSDP2 does, past any hook
        assert registry.index_of(layer.weight) == 0
        assert registry.find(layer.weight) == 0
    assert registry.index_of(nn.Parameter(torch.ones(1))) == 2


def test_what_the_script_registers_is_a_parameter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_, "takes_turns", lambda: True)
    layer = nn.Linear(2, 3)
    registry = _made(layer)
    layer.weight = nn.Parameter(torch.ones(3, 2))
    registry.made(layer.weight, Where("train.py", 2), (layer, "weight"))
    assert registry.index_of(nn.Parameter(torch.ones(1))) == 3  # (everything is looked through)
    assert registry.find(layer.weight) == 2


def test_nothing_is_looked_for_where_nothing_takes_turns() -> None:
    layer = nn.Linear(2, 3)
    registry = _made(layer)
    layer._parameters["weight"] = nn.Parameter(torch.ones(3, 2))
    assert registry.index_of(layer.weight) == 2
