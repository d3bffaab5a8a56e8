"""Edits of data and of loose wires, and the form of every edit: indentation, line ends, the diff."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from gradientflow.depth.remedies.write import edit
from gradientflow.depth.remedies.writing.patch import unified
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Change, Operand, Param, Place
from tests.depth.remedies.editing import (
    FILE,
    DiffError,
    applied,
    at,
    edited,
    finding,
    line_of,
    op,
    optimizer,
    replaced,
    run,
    value,
)

ROOT = Path(__file__).parents[3]

# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

STANDARD = "X = (X - X.mean(0)) / (X.std(0) + 1e-8)\n"
INPUTS = {
    "one name": ("X = torch.tensor(d.data)  # pixels\n", STANDARD),
    "a pair": ("X, y = load(3)\n", STANDARD),
    "features and target": ("features, target = load(3)\n", "features = (features - features.mean(0)) / (features.std(0) + 1e-8)\n"),
    "train and test": (
        "X_train, X_test, y_train, y_test = split(X, y)\n",
        "mean, std = X_train.mean(0), X_train.std(0) + 1e-8\nX_train = (X_train - mean) / std\nX_test = (X_test - mean) / std\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_standardised_after_the_line_that_makes_them(name: str) -> None:
    line, more = INPUTS[name]
    source = "import torch\n\n" + line + "\nprint(1)\n"
    found = edited(Change("scale-input", "", [Place(FILE, 3, None, "data")]), run(source))
    assert found is not None
    assert found.after == "import torch\n\n" + line + more + "\nprint(1)\n"


TARGETS = {
    "a pair": ("X, y = load(3)\n", "y = (y - y.mean()) / (y.std() + 1e-8)\n"),
    "one name": ("prices = torch.tensor(p)\n", "prices = (prices - prices.mean()) / (prices.std() + 1e-8)\n"),
    "train and test": (
        "x_tr, x_te, y_tr, y_te = split(X, y)\n",
        "mean, std = y_tr.mean(), y_tr.std() + 1e-8\ny_tr = (y_tr - mean) / std\ny_te = (y_te - mean) / std\n",
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_standardised_and_the_note_says_to_undo_it(name: str) -> None:
    line, more = TARGETS[name]
    found = edited(Change("scale-target", "", [Place(FILE, 1, None, "data")]), run(line))
    assert found is not None
    assert found.after == line + more
    assert "undo" in found.note


def test_data_is_found_by_the_record_where_the_change_names_the_layer() -> None:
    source = "import torch\nX = torch.tensor(d)\ny = torch.tensor(t)\nfor i in range(9):\n    out = net(X)\n    loss = mse(out, y)\n"
    ops = [
        op(0, "linear", "linear", 5, [9, 1], [Operand(value=value([9, 3]), file=FILE, line=2), Operand(param=0)]),
        op(1, "mse_loss", "loss", 6, [], [Operand(op=0), Operand(value=value([9, 1]), file=FILE, line=3)]),
    ]
    seen = run(source, ops=ops)
    found = edited(Change("scale-input", "", [Place(FILE, 5, None, "linear")]), seen)
    assert found is not None
    assert found.after == replaced(source, ("tensor(d)\n", "tensor(d)\n" + STANDARD))
    found = edited(Change("scale-target", "", [Place(FILE, 6, None, "mse_loss")]), seen)
    assert found is not None
    assert found.after == replaced(source, ("tensor(t)\n", "tensor(t)\ny = (y - y.mean()) / (y.std() + 1e-8)\n"))
    unknown = replaced(source, ("net(X)", "net(make(X + 1))"))
    assert edited(Change("scale-input", "", [Place(FILE, 5, None, "linear")]), run(unknown)) is None
    computed = Change("scale-input", "", [Place(FILE, 5)])  # a line that a gradient flows to is no data
    found = edited(computed, seen)
    assert found is not None
    assert "out = (out" not in found.after


FOLLOWED = {
    "a slice": "    xb, yb = X[i:i + 1], y[i:i + 1]\n    loss = mse(net(xb), yb)\n",
    "a conversion": "    xb, yb = X.to(device), y.to(device)\n    loss = mse(net(xb), yb)\n",
    "as it is": "    loss = mse(net(X[:9]), y[:9])\n",
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_data_is_followed_through_the_text_where_the_record_lost_it(name: str) -> None:
    source = "import torch\nX = torch.tensor(d)\ny = torch.tensor(t)\nfor i in range(9):\n" + FOLLOWED[name]
    line = line_of(source, "loss = ")
    found = edited(Change("scale-input", "", [Place(FILE, line, None, "linear")]), run(source))
    assert found is not None
    assert found.after == replaced(source, ("tensor(d)\n", "tensor(d)\n" + STANDARD))
    found = edited(Change("scale-target", "", [Place(FILE, line, None, "mse_loss")]), run(source))
    assert found is not None
    assert found.after == replaced(source, ("tensor(t)\n", "tensor(t)\ny = (y - y.mean()) / (y.std() + 1e-8)\n"))


def test_data_is_followed_through_a_loader_and_a_function_that_is_called_once() -> None:
    source = """\
