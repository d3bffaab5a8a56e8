"""Edits of activations: another one in its place, or none at the output."""

from __future__ import annotations

import pytest

from gradientflow.records import Change, Place
from tests.depth.remedies.editing import (
    FILE,
    HEAD,
    after,
    at,
    edited,
    line_of,
    op,
    replaced,
    run,
)

# what is written → what must be written; the marker « » shows the line that the change is for
SWAPS = {
    "a module": ("net = nn.Sequential(nn.Linear(2, 2), «nn.Sigmoid()», nn.Linear(2, 2))", "sigmoid", "relu", "nn.ReLU()"),
    "a function of torch": ("h = «torch.sigmoid»(a(x))", "sigmoid", "relu", "torch.relu"),
    "to tanh": ("h = «torch.sigmoid»(a(x))", "sigmoid", "tanh", "torch.tanh"),
    "to what torch has not": ("h = «torch.sigmoid»(a(x))", "sigmoid", "gelu", "F.gelu"),
    "a functional": ("h = «F.sigmoid»(a(x))", "sigmoid", "relu", "F.relu"),
    "a long name": ("h = «nn.functional.tanh»(a(x))", "tanh", "silu", "nn.functional.silu"),
    "a method": ("h = a(x).«sigmoid»()", "sigmoid", "relu", "relu"),
    "a method in place": ("h = a(x).«sigmoid_»()", "sigmoid_", "relu", "relu_"),
    "a method that there is not": ("h = «a(x).tanh()»", "tanh", "gelu", "F.gelu(a(x))"),
    "a class by name": ("net = build(4, act=«nn.Sigmoid»)", "sigmoid", "relu", "nn.ReLU"),
    "a function by name": ("activation = «torch.sigmoid»", "sigmoid", "relu", "torch.relu"),
    "one of two": ("h = torch.tanh(a(x)) * «torch.sigmoid»(b(x))", "sigmoid", "relu", "torch.relu"),
    "relu, when nothing is said": ("h = «torch.tanh»(a(x))", "tanh", None, "torch.relu"),
    "leaky in place of relu": ("h = «F.relu»(a(x))", "relu", None, "F.leaky_relu"),
    "a softmax with its dim": ("h = «torch.softmax(a(x), dim=1)»", "softmax", "relu", "torch.relu(a(x))"),
}  # fmt: skip


@pytest.mark.parametrize("name", SWAPS)
def test_an_activation_is_swapped_where_it_is_written(name: str) -> None:
    text, old, to, new = SWAPS[name]
    before, rest = text.split("«")
    source = HEAD + text.replace("«", "").replace("»", "") + "  # a comment\n\nprint(net)\n"
    expected = HEAD + before + new + rest.split("»")[1] + "  # a comment\n\nprint(net)\n"
    change = Change("swap-activation", "", [Place(FILE, 5, None, old)], {"to": to} if to else {})
    assert after(source, change) == expected


NET = (
    HEAD
    + '''\
class Net(nn.Module):
    """A net."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 8)
        self.act = nn.Sigmoid()

    def forward(self, x):
        return self.act(self.one(x))
'''
)


def test_an_activation_is_followed_to_where_it_was_given_its_name() -> None:
    change = Change("swap-activation", "", [at(NET, "return self.act(", "sigmoid")], {"to": "relu"})
    assert after(NET, change) == replaced(NET, ("nn.Sigmoid()", "nn.ReLU()"))
    passed = replaced(NET, ("def __init__(self)", "def __init__(self, act=nn.Sigmoid)"), ("= nn.Sigmoid()", "= act()"))
    change = Change("swap-activation", "", [at(passed, "return self.act(", "sigmoid")], {"to": "relu"})
    assert after(passed, change) == replaced(passed, ("act=nn.Sigmoid", "act=nn.ReLU"))


def test_an_activation_that_could_be_either_of_two_is_left_alone() -> None:
    two = replaced(NET, ("nn.Sigmoid()", "pick()"), ("class Net", "A = nn.Sigmoid()\nB = nn.Sigmoid()\n\nclass Net"))
    change = Change("swap-activation", "", [at(two, "return self.act(", "sigmoid")], {"to": "relu"})
    assert after(two, change) is None
    table = replaced(NET, ("nn.Sigmoid()", "ACTS[kind]"), ("class Net", "ACTS = {'s': nn.Sigmoid()}\n\nclass Net"))
    change = Change("swap-activation", "", [at(table, "return self.act(", "sigmoid")], {"to": "relu"})
    assert after(table, change) is None or "ACTS = {'s': nn.ReLU()}" in (after(table, change) or "")
    asked = HEAD + "for m in net:\n    if isinstance(m, nn.Sigmoid):\n        print(m)\n"
    change = Change("swap-activation", "", [Place(FILE, 6, None, "sigmoid")], {"to": "relu"})
    assert after(asked, change) is None


def test_several_lines_are_swapped_together_and_only_those() -> None:
    lines = "        nn.Linear(9, 9), nn.Sigmoid(),  # one\n        nn.Linear(9, 9), nn.Sigmoid(),  # two\n"
    source = HEAD + "net = nn.Sequential(\n" + lines + "        nn.Linear(9, 9), nn.Sigmoid(),  # out\n)\n"
    places = [Place(FILE, 6, None, "sigmoid"), Place(FILE, 7, None, "sigmoid")]
    found = after(source, Change("swap-activation", "", places, {"to": "relu"}))
    assert found == source.replace(lines, lines.replace("nn.Sigmoid", "nn.ReLU"))


