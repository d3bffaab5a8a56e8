"""Edits of the network: activations, outputs, first weights, layers and operands of singular operations."""

from __future__ import annotations

import pytest

from gradientflow.records import Change, Operand, Param, Place
from tests.depth.replay.editing import FILE, at, edited, line_of, op, optimizer, replaced, run, value

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"


def after(source: str, change: Change, **seen) -> str | None:
    found = edited(change, run(source, **seen))
    return found.after if found is not None else None


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


# ── first weights ────────────────────────────────────────────────────────────────────────────────────────────────────


def weight(
    index: int, name: str, source: str, made: str, drawn: str | None = None, init: str = "normal_", **more
) -> Param:
    return Param(
        index, name, more.pop("shape", [8, 8]), "float32", True, True, 0, FILE, line_of(source, made),
        init if drawn else None, FILE if drawn else None, line_of(source, drawn) if drawn else None,
        more.pop("module_class", "Linear"),
    )  # fmt: skip


INITS = {
    "nn.init": ("nn.init.normal_(net.weight, std=0.001)", {}, 'nn.init.kaiming_normal_(net.weight, nonlinearity="relu")'),
    "of data": ("net.weight.data.normal_(0, 0.001)", {}, 'nn.init.kaiming_normal_(net.weight.data, nonlinearity="relu")'),
    "zeros": ("net.weight.data.zero_()", {}, 'nn.init.kaiming_normal_(net.weight.data, nonlinearity="relu")'),
    "before a tanh": ("nn.init.normal_(net.weight)", {"gain": 1.667}, 'nn.init.kaiming_normal_(net.weight, nonlinearity="tanh")'),
    "before nothing": ("nn.init.normal_(net.weight)", {"gain": 1.0}, 'nn.init.kaiming_normal_(net.weight, nonlinearity="linear")'),
    "of another gain": ("nn.init.normal_(net.weight)", {"gain": 1.2}, "nn.init.xavier_normal_(net.weight, gain=1.2)"),
    "xavier": ("nn.init.constant_(net.weight, 0.1)", {"scheme": "xavier"}, "nn.init.xavier_normal_(net.weight)"),
    "a factor": ("nn.init.normal_(net.weight, 0.0, 8.0)", {"factor": 0.25}, "nn.init.normal_(net.weight, 0.0, 2)"),
    "a factor of a formula": ("nn.init.normal_(net.weight, std=8 / n)", {"factor": 0.25}, "nn.init.normal_(net.weight, std=(8 / n) * 0.25)"),
}  # fmt: skip


@pytest.mark.parametrize("name", INITS)
def test_first_weights_are_drawn_anew_where_they_are_drawn(name: str) -> None:
    text, settings, new = INITS[name]
    source = HEAD + f"net = nn.Linear(8, 8)\n{text}  # drawn\nnn.init.zeros_(net.bias)\nlay = torch.relu(net(x))\n"
    params = [weight(0, "weight", source, "nn.Linear", text)]
    ops = [op(0, "linear", "linear", line_of(source, "lay ="), [4, 8], [Operand(param=0)])]
    change = Change("rescale-init", "", [at(source, "lay =", "linear")], settings)
    assert after(source, change, params=params, ops=ops) == replaced(source, (text, new))