X, y = load(3), labels(3)
loader = DataLoader(TensorDataset(X, y), batch_size=4)


def train(net, data, epochs):
    for i, (a, b) in enumerate(loader):
        loss = mse(net(a), b)


train(net, loader, 3)
"""
    place = [at(source, "loss =", "linear")]
    found = edited(Change("scale-input", "", place), run(source))
    assert found is not None
    assert found.after == replaced(source, ("labels(3)\n", "labels(3)\n" + STANDARD))
    given = replaced(source, ("enumerate(loader)", "enumerate(data)"))
    assert edited(Change("scale-input", "", place), run(given)) is not None
    twice = given + "train(net, other, 3)\n"
    assert edited(Change("scale-input", "", place), run(twice)) is None


def test_numbers_of_tokens_are_not_standardised() -> None:
    for made in ("torch.randint(0, 9, (64, 8))", "torch.tensor(d, dtype=torch.long)", "torch.tensor(d).long()"):
        source = f"import torch\nids = {made}\nfor i in range(9):\n    loss = net(ids).mean()\n"
        for place in (Place(FILE, 4, None, "embedding"), Place(FILE, 2, None, "data")):
            assert edited(Change("scale-input", "", [place]), run(source)) is None
    source = "import torch\nids = load(3)\nfor i in range(9):\n    loss = net(ids).mean()\n"
    ops = [op(0, "embedding", "embedding", 4, [9, 4], [Operand(param=0)])]
    assert edited(Change("scale-input", "", [Place(FILE, 4, None, "embedding")]), run(source, ops=ops)) is None
    assert edited(Change("scale-input", "", [Place(FILE, 4, None, "linear")]), run(source)) is not None


def test_targets_that_are_computed_from_the_inputs_are_computed_before_those_are_scaled() -> None:
    source = "import torch\n\ndef make(n):\n    x = torch.rand(n, 3) * 300\n    y = 3.0 * x.sum(1)\n    return x, y\n"
    found = edited(Change("scale-input", "", [Place(FILE, 4, None, "data")]), run(source))
    assert found is not None
    assert found.after == replaced(source, ("x.sum(1)\n", "x.sum(1)\n    x = (x - x.mean(0)) / (x.std(0) + 1e-8)\n"))


def test_test_data_beside_training_data_is_scaled_alike() -> None:
    source = "X_train = torch.tensor(a)\nX_test = torch.tensor(b)\nnet = Net()\nX_val = torch.tensor(c)\n"
    found = edited(
        Change("scale-input", "", [Place(FILE, 1, None, "data")]), run(source, params=[param(0, "w", 3, True)])
    )
    assert found is not None
    lines = "mean, std = X_train.mean(0), X_train.std(0) + 1e-8\nX_train = (X_train - mean) / std\nX_test = (X_test - mean) / std\n"
    assert found.after == replaced(source, ("tensor(b)\n", "tensor(b)\n" + lines))


def test_one_sample_is_scaled_by_what_was_seen_of_all() -> None:
    source = (
        "class Data:\n    def __getitem__(self, i):\n        img = read(self.files[i])\n        return img, self.y[i]\n"
    )
    ops = [op(0, "linear", "linear", 99, [9, 1], [Operand(value=value([9, 3], 127.5, 60.0), file=FILE, line=3)])]
    change = Change("scale-input", "", [Place(FILE, 3, None, "data")])
    found = edited(change, run(source, ops=ops))
    assert found is not None
    assert found.after == replaced(source, ("i])\n", "i])\n        img = (img - 127.5) / 60\n"))
    assert edited(change, run(source)) is None


def test_data_made_inside_an_expression_is_given_to_a_function() -> None:
    source = "import torch\n\n\ndef make(n):\n    return torch.tensor(a).float(), torch.tensor(b)\n"
    found = edited(Change("scale-input", "", [Place(FILE, 5, None, "data")]), run(source))
    assert found is not None
    function = "def standardised(data):\n    return (data - data.mean(0)) / (data.std(0) + 1e-8)\n\n\n"
    assert found.after == replaced(
        source,
        ("def make", function + "def make"),
        ("torch.tensor(a).float()", "standardised(torch.tensor(a).float())"),
    )


def test_names_that_do_not_tell_inputs_from_targets_are_not_guessed() -> None:
    for line in ("a, b, c = load()\n", "loader = DataLoader(d)\n", "a = b = load()\n", "n = 3 * 4\n", "import torch\n"):
        assert edited(Change("scale-input", "", [Place(FILE, 1, None, "data")]), run(line)) is None


# ── wires ────────────────────────────────────────────────────────────────────────────────────────────────────────────

WIRES = {
    "detach": ("h = self.one(x).detach()", "h = self.one(x)"),
    "detach in the middle": ("h = self.one(x).detach().relu()", "h = self.one(x).relu()"),
    "detach of a sum": ("h = (a + b).detach() * 2", "h = (a + b) * 2"),
    "no gradient": ("with torch.no_grad(): h = f(x)", "with torch.enable_grad(): h = f(x)"),
    "a frozen weight": ("net.weight.requires_grad = False", "net.weight.requires_grad = True"),
    "a frozen layer": ("net.requires_grad_(False)", "net.requires_grad_(True)"),
    "a leaf": ("w = torch.ones(3, requires_grad=False)", "w = torch.ones(3, requires_grad=True)"),
}


@pytest.mark.parametrize("name", WIRES)
def test_a_loose_wire_is_tied_on_its_line(name: str) -> None:
    before, after = WIRES[name]
    source = f"import torch\n\n{before}  # why?\ny = other.detach()\n"
    found = edited(Change("reconnect", "", [Place(FILE, 3)]), run(source))
    assert found is not None
    assert found.after == f"import torch\n\n{after}  # why?\ny = other.detach()\n"


def test_a_list_of_layers_becomes_a_module_list() -> None:
    source = """\
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(4, 4) for _ in range(3)]  # three
        self.sizes = [4, 4, 4]

    def forward(self, x):
        for layer in self.hidden:
            x = layer(x)
        return x
