"""Where a model built before was made, read from source text: right where it can be told, silent where it cannot."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from gradientflow.depth.look.sources import make_known
from gradientflow.depth.watch.memory import Memory
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.recorder import Recorder
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.shield import Shield
from gradientflow.records import Param
from tests.depth.look.nets import line_of


class Parts(nn.Module):
    def __init__(self, *, smooth: bool) -> None:
        super().__init__()
        if smooth:
            self.act: nn.Module = nn.Tanh()  # smooth
        else:
            self.act = nn.ReLU()  # sharp
        self.scale = nn.Parameter(torch.ones(4, 4))  # scale
        self.inner = nn.Sequential(
            nn.Linear(4, 4),  # first
            self.act,
            nn.Sequential(nn.Linear(4, 4)),  # nested
        )
        self.many = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])  # many
        self.out = nn.Linear(4, 4)  # out
        nn.init.zeros_(self.out.weight)  # zeros
        nn.init.ones_(self.inner[0].bias)


class Drawn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.apply(draw)


def draw(m: nn.Module) -> None:
    if isinstance(m, nn.Linear):
        nn.init.xavier_normal_(m.weight)  # drawn


def known(model: nn.Module) -> tuple[dict[str, Param], dict[int, tuple[str | None, int | None, str]]]:
    monitor = Monitor(Recorder(Memory(), "", []), Schedule(), Shield())
    make_known(model, monitor.registry, monitor.births, sys._getframe(1))
    named = {name: monitor.registry.params[monitor.registry.index_of(p)] for name, p in model.named_parameters()}
    return named, monitor.births.modules


def mark(text: str) -> int:
    return line_of(f"# {text}", __file__)


def test_each_parameter_is_where_its_layer_was_written() -> None:
    params, _ = known(Parts(smooth=True))
    lines = {name: p.line for name, p in params.items()}
    assert lines["scale"] == mark("scale") and lines["out.weight"] == mark("out")
    assert lines["inner.0.weight"] == mark("first") and lines["inner.2.0.weight"] == mark("nested")
    assert {lines[f"many.{k}.weight"] for k in range(3)} == {mark("many")}
    assert all((p.file or "").endswith("test_sources.py") for p in params.values())


@pytest.mark.parametrize(("smooth", "word"), [(True, "smooth"), (False, "sharp")])
def test_of_several_lines_the_one_that_fits_is_taken(smooth: bool, word: str) -> None:
    model = Parts(smooth=smooth)
    _, modules = known(model)
    assert modules[id(model.act)][1] == mark(word)


def test_an_initialisation_belongs_to_what_it_names() -> None:
    params, _ = known(Parts(smooth=True))
    assert (params["out.weight"].init, params["out.weight"].init_line) == ("zeros_", mark("zeros"))
    assert {p.init for name, p in params.items() if name != "out.weight"} == {None}
    assert {p.module_class for p in params.values()} == {None}  # not "by default": that cannot be read
    drawn, _ = known(Drawn())
    assert {(p.init, p.init_line) for n, p in drawn.items() if "weight" in n} == {("xavier_normal_", mark("drawn"))}


def test_the_assignment_that_ran_last_is_taken() -> None:
    model = nn.Sequential(nn.Linear(2, 2))  # before
    params, _ = known(model)
    assert params["0.weight"].line == mark("before")
    model = nn.Sequential(nn.Linear(2, 2))  # after
    params, _ = known(model)
    assert params["0.weight"].line == mark("after")


def test_what_cannot_be_read_is_left_unknown() -> None:
    params, modules = known(nn.Sequential(nn.Linear(2, 2)))  # in no variable
    assert params["0.weight"].file is None and not modules
    made = [nn.Sequential(nn.Linear(2, 2))]
    assert known(made[0])[0]["0.weight"].file is None