def test_modules_of_a_sequential_are_found_by_the_record_where_the_line_only_calls_them() -> None:
    source = (
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        self.net = nn.Sequential(\n"
        + "            nn.Linear(4, 4), nn.Sigmoid(),\n            nn.Linear(4, 4), nn.Sigmoid(), nn.Sigmoid(),\n        )\n\n"
        + "    def forward(self, x):\n        return self.net(x)\n"
    )
    line, made_line = line_of(source, "return self.net("), line_of(source, "nn.Sequential(")
    keys = {"made_file": FILE, "made_line": made_line}
    ops = [op(i, "sigmoid", "activation", line, [4, 4], made_key=key, **keys) for i, key in enumerate(("1", "3"))]
    change = Change("swap-activation", "", [Place(FILE, line, None, "sigmoid")], {"to": "relu"})
    expected = replaced(
        source,
        ("nn.Linear(4, 4), nn.Sigmoid(),\n", "nn.Linear(4, 4), nn.ReLU(),\n"),
        ("nn.Sigmoid(), nn.Sigmoid()", "nn.ReLU(), nn.Sigmoid()"),
    )
    assert after(source, change, ops=ops) == expected
    ops.append(op(2, "sigmoid", "activation", line, [4, 4], made_key="9", **keys))  # one that is not written there
    assert after(source, change, ops=ops) is None
    norm = after(source, Change("add-norm", "", [Place(FILE, line, None, "sigmoid")]), ops=ops[:2])
    assert norm is not None
    assert norm.count("nn.Linear(4, 4), nn.LayerNorm(4), nn.Sigmoid()") == 2


def test_a_class_that_is_not_imported_is_reached_by_importing_torch() -> None:
    source = '"""Doc."""\nfrom __future__ import annotations\n\nfrom torch.nn import Linear, Sequential, Sigmoid\n\nnet = Sequential(Linear(2, 2), Sigmoid())\n'
    found = after(source, Change("swap-activation", "", [Place(FILE, 6, None, "sigmoid")], {"to": "relu"}))
    assert found == replaced(
        source, ("from torch.nn", "import torch\nfrom torch.nn"), ("2), Sigmoid()", "2), torch.nn.ReLU()")
    )
    inside = "from torch.nn import Sigmoid\n\ndef f():\n    import torch.nn as nn\n\nact = Sigmoid()\n"
    found = after(inside, Change("swap-activation", "", [Place(FILE, 6, None, "sigmoid")], {"to": "relu"}))
    assert found == "import torch\n" + replaced(inside, ("= Sigmoid", "= torch.nn.ReLU"))
    taken = source.replace("net =", "torch = 3\nnet =")
    assert after(taken, Change("swap-activation", "", [Place(FILE, 7, None, "sigmoid")], {"to": "relu"})) is None


OUTPUTS = {
    "a function": ("return torch.softmax(self.fc(x), dim=1)", "softmax", "return self.fc(x)"),
    "a method": ("return self.fc(x).sigmoid()", "sigmoid", "return self.fc(x)"),
    "in a sum": ("y = 2 * torch.sigmoid(a + b)", "sigmoid", "y = 2 * (a + b)"),
    "the outer one of two": ("return F.relu(self.fc(F.relu(self.one(x))))", "relu", "return self.fc(F.relu(self.one(x)))"),
    "in a list": ("net = nn.Sequential(nn.Linear(2, 1), nn.Softmax(dim=1))", "softmax", "net = nn.Sequential(nn.Linear(2, 1))"),
    "of its own": ("out = nn.Softmax(dim=1)", "softmax", "out = nn.Identity()"),
    "over two lines": ("return torch.sigmoid(\n    a + b\n)", "sigmoid", "return a + b"),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_output_s_activation_is_taken_away(name: str) -> None:
    text, old, new = OUTPUTS[name]
    body = "def f(self, x, a, b):\n    "
    source, expected = HEAD + body + text + "\n", HEAD + body + new + "\n"
    assert after(source, Change("fix-output", "", [Place(FILE, 6, None, old)])) == expected


def test_an_element_goes_with_its_line_and_keeps_the_others_comments() -> None:
    source = (
        HEAD + "net = nn.Sequential(\n    nn.Linear(2, 1),  # last\n    nn.Sigmoid(),  # squash\n    # the end\n)\n"
    )
    change = Change("fix-output", "", [at(source, "nn.Sigmoid()", "sigmoid")])
    assert after(source, change) == source.replace("    nn.Sigmoid(),  # squash\n", "")
    indexed = source + "print(net[0])\n"
    assert after(indexed, change) == replaced(indexed, ("nn.Sigmoid()", "nn.Identity()"))


def test_a_loss_of_probabilities_becomes_one_of_scores() -> None:
    source = HEAD + "criterion = nn.BCELoss()\np = torch.sigmoid(net(x))\nloss = criterion(p, y)\n"
    found = edited(Change("fix-output", "", [at(source, "torch.sigmoid(", "sigmoid")]), run(source))
    assert found is not None
    assert found.after == replaced(source, ("BCELoss", "BCEWithLogitsLoss"), ("torch.sigmoid(net(x))", "net(x)"))
    assert "sigmoid" in found.note
    other = Change("fix-output", "", [at(source, "torch.sigmoid(", "sigmoid")], {"to": "tanh"})
    assert after(source, other) == replaced(source, ("torch.sigmoid", "torch.tanh"))