"""
    wanted = replaced(
        source, ("[nn.Linear(4, 4) for _ in range(3)]", "nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])")
    )
    for fragment in ("self.hidden = [", "in self.hidden:"):
        found = edited(Change("reconnect", "", [at(source, fragment)]), run(source))
        assert found is not None
        assert found.after == wanted
    assert edited(Change("reconnect", "", [at(source, "self.sizes =")]), run(source)) is None


def param(index: int, name: str, line: int, held: bool, requires_grad: bool = True) -> Param:
    return Param(index, name, [4, 4], "float32", requires_grad, True, 0 if held else None, FILE, line, in_graph=True)


def test_parameters_that_no_optimizer_holds_are_given_to_it() -> None:
    part = "import torch\nnet = Net()\nopt = torch.optim.Adam(net.head.parameters(), lr=1e-3)\n"
    params = [param(0, "body.weight", 2, False), param(1, "head.weight", 2, True)]
    made = optimizer(part, "torch.optim.Adam(", None, "Adam")
    change = Change("reconnect", "", [at(part, "torch.optim.Adam(", "Adam")])
    found = edited(change, run(part, [made], params))
    assert found is not None
    assert found.after == replaced(part, ("net.head.parameters()", "net.parameters()"))
    two = "import torch\nbody = Body()\nhead = Head()\nopt = torch.optim.Adam(head.parameters(), lr=1e-3)\n"
    params = [param(0, "body.weight", 2, False), param(1, "head.weight", 3, True)]
    made = optimizer(two, "torch.optim.Adam(", None, "Adam")
    change = Change("reconnect", "", [at(two, "torch.optim.Adam(", "Adam")])
    found = edited(change, run(two, [made], params))
    assert found is not None
    assert found.after == replaced(two, ("(head.parameters()", "([*head.parameters(), *body.parameters()]"))
    assert edited(change, run(two, [made], params[1:])) is None  # none is missing


def test_an_optimizer_of_frozen_parameters_thaws_them_where_one_statement_froze_them() -> None:
    source = "import torch\nfor p in net.parameters():\n    p.requires_grad = False\nopt = torch.optim.SGD(net.parameters(), lr=1)\n"
    made = optimizer(source, "torch.optim.SGD(", None)
    made.params = [0]
    change = Change("reconnect", "", [at(source, "torch.optim.SGD(")])
    seen = run(source, [made], [param(0, "weight", 1, True, requires_grad=False)])
    found = edited(change, seen)
    assert found is not None
    assert found.after == replaced(source, ("= False", "= True"))
    twice = source + "q.requires_grad = False\n"
    assert edited(change, run(twice, [made], seen.meta.params)) is None


# ── the form ─────────────────────────────────────────────────────────────────────────────────────────────────────────

FORM = """\
import torch


