"""Edits of layers: normalisations put in and taken out, skips, queries and keys."""

from __future__ import annotations

import pytest

from gradientflow.records import Change, Operand, Place
from tests.depth.remedies.editing import (
    FILE,
    HEAD,
    after,
    at,
    line_of,
    op,
    replaced,
    value,
)

NORMS = {
    "a list": ("net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))", [("8), nn.ReLU", "8), nn.LayerNorm(8), nn.ReLU")]),
    "a loop": ("layers += [nn.Linear(a, width), nn.Tanh()]", [("width), ", "width), nn.LayerNorm(width), ")]),
    "convolutions": ("net = nn.Sequential(nn.Conv2d(3, c, 3), nn.ReLU())", [("3), nn.ReLU", "3), nn.GroupNorm(1, c), nn.ReLU")]),
    "own lines": ("net = nn.Sequential(\n    nn.Linear(4, 8),\n    nn.ReLU(),  # act\n)", [("    nn.ReLU()", "    nn.LayerNorm(8),\n    nn.ReLU()")]),
    "appended": ("ls.append(nn.Linear(4, w))\nls.append(nn.ReLU())", [("ls.append(nn.ReLU", "ls.append(nn.LayerNorm(w))\nls.append(nn.ReLU")]),
    "raw": ("h = torch.tanh(x @ w + b)", [("x @ w + b", "F.layer_norm(x @ w + b, w.shape[1:])")]),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_goes_before_the_activation(name: str) -> None:
    text, pairs = NORMS[name]
    source = HEAD + text + "\n"
    assert after(source, Change("add-norm", "", [Place(FILE, 5)])) == replaced(source, *pairs)


def test_a_normalisation_is_not_put_where_the_width_cannot_be_read() -> None:
    for text in (
        "net = nn.Sequential(*layers, nn.ReLU())",
        "h = torch.relu(block(x))",
        "net = nn.Sequential(nn.Linear(4, 8))",
    ):
        assert after(HEAD + text + "\n", Change("add-norm", "", [Place(FILE, 5)])) is None


FORWARD = (
    HEAD + "def forward(self, x):\n    for layer in self.layers:\n        x = torch.relu(layer(x))\n    return x\n"
)


def layer_ops(source: str, shapes: list[tuple[int, int]]) -> list:
    line = line_of(source, "torch.relu(layer(x))")
    ops = []
    for i, (before, out) in enumerate(shapes):
        data = Operand(op=2 * i - 1) if i else Operand(value=value([4, before]))
        ops.append(op(2 * i, "linear", "linear", line, [4, out], [data, Operand(param=i)], module_class="Linear"))
        ops.append(op(2 * i + 1, "relu", "activation", line, [4, out], [Operand(op=2 * i)]))
    return ops


def test_a_skip_is_added_where_shapes_are_equal_and_asked_for_where_some_are() -> None:
    change = Change("add-skip", "", [at(FORWARD, "torch.relu(", "linear")])
    equal = layer_ops(FORWARD, [(8, 8), (8, 8)])
    assert after(FORWARD, change, ops=equal) == replaced(FORWARD, ("x = torch.relu", "x = x + torch.relu"))
    some = layer_ops(FORWARD, [(2, 8), (8, 8)])
    wanted = "out = torch.relu(layer(x))\n        x = x + out if out.shape == x.shape else out"
    assert after(FORWARD, change, ops=some) == replaced(FORWARD, ("x = torch.relu(layer(x))", wanted))
    assert after(FORWARD, change, ops=layer_ops(FORWARD, [(2, 8), (8, 4)])) is None
    assert after(FORWARD, change, ops=[]) is None
    norm = Change("add-norm", "", [at(FORWARD, "torch.relu(", "linear")])
    assert after(FORWARD, norm, ops=equal) == replaced(
        FORWARD, ("layer(x)", "F.layer_norm(layer(x), (layer.out_features,))")
    )


def test_a_skip_has_its_scale_and_a_block_that_returns_one_expression_gets_one() -> None:
    change = Change("add-skip", "", [at(FORWARD, "torch.relu(", "relu")], {"scale": 0.25})
    found = after(FORWARD, change, ops=layer_ops(FORWARD, [(8, 8), (8, 8)]))
    assert found == replaced(FORWARD, ("x = torch.relu", "x = x + 0.25 * torch.relu"))
    block = HEAD + "class Block(nn.Module):\n    def forward(self, x):\n        return torch.relu(layer(x))\n"
    change = Change("add-skip", "", [at(block, "torch.relu(", "relu")], {"scale": 0.25})
    assert after(block, change, ops=layer_ops(block, [(8, 8)])) == replaced(
        block, ("return torch", "return x + 0.25 * torch")
    )
    assert after(block, change, ops=layer_ops(block, [(4, 8)])) is None
    changed = replaced(block, ("        return", "        x = x * 2\n        return"))
    change = Change("add-skip", "", [at(changed, "torch.relu(", "relu")])
    assert after(changed, change, ops=layer_ops(changed, [(8, 8)])) is None


RESIDUAL = """\
class Residual(nn.Sequential):
    \"\"\"Layers, with a skip around them.\"\"\"

    def forward(self, x):
        return x + 0.5 * super().forward(x)


"""


def test_layers_in_a_list_are_put_into_a_block_with_a_skip() -> None:
    source = (
        HEAD
        + "layers = [nn.Linear(4, w), nn.ReLU()]\nfor _ in range(9):\n    layers += [nn.Linear(w, w), nn.LayerNorm(w), nn.ReLU()]  # wide\n"
    )
    found = after(source, Change("add-skip", "", [Place(FILE, 7, None, "relu")], {"scale": 0.5}))
    wrapped = "Residual(nn.Linear(w, w), nn.LayerNorm(w), nn.ReLU())"
    assert found == replaced(
        source, ("for _", RESIDUAL + "for _"), ("nn.Linear(w, w), nn.LayerNorm(w), nn.ReLU()", wrapped)
    )
    assert after(source, Change("add-skip", "", [Place(FILE, 5, None, "relu")])) is None  # 4 to w


BUILT = (
    HEAD
    + """\
def build(depth, w):
    layers = [nn.Linear(4, w), nn.Tanh()]
    for _ in range(depth):
        layers += [nn.Linear(w, w), nn.Tanh()]
    layers.append(nn.Linear(w, 1))
    other = [nn.Linear(w, w), nn.Tanh()]
    return nn.Sequential(*layers)
"""
)


def test_a_list_that_becomes_a_sequential_is_edited_where_it_is_built() -> None:
    place = [at(BUILT, "nn.Sequential(*layers)", "tanh")]
    first, second = "nn.Linear(4, w), nn.Tanh()", "layers += [nn.Linear(w, w), nn.Tanh()"
    swapped = replaced(BUILT, (first, first.replace("Tanh", "ReLU")), (second, second.replace("Tanh", "ReLU")))
    assert after(BUILT, Change("swap-activation", "", place, {"to": "relu"})) == swapped
    norm = "nn.LayerNorm(w), nn.Tanh"
    normed = replaced(BUILT, (first, first.replace("nn.Tanh", norm)), (second, second.replace("nn.Tanh", norm)))
    assert after(BUILT, Change("add-norm", "", place)) == normed
    skipped = after(BUILT, Change("add-skip", "", place, {"scale": 0.5}))
    assert skipped == replaced(
        BUILT, ("def build", RESIDUAL + "def build"), (second, "layers += [Residual(nn.Linear(w, w), nn.Tanh())")
    )
    assert after(BUILT.replace("*layers", "*pick()"), Change("swap-activation", "", place, {"to": "relu"})) is None


def test_a_block_that_runs_more_than_once_gets_a_skip_around_its_body() -> None:
    source = (
        HEAD
        + "class Block(nn.Module):\n    def forward(self, x):\n        h = self.fc(x)\n        h = torch.relu(h)\n        return h\n"
    )
    line = line_of(source, "torch.relu(h)")
    ops = []
    for i in range(2):
        data = Operand(op=2 * i - 1) if i else Operand(value=value([4, 8]))
        ops.append(op(2 * i, "linear", "linear", line - 1, [4, 8], [data, Operand(param=i)], module=f"{i}.fc"))
        ops.append(op(2 * i + 1, "relu", "activation", line, [4, 8], [Operand(op=2 * i)], module=f"{i}"))
    change = Change("add-skip", "", [Place(FILE, line, None, "relu")])
    assert after(source, change, ops=ops) == replaced(source, ("return h", "return x + h"))
    assert after(source, change, ops=ops[:2]) is None


def test_no_skip_goes_around_a_whole_network() -> None:
    source = HEAD + "class Net(nn.Module):\n    def __init__(self):\n        self.net = nn.Sequential(*layers)\n\n"
    source += "    def forward(self, x):\n        return self.net(x)\n"
    line = line_of(source, "return self.net(")
    ops = [
        op(0, "linear", "linear", line, [4, 8], [Operand(value=value([4, 8])), Operand(param=0)]),
        op(1, "relu", "activation", line, [4, 8], [Operand(op=0)]),
    ]
    assert after(source, Change("add-skip", "", [Place(FILE, line, None, "relu")]), ops=ops) is None


def test_queries_and_keys_get_one_length() -> None:
    source = HEAD + "scores = q @ k.transpose(1, 2) * self.scale\n"
    found = after(source, Change("add-norm", "", [Place(FILE, 5, None, "matmul")], {"length": 2.0}))
    wanted = "scores = (2 * F.normalize(q, dim=-1)) @ (2 * F.normalize(k.transpose(1, 2), dim=-2)) * self.scale\n"
    assert found == HEAD + wanted
    two = HEAD + "y = (q @ k) @ v\n"
    assert after(two, Change("add-norm", "", [Place(FILE, 5, None, "matmul")], {"length": 2.0})) is None


def test_batch_normalisation_is_taken_out() -> None:
    source = HEAD + "net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())\n"
    assert after(source, Change("remove-norm", "", [Place(FILE, 5)])) == replaced(source, ("nn.BatchNorm1d(8), ", ""))
    block = HEAD + "def build(self):\n    self.bn = nn.BatchNorm2d(8)\ndef forward(self, x):\n    return self.bn(x)\n"
    found = after(block, Change("remove-norm", "", [at(block, "return self.bn", "batch_norm")]))
    assert found == replaced(block, ("nn.BatchNorm2d(8)", "nn.Identity()"))
    assert after(HEAD + "net = nn.LayerNorm(8)\n", Change("remove-norm", "", [Place(FILE, 5)])) is None
