"""Edits of first weights: layers, raw matrices, recurrences."""

from __future__ import annotations

import pytest

from gradientflow.records import Change, Operand, Param, Place
from tests.depth.remedies.editing import (
    FILE,
    HEAD,
    after,
    at,
    line_of,
    op,
    optimizer,
    replaced,
    weight,
)

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