def train(net, data):
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in data:
        loss = net(x).sum()  # größer: ∂L/∂θ
        loss.backward()
        opt.step()
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("step", ["    ", "\t", "  "])
def test_indentation_and_line_ends_are_the_file_s_own(step: str, ends: str) -> None:
    source = FORM.replace("    ", step).replace("\n", ends)
    seen = run(source, [optimizer(source, "torch.optim.SGD(", "opt.step(")])
    found = edited(Change("drop-bad-batch", ""), seen)
    assert found is not None
    lines = ["if not torch.isfinite(loss):", step + "opt.zero_grad()", step + "continue"]
    guard = "".join(step * 2 + line + ends for line in lines)
    assert found.after == replaced(source, (step * 2 + "loss.backward()", guard + step * 2 + "loss.backward()"))


def test_columns_are_counted_right_after_letters_of_several_bytes() -> None:
    source = 'import torch\nname = "∂θ"; y = torch.sigmoid(ψ)  # ψ\n'
    found = edited(Change("swap-activation", "", [Place(FILE, 2, None, "sigmoid")], {"to": "tanh"}), run(source))
    assert found is not None
    assert found.after == source.replace("torch.sigmoid", "torch.tanh")


def test_a_file_without_a_last_line_end_gets_none() -> None:
    source = FORM.rstrip("\n")
    change = Change("warmup", "", settings={"steps": 10})
    found = edited(change, run(source, [optimizer(source, "torch.optim.SGD(", "opt.step(")]))
    assert found is not None
    assert found.after.endswith("opt.step()\n        warmup.step()")
    assert "\\ No newline at end of file" in found.diff