RAW = {
    "a bare draw": ("w = torch.randn(n, m)", "h = x @ w", "w = torch.randn(n, m) * (2 / n) ** 0.5"),
    "with a factor": ("w = torch.randn(n, m) * 0.01", "h = x @ w", "w = torch.randn(n, m) * (2 / n) ** 0.5"),
    "of zeros": ("w = torch.zeros(n, m)", "h = x @ w", "w = torch.randn(n, m) * (2 / n) ** 0.5"),
    "turned": ("w = torch.randn(m, n)", "h = x @ w.T", "w = torch.randn(m, n) * (2 / n) ** 0.5"),
    "a parameter": ("w = nn.Parameter(torch.randn(a + b, m))", "h = x @ w", "w = nn.Parameter(torch.randn(a + b, m) * (2 / (a + b)) ** 0.5)"),
    "a leaf": (
        "w = torch.randn(n, m, requires_grad=True)", "h = x @ w",
        "w = (torch.randn(n, m) * (2 / n) ** 0.5).requires_grad_()",
    ),
    "a list": ("w = [torch.randn(i, o) for i, o in pairs]", "h = x @ w[0]", "w = [torch.randn(i, o) * (2 / i) ** 0.5 for i, o in pairs]"),
    "numpy": ("w = np.random.randn(n, m) * 5", "h = x @ w", "w = np.random.randn(n, m) * (2 / n) ** 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_a_raw_matrix_gets_the_factor_that_belongs_to_it(name: str) -> None:
    text, use, new = RAW[name]
    source = "import numpy as np\n" + HEAD + f"{text}\n{use}\nh = torch.relu(h)\n"
    param = Param(0, "w", [8, 8], "float32", True, False, 0, FILE, line_of(source, text))
    change = Change("rescale-init", "", [at(source, text)], {"gain": 1.4142})
    assert after(source, change, params=[param]) == replaced(source, (text, new))


DEFAULT = (
    HEAD
    + "model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())  # made\nopt = torch.optim.SGD(model.parameters(), lr=1)\n"
)
LOOP_OF_MODULES = """\
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
"""


def test_a_default_initialisation_is_followed_by_another_after_the_model_is_made() -> None:
    params = [weight(0, "0.weight", DEFAULT, "nn.Linear(8, 8)")]
    change = Change("rescale-init", "", [at(DEFAULT, "nn.Linear(8, 8)", "linear")], {"gain": 1.4142})
    found = after(DEFAULT, change, params=params, optimizers=[optimizer(DEFAULT, "torch.optim.SGD(", None)])
    assert found == replaced(DEFAULT, ("# made\n", "# made\n" + LOOP_OF_MODULES))
    twice = DEFAULT + "model = nn.Sequential(nn.Linear(3, 3))\n"
    params = [weight(0, "0.weight", twice, "nn.Linear(8, 8)")]
    assert after(twice, change, params=params, optimizers=[optimizer(twice, "torch.optim.SGD(", None)]) is None


def test_a_line_that_initialises_weights_and_biases_alike_is_left_and_the_model_initialised_after_it() -> None:
    source = replaced(DEFAULT, ("opt =", "for p in model.parameters():\n    nn.init.constant_(p, 0.01)\n\nopt ="))
    line = "nn.init.constant_(p"
    params = [
        weight(0, "0.weight", source, "nn.Linear(8", line),
        weight(1, "0.bias", source, "nn.Linear(8", line, shape=[8]),
    ]
    change = Change("break-symmetry", "", [at(source, line, "constant_")])
    found = after(source, change, params=params, optimizers=[optimizer(source, "torch.optim.SGD(", None)])
    assert found == replaced(source, ("opt =", LOOP_OF_MODULES + "opt ="))
    apart = replaced(source, ("opt =", "def train(model):\n    opt ="), ("# made", "# made"))
    assert after(apart, change, params=params, optimizers=[optimizer(apart, "torch.optim.SGD(", None)]) is None


def test_an_orthogonal_start_comes_after_the_loop_that_draws_all_weights() -> None:
    source = (
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        self.rnn = nn.RNN(4, 8)\n"
        + "        for p in self.parameters():\n            nn.init.uniform_(p, -0.1, 0.1)\n        self.n = 3\n"
    )
    line = "nn.init.uniform_("
    params = [
        weight(0, "rnn.weight_hh_l0", source, "nn.RNN(", line),
        weight(1, "rnn.bias_hh_l0", source, "nn.RNN(", line, shape=[8]),
    ]
    found = after(source, Change("orthogonal-recurrence", "", [at(source, "nn.RNN(", "rnn_tanh")]), params=params)
    assert found == replaced(
        source, ("        self.n", "        nn.init.orthogonal_(self.rnn.weight_hh_l0)\n        self.n")
    )


BLOCK = (
    HEAD
    + """\
class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.fc1 = nn.Linear(d, d)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(d, d)  # the second
        self.out = nn.Linear(d, 1)

    def forward(self, x):
        return self.out(self.act(self.fc2(self.act(self.fc1(x)))))
"""
)


def test_a_few_layers_with_names_are_initialised_one_by_one_and_no_others() -> None:
    params = [
        weight(0, "fc1.weight", BLOCK, "self.fc1 ="), weight(1, "fc1.bias", BLOCK, "self.fc1 =", shape=[8]),
        weight(2, "fc2.weight", BLOCK, "self.fc2 ="), weight(3, "out.weight", BLOCK, "self.out ="),
    ]  # fmt: skip
    line = line_of(BLOCK, "return self.out(")
    ops = [op(i, "linear", "linear", line, [4, 8], [Operand(param=2 * i)]) for i in range(2)]
    place = [Place(FILE, line, None, "linear")]
    lines = "".join(f'        nn.init.kaiming_normal_(self.fc{i}.weight, nonlinearity="relu")\n' for i in (1, 2))
    found = after(BLOCK, Change("rescale-init", "", place, {"gain": 1.414}), params=params, ops=ops)
    assert found == replaced(BLOCK, ("# the second\n", "# the second\n" + lines))
    found = after(BLOCK, Change("rescale-init", "", place, {"gain": 1.0, "bias": 0.0}), params=params, ops=ops[:1])
    one = '        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="linear")\n        nn.init.zeros_(self.fc1.bias)\n'
    assert found == replaced(BLOCK, ("        self.act = nn", one + "        self.act = nn"))
    found = after(BLOCK, Change("rescale-init", "", place, {"factor": 0.25}), params=params, ops=ops)
    times = "".join(f"            self.fc{i}.weight.mul_(0.25)\n" for i in (1, 2))
    assert found == replaced(BLOCK, ("# the second\n", "# the second\n        with torch.no_grad():\n" + times))


RECURRENT = {
    "rnn": ("self.rnn = nn.RNN(4, 8)", "nn.init.orthogonal_(self.rnn.weight_hh_l0)"),
    "cell": ("self.rnn = nn.RNNCell(4, 8)", "nn.init.orthogonal_(self.rnn.weight_hh)"),
    "gru": (
        "self.rnn = nn.GRU(4, 8)",
        "for gate in self.rnn.weight_hh_l0.data.chunk(3):\n            nn.init.orthogonal_(gate)",
    ),
    "two layers": (
        "self.rnn = nn.RNN(4, 8, num_layers=2)",
        "for name, weight in self.rnn.named_parameters():\n"
        '            if "weight_hh" in name:\n                nn.init.orthogonal_(weight)',
    ),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_layer_is_made_orthogonal_after_it_is_made(name: str) -> None:
    made, line = RECURRENT[name]
    source = (
        HEAD
        + f"class Net(nn.Module):\n    def __init__(self):\n        {made}  # made\n        self.out = nn.Linear(8, 1)\n"
    )
    found = after(source, Change("orthogonal-recurrence", "", [at(source, "self.rnn", "rnn_tanh")]))
    assert found == replaced(source, ("# made\n", f"# made\n        {line}\n"))


def test_a_linear_layer_that_is_used_as_a_recurrence_is_found_by_the_record() -> None:
    source = (
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        self.inp = nn.Linear(4, 8)\n        self.rec = nn.Linear(8, 8)\n"
        + "        self.out = nn.Linear(8, 8)\n\n    def step(self, h, e):\n        return torch.tanh(self.rec(h) + e)\n"
    )
    line = line_of(source, "torch.tanh(")
    params = [weight(0, "rec.weight", source, "self.rec = "), weight(1, "out.weight", source, "self.out = ")]
    ops = [op(0, "linear", "linear", line, [4, 8], [Operand(param=0)])]
    change = Change("orthogonal-recurrence", "", [Place(FILE, line, None, "linear")])
    wanted = "nn.Linear(8, 8)\n        nn.init.orthogonal_(self.rec.weight)\n        self.out"
    assert after(source, change, params=params, ops=ops) == replaced(
        source, ("nn.Linear(8, 8)\n        self.out", wanted)
    )
    assert after(source, change, params=params) is None  # the record does not say which


def test_a_recurrent_matrix_is_made_orthogonal_where_it_is_drawn() -> None:
    source = HEAD + "W = torch.randn(h, h) * 1.5\nU = torch.randn(i, h)\nW.requires_grad_()\n"
    param = Param(0, "W", [8, 8], "float32", True, False, 0, FILE, 5)
    found = after(source, Change("orthogonal-recurrence", "", [Place(FILE, 5, None, "matmul")]), params=[param])
    assert found == replaced(source, ("torch.randn(h, h) * 1.5", "nn.init.orthogonal_(torch.empty(h, h))"))
    gated = HEAD + "rnn = nn.RNN(4, 8, nonlinearity='relu', batch_first=True)\n"
    found = after(gated, Change("gated-cell", "", [Place(FILE, 5)]))
    assert found == HEAD + "rnn = nn.GRU(4, 8, batch_first=True)\n"
    assert after(source, Change("gated-cell", "", [Place(FILE, 5)])) is None


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

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


# ── singular operations ──────────────────────────────────────────────────────────────────────────────────────────────

CLAMPS = {
    "sqrt of squares": ("d = torch.sqrt((a - b).pow(2).sum(1))", "sqrt", "d = torch.sqrt((a - b).pow(2).sum(1) + 1e-06)"),
    "sqrt of anything": ("d = torch.sqrt(v)", "sqrt", "d = torch.sqrt(v.clamp_min(1e-06))"),
    "a method": ("d = ((a - b) ** 2).sum(1).sqrt()", "sqrt", "d = (((a - b) ** 2).sum(1) + 1e-06).sqrt()"),
    "a half power": ("d = (v - u) ** 0.5", "pow", "d = (v - u).clamp_min(1e-06) ** 0.5"),
    "log": ("l = -torch.log(p).mean()", "log", "l = -torch.log(p.clamp_min(1e-06)).mean()"),
    "log of a difference": ("l = torch.log(1 - p)", "log", "l = torch.log((1 - p).clamp_min(1e-06))"),
    "log as a method": ("l = (1 - p).log()", "log", "l = (1 - p).clamp_min(1e-06).log()"),
    "both logs": ("l = y * torch.log(p) + z * torch.log(q)", "log", "l = y * torch.log(p.clamp_min(1e-06)) + z * torch.log(q.clamp_min(1e-06))"),
    "division": ("r = a / s", "div", "r = a / s.clamp_min(1e-06)"),
    "division by a norm": ("r = a / a.norm()", "div", "r = a / (a.norm() + 1e-06)"),
    "division by a difference": ("r = a / (s - t)", "div", "r = a / (s - t).clamp_min(1e-06)"),
    "normalize": ("u = F.normalize(v, dim=1)", "normalize", "u = F.normalize(v, dim=1, eps=1e-06)"),
    "normalize with an eps": ("u = F.normalize(v, eps=1e-12)", "normalize", "u = F.normalize(v, eps=1e-06)"),
    "exp": ("e = torch.exp(s * t)", "exp", "e = torch.exp((s * t).clamp(max=40))"),
    "acos": ("t = torch.acos(c)", "acos", "t = torch.acos(c.clamp(-0.999999, 0.999999))"),
    "a norm": ("r = a / a.norm(dim=1)", "norm", "r = a / a.norm(dim=1).clamp_min(1e-06)"),
    "logit": ("l = torch.logit(p)", "logit", "l = torch.logit(p, eps=1e-06)"),
    "log1p": ("l = torch.log1p(p)", "log1p", "l = torch.log1p(p.clamp_min(-0.999999))"),
    "cosine": ("c = F.cosine_similarity(a, b)", "cosine_similarity", "c = F.cosine_similarity(a, b, eps=1e-06)"),
    "inside where": ("w = torch.where(z > 0, torch.log(z), z)", "log", "w = torch.where(z > 0, torch.log(z.clamp_min(1e-06)), z)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAMPS)
def test_an_operand_is_kept_from_the_singular_point(name: str) -> None:
    text, op_name, new = CLAMPS[name]
    source = HEAD + text + "  # here\nprint(text)\n"
    found = after(source, Change("clamp-op", "", [Place(FILE, 5, None, op_name)], {"eps": 1e-6}))
    assert found == HEAD + new + "  # here\nprint(text)\n"


def test_a_divisor_of_both_signs_keeps_its_sign() -> None:
    source = HEAD + "r = a / d\n"
    ops = [op(0, "sub", "elementwise", 4, [3]), op(1, "div", "singular", 5, [3], [Operand(), Operand(op=0)])]
    change = Change("clamp-op", "", [Place(FILE, 5, None, "div")], {"eps": 1e-6})
    wanted = "r = a / torch.where(d < 0, d.clamp(max=-1e-06), d.clamp(min=1e-06))\n"
    assert after(source, change, ops=ops) == HEAD + wanted
    unnamed = HEAD + "r = a / (b - c)\n"
    assert after(unnamed, change, ops=ops) is None
    ops[0].value.min = 0.0
    assert after(unnamed, change, ops=ops) == HEAD + "r = a / (b - c).clamp_min(1e-06)\n"


def test_a_softmax_by_hand_takes_off_the_largest() -> None:
    settings = {"eps": 1e-6, "shift": True, "dim": 1}
    change = Change("clamp-op", "", [Place(FILE, 5, None, "exp")], settings)
    assert (
        after(HEAD + "e = torch.exp(s / t)\n", change)
        == HEAD + "e = torch.exp(s / t - (s / t).amax(1, keepdim=True))\n"
    )
    assert after(HEAD + "e = torch.exp(net(x))\n", change) == HEAD + "e = torch.exp(net(x).clamp(max=40))\n"


def test_an_operation_that_is_not_on_the_line_is_not_replaced_by_another() -> None:
    for text, name in (
        ("y = torch.sqrt(x)", "log"),
        ("y = x ** 2", "pow"),
        ("y = a / 2", "div"),
        ("y = net(x)", "linear"),
    ):
        assert after(HEAD + text + "\n", Change("clamp-op", "", [Place(FILE, 5, None, name)])) is None
    assert after(HEAD + "y = a / b / c\n", Change("clamp-op", "", [Place(FILE, 5)])) is None
