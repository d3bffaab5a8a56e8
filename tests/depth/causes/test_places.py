from __future__ import annotations

import pytest

from gradientflow.depth.causes import places
from gradientflow.records import Meta, Op, Optimizer, Param, Place, ValueStat

SOURCE = """\
import torch
from torch import nn
net = nn.Sequential(
    nn.Linear(2, 3),
    nn.Sigmoid(),
    nn.Linear(3, 1),
)
rest = nn.Sequential(*[nn.Tanh()], nn.ReLU())
opt = torch.optim.SGD(net.parameters(),
                      lr=0.1)
for _ in range(3):
    net(torch.ones(1, 2)).sum().backward()
    opt.step()
"""


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [(3, "0", 4), (3, "1", 5), (3, "2", 6), (3, "3", None), (3, "name", None), (4, "0", None), (8, "1", None)],
)
def test_the_line_of_an_element_of_a_container(line: int, key: str, expected: int | None) -> None:
    assert places.element_line(SOURCE, line, key) == expected


def test_the_only_call_of_a_class() -> None:
    assert places.by_class(SOURCE, "Sigmoid") == 5
    assert places.by_class(SOURCE, "Linear") is None  # two of them
    assert places.by_class(SOURCE, "Softmax") is None
    assert places.by_class("not python (", "Softmax") is None


def op(inside: bool) -> Op:
    return Op(
        0, "sigmoid", "activation", "train.py", 12, None, "1", "Sigmoid", [], ValueStat([1], "float32", 0, 0, 0, 0, 0, 0, 0),
        inside=inside, made_file="train.py", made_line=3, made_key="1",
    )  # fmt: skip


def test_a_layer_that_the_loop_only_calls_is_named_where_it_was_made() -> None:
    meta = Meta("train.py", [], "", "", "", "", sources={"train.py": SOURCE})
    assert places.of_op(op(inside=False), meta).line == 5
    assert places.of_op(op(inside=True), meta).line == 12
    assert places.of_op(op(inside=False), Meta("train.py", [], "", "", "", "")).line == 3  # no source: the container


def test_an_initialisation_is_named_before_the_line_that_made_the_layer() -> None:
    param = Param(0, "net.0.weight", [2, 2], "float32", True, True, file="m.py", line=7, module_class="Linear")
    assert places.of_init(param) == Place("m.py", 7, "net.0", "default init of Linear")
    param.init, param.init_file, param.init_line = "normal_", "m.py", 9
    assert places.of_init(param) == Place("m.py", 9, "net.0", "normal_")


def test_an_optimizer_is_named_where_it_was_made() -> None:
    meta = Meta("train.py", [], "", "", "", "", sources={"train.py": SOURCE})
    assert places.of_optimizer(Optimizer(0, "SGD", {}, [], "train.py", 13, "other.py", 2), meta) == Place(
        "other.py", 2, None, "SGD"
    )
    assert places.of_optimizer(Optimizer(0, "SGD", {}, [], "train.py", 13), meta) == Place("train.py", 9, None, "SGD")
    assert places.of_optimizer(Optimizer(0, "Adam", {}, [], "train.py", 13), meta) == Place(
        "train.py", 13, None, "Adam.step"
    )
    assert places.of_optimizer(None, meta) is None