def test_a_kind_without_an_edit_and_lines_in_two_files_give_none() -> None:
    seen = run(FORM, others={"net.py": FORM})
    assert edited(Change("pray", "", [Place(FILE, 7)]), seen) is None
    both = [Place(FILE, 7, None, "sum"), Place("net.py", 7, None, "sum")]
    assert edited(Change("clamp-op", "", both), seen) is None


def test_the_applier_of_these_tests_refuses_a_diff_that_does_not_fit() -> None:
    diff = unified(FILE, FORM, FORM.replace("lr=0.1", "lr=0.2"))
    assert applied(FORM, diff) == FORM.replace("lr=0.1", "lr=0.2")
    with pytest.raises(DiffError):
        applied(FORM.replace("lr=0.1", "lr=0.3"), diff)
    with pytest.raises(DiffError):
        applied("# one more line\n" + FORM, diff)


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the program patch")
@pytest.mark.parametrize("ends", ["", "\n"])
def test_the_program_patch_takes_the_diff(tmp_path: Path, ends: str) -> None:
    source = FORM.rstrip("\n") + ends
    found = edited(
        Change("warmup", "", settings={"steps": 10}), run(source, [optimizer(source, "torch.optim.SGD(", "opt.step(")])
    )
    assert found is not None
    (tmp_path / FILE).write_text(source, encoding="utf-8")
    subprocess.run(["patch", "-p1", "--fuzz=0"], input=found.diff, text=True, cwd=tmp_path, check=True, timeout=20)
    assert (tmp_path / FILE).read_text(encoding="utf-8") == found.after


KINDS = [
    "swap-activation", "fix-output", "rescale-init", "break-symmetry", "orthogonal-recurrence", "gated-cell", "add-norm",
    "add-skip", "remove-norm", "clamp-op", "scale-input", "scale-target", "reconnect", "lower-regularisation", "larger-batch",
    "clip-gradient", "zero-grad", "flip-sign", "drop-bad-batch", "lower-step", "warmup",
]  # fmt: skip
NAMES = [
    None,
    "sigmoid",
    "tanh",
    "relu",
    "softmax",
    "linear",
    "log",
    "div",
    "pow",
    "sqrt",
    "data",
    "normal_",
    "batch_norm",
]


@pytest.mark.parametrize("kind", KINDS)
def test_at_any_line_of_any_script_an_edit_parses_and_its_diff_applies(kind: str) -> None:
    """Whatever is asked for, at whatever line: an edit, or none, and never an error."""
    rng = random.Random(kind)
    files = sorted((ROOT / "examples").rglob("*.py")) + sorted((ROOT / "src/gradientflow/river").rglob("*.py"))[:6]
    made = 0
    for file in files:
        source = file.read_text(encoding="utf-8")
        count = source.count("\n")
        for _ in range(3):
            line, other = rng.randint(1, count), rng.randint(1, count)
            optimizers = [optimizer(source, None, None)]
            optimizers[0].file, optimizers[0].line = FILE, next(
                (i for i, text in enumerate(source.split("\n"), 1) if ".step()" in text), other
            )  # fmt: skip
            change = Change(
                kind, "", [Place(FILE, line, None, rng.choice(NAMES))], {"factor": 0.5} if rng.random() < 0.5 else {}
            )
            ops = [op(0, "linear", "linear", line, [4, 4], [Operand(value=value([4, 4]), file=FILE, line=other)])]
            params = [Param(0, "a.weight", [4, 4], "float32", True, True, 0, FILE, other, None, None, None, "Linear")]
            if rng.random() < 0.5:
                params[0].init, params[0].init_file, params[0].init_line = "normal_", FILE, other
            try:
                found = edit(change, finding(), run(source, optimizers, params, ops, batch=32))
            except NoEditError:
                continue
            made += 1
            assert applied(source, found.diff) == found.after
    assert made or kind not in ("clip-gradient", "lower-step", "zero-grad"), "no edit at all was made"
    assert line_of(FORM, "opt.step()") == 9
