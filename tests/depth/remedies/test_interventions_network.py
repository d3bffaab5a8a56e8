"""Remedies in the network, in numbers: activations, weights, skips, normalisations, recurrences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tests.depth.remedies.live import change, lines_of, live

FORMS = {
    "torch.sigmoid(x)": "torch.relu",
    "F.sigmoid(x)": "torch.relu",
    "x.sigmoid()": "torch.relu",
    "nn.Sigmoid()(x)": "torch.relu",
    "(x * 1.0).sigmoid_()": "torch.relu",
}


@pytest.mark.parametrize("form", list(FORMS))
def test_an_activation_is_swapped_however_it_is_written(form: str) -> None:
    text = f"x = torch.linspace(-2, 2, 9, requires_grad=True)\nout = {form}\nout.sum().backward()\n"
    scope, (swap,) = live(text, [change("swap-activation", (2, "sigmoid"), to="relu")])
    x = scope["x"].detach()
    assert torch.equal(scope["out"].detach(), torch.relu(x))
    assert torch.equal(scope["x"].grad, (x > 0).float())
    assert swap.acted == 1
    elsewhere, (idle,) = live(text, [change("swap-activation", (3, "sigmoid"), to="relu")])
    assert torch.equal(elsewhere["out"].detach(), torch.sigmoid(x))
    assert idle.acted == 0


def test_an_in_place_activation_as_a_statement_is_swapped() -> None:
    text = """
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    h = x * 1.0
    h.relu_()  # mark: here
    h.sum().backward()
    """
    scope, (swap,) = live(text, [change("swap-activation", (4, "relu"), to="leaky_relu")])
    assert torch.allclose(scope["h"].detach(), F.leaky_relu(scope["x"].detach()))
    assert scope["x"].grad.min().item() == pytest.approx(0.01)
    assert swap.acted == 1


LAYERS = {
    "nn.Linear": ("layer = nn.Linear(64, 128); w = layer.weight", "layer(x)", "linear", 64),
    "F.linear": ("w = nn.Parameter(torch.randn(128, 64) * 7)", "F.linear(x, w)", "linear", 64),
    "x @ w": ("w = (torch.randn(64, 128) * 7).requires_grad_()", "x @ w", "matmul", 64),
    "x.mm(w)": ("w = (torch.randn(64, 128) * 7).requires_grad_()", "x.mm(w)", "mm", 64),
    "x @ w.t()": ("w = nn.Parameter(torch.randn(128, 64) * 7)", "x @ w.t()", "matmul", 64),
    "w @ x.T": ("w = nn.Parameter(torch.randn(128, 64) * 7)", "w @ x.T", "matmul", 64),
    "addmm": ("w = nn.Parameter(torch.randn(64, 128) * 7); b = nn.Parameter(torch.ones(128))", "torch.addmm(b, x, w)", "addmm", 64),
    "conv": ("layer = nn.Conv2d(4, 32, 4); w = layer.weight", "layer(x.view(20, 4, 4, 4))", "conv2d", 64),
}  # fmt: skip


@pytest.mark.parametrize("form", list(LAYERS))
def test_weights_are_rescaled_at_their_first_use_and_keep_their_pattern(form: str) -> None:
    make, use, op, inputs = LAYERS[form]
    text = f"""
    x = torch.randn(20, 64)
    {make}
    kept = w.detach().clone()
    optimizer = torch.optim.SGD([w], lr=0.0)
    with torch.no_grad():
        {use}
    early = w.detach().clone()
    for step in range(3):
        ({use}).sum().backward()  # mark: here
        optimizer.step()
    """
    scope, (rescale,) = live(text, [change("rescale-init", (10, op), gain=math.sqrt(2))])
    w = scope["w"].detach()
    assert torch.equal(scope["early"], scope["kept"])  # not by a look without gradients
    assert w.square().mean().sqrt().item() == pytest.approx(math.sqrt(2 / inputs), rel=1e-4)
    assert torch.allclose(w / w.norm(), scope["kept"] / scope["kept"].norm(), atol=1e-6)
    assert rescale.acted == 1
    other, (idle,) = live(text, [change("rescale-init", (9, op), gain=math.sqrt(2))])
    assert torch.equal(other["w"].detach(), other["kept"])
    assert idle.acted == 0


def test_biases_and_shifts_are_reset() -> None:
    text = """
    layer, norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
    nn.init.constant_(norm.bias, -8.0)
    nn.init.constant_(layer.bias, 3.0)
    x = torch.randn(32, 8)
    h = layer(x)  # mark: layer
    h = norm(h)  # mark: norm
    dead = (torch.relu(h) == 0).float().mean().item()
    """
    at = lines_of(text)
    scope, _ = live(
        text, [change("rescale-init", (at["layer"], "linear"), (at["norm"], "batch_norm"), gain=1.0, bias=0.0)]
    )
    assert scope["dead"] == pytest.approx(0.5, abs=0.1)
    assert scope["norm"].bias.abs().max().item() == 0.0
    assert scope["layer"].bias.abs().max().item() == 0.0
    assert live(text, [])[0]["dead"] > 0.99


@pytest.mark.parametrize("start", ["zeros_(w)", "constant_(w, 0.3)"])
def test_weights_without_a_pattern_are_drawn(start: str) -> None:
    text = f"""
    w = nn.Parameter(torch.empty(128, 64))
    nn.init.{start}
    F.linear(torch.ones(1, 64), w).sum().backward()  # mark: here
    """
    for kind in ("break-symmetry", "rescale-init"):
        scope, (one,) = live(text, [change(kind, (4, "linear"), gain=1.0)])
        w = scope["w"].detach()
        assert w.std().item() == pytest.approx(1 / 8, rel=0.05)
        assert w[0].ne(w[1]).all()
        assert one.acted == 1


DEEP = """
torch.manual_seed(3)
layers = [nn.Linear(32, 32) for _ in range(20)]
ends = [nn.Linear(8, 32), nn.Linear(32, 1)]
seen = []
h = torch.relu(ends[0](torch.randn(64, 8)))
first = h
first.retain_grad()
for layer in layers:
    h = layer(h)  # mark: layer
    seen.append(h)
    h = torch.relu(h)  # mark: relu
h.retain_grad()
ends[1](h).sum().backward()
lost = (first.grad.norm() / h.grad.norm()).log10().item()
"""


def test_a_skip_carries_the_gradient_past_the_blocks() -> None:
    at = lines_of(DEEP)
    usual = live(DEEP, [])[0]["lost"]
    skips, (skip,) = live(DEEP, [change("add-skip", (at["relu"], "relu"), scale=0.25)])
    assert usual < -5.0  # 20 layers, 0.408 each
    assert abs(skips["lost"]) < 1.0
    assert skip.acted == 20
    none, (idle,) = live(DEEP, [change("add-skip", (at["layer"], "relu"), scale=0.25)])
    assert none["lost"] == usual
    assert idle.acted == 0


def test_a_skip_adds_what_entered_the_block_and_only_where_it_fits() -> None:
    text = """
    torch.manual_seed(3)
    a, norm, b = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)
    x = torch.randn(5, 4, requires_grad=True)
    h = torch.tanh(norm(a(x)))  # mark: here
    o = torch.tanh(b(x))  # mark: narrower
    """
    at = lines_of(text)
    scope, (skip,) = live(text, [change("add-skip", (at["here"], "tanh"), (at["narrower"], "tanh"))])
    with torch.no_grad():
        x = scope["x"]
        assert torch.allclose(scope["h"], x + torch.tanh(scope["norm"](scope["a"](x))))
        assert torch.equal(scope["o"], torch.tanh(scope["b"](x)))
    assert skip.acted == 1


def test_a_bias_by_hand_belongs_to_the_block() -> None:
    text = """
    w, b = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))
    x = torch.randn(5, 4, requires_grad=True)
    h = torch.tanh(x @ w + b)
    twice = x * 2
    o = torch.tanh(twice @ w + twice)
    """
    scope, (skip,) = live(text, [change("add-skip", (4, "tanh"), (6, "tanh"), scale=0.5)])
    with torch.no_grad():
        x, w = scope["x"], scope["w"]
        assert torch.allclose(scope["h"], x + 0.5 * torch.tanh(x @ w + scope["b"]))
        assert torch.allclose(scope["o"], torch.tanh(2 * x @ w + 2 * x))  # a sum of two results: not one block
    assert skip.acted == 1


def test_a_norm_in_front_of_each_activation_keeps_the_signal() -> None:
    at = lines_of(DEEP)
    scope, (norm,) = live(DEEP, [change("add-norm", (at["relu"], "relu"))])
    assert abs(scope["lost"]) < 1.5
    assert norm.acted == 20
    behind, (layer,) = live(DEEP, [change("add-norm", (at["layer"], "linear"))])
    assert torch.allclose(behind["seen"][5].mean(1), torch.zeros(64), atol=1e-4)
    assert torch.allclose(behind["seen"][5].std(1, correction=0), torch.ones(64), atol=1e-3)
    assert layer.acted == 20
    assert live(DEEP, [])[0]["seen"][5].std(1).max().item() < 0.3


def test_images_are_normalised_whole() -> None:
    text = """
    conv = nn.Conv2d(3, 6, 3)
    h = conv(50 * torch.randn(4, 3, 9, 9))
    out = F.leaky_relu(h, 1.0)  # mark: here
    """
    scope, _ = live(text, [change("add-norm", (4, "leaky_relu"))])
    assert torch.allclose(scope["out"].flatten(1).std(1), torch.ones(4), atol=0.01)
    assert scope["out"][0].std((1, 2)).std().item() > 0.01  # channels keep their own sizes


def test_queries_and_keys_get_a_length() -> None:
    text = """
    torch.manual_seed(0)
    q, k = 30 * torch.randn(2, 5, 64, requires_grad=True), 30 * torch.randn(2, 7, 64, requires_grad=True)
    scores = q @ k.transpose(1, 2)  # mark: here
    """
    scope, (norm,) = live(text, [change("add-norm", (4, "matmul"), length=3.0)])
    wanted = 9.0 * F.cosine_similarity(scope["q"][:, :, None], scope["k"][:, None], dim=-1)
    assert torch.allclose(scope["scores"], wanted, atol=1e-5)
    assert norm.acted == 1


def test_a_batch_norm_is_left_out() -> None:
    text = "norm = nn.BatchNorm1d(3)\nx = torch.randn(8, 3) * 5\nout = norm(x)\nlast = norm(x)\n"
    scope, (without,) = live(text, [change("remove-norm", (3, "batch_norm"))])
    assert torch.equal(scope["out"], scope["x"])
    assert not torch.equal(scope["last"], scope["x"])
    assert without.acted == 1


RECURRENT = """
torch.manual_seed(0)
cell = nn.Linear(24, 24, bias=False)
with torch.no_grad():
    cell.weight *= 2.5
h = torch.randn(4, 24, requires_grad=True)
start = h
for t in range(100):
    h = cell(h)  # mark: here
(h * torch.ones_like(h) / h.detach().norm()).sum().backward()
"""


def test_a_recurrent_weight_becomes_orthogonal() -> None:
    scope, (made,) = live(
        RECURRENT, [change("orthogonal-recurrence", (lines_of(RECURRENT)["here"], "linear"), gain=0.9)]
    )
    values = torch.linalg.svdvals(scope["cell"].weight.detach())
    assert torch.allclose(values, torch.full((24,), 0.9), atol=1e-5)
    assert (scope["h"].norm() / scope["start"].norm()).item() == pytest.approx(0.9**100, rel=1e-3)
    assert made.acted == 1
    usual = torch.linalg.svdvals(live(RECURRENT, [])[0]["cell"].weight.detach())
    assert usual.max().item() > 1.5 and usual.min().item() < 0.5


def test_only_the_recurrent_weight_of_a_line_becomes_orthogonal() -> None:
    text = """
    own, entry = nn.Linear(6, 6, bias=False), nn.Linear(3, 6)
    h = torch.zeros(2, 6)
    for t in range(5):
        h = own(h) + entry(torch.ones(2, 3))  # mark: here
    """
    scope, (made,) = live(text, [change("orthogonal-recurrence", (5, "linear"), shape=[6.0, 6.0])])
    assert torch.allclose(torch.linalg.svdvals(scope["own"].weight.detach()), torch.ones(6), atol=1e-5)
    assert not torch.allclose(torch.linalg.svdvals(scope["entry"].weight.detach()), torch.ones(3), atol=1e-2)
    assert made.acted == 1


@pytest.mark.parametrize(("module", "op", "gates"), [("RNN", "rnn_tanh", 1), ("LSTM", "lstm", 4), ("GRU", "gru", 3)])
def test_ready_made_recurrent_layers_become_orthogonal(module: str, op: str, gates: int) -> None:
    text = f"net = nn.{module}(8, 8, num_layers=2)\nout, _ = net(torch.randn(5, 3, 8))\nout.sum().backward()\n"
    scope, (made,) = live(text, [change("orthogonal-recurrence", (2, op))])
    for layer in range(2):
        for block in getattr(scope["net"], f"weight_hh_l{layer}").detach().split(8):
            assert torch.allclose(block @ block.T, torch.eye(8), atol=1e-5)
        inputs = getattr(scope["net"], f"weight_ih_l{layer}").detach()[:8]
        assert not torch.allclose(inputs @ inputs.T, torch.eye(8), atol=0.1)
    assert made.acted == 2


def test_a_singular_recurrent_weight_is_drawn_first() -> None:
    text = "w = nn.Parameter(torch.zeros(6, 6))\nout = torch.ones(1, 6) @ w\n"
    scope, _ = live(text, [change("orthogonal-recurrence", (2, "matmul"))])
    assert torch.allclose(scope["w"] @ scope["w"].T, torch.eye(6), atol=1e-5)


@pytest.mark.parametrize(("cell", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_gates_that_keep_the_state_are_opened_and_no_others(cell: str, gates: int) -> None:
    text = f"""
torch.manual_seed(0)
net = torch.nn.{cell}(2, 3)
start = [p.detach().clone() for p in net.parameters()]
net(torch.randn(5, 1, 2))[0].sum().backward()
"""
    line = next(k for k, one in enumerate(text.split("\n"), 1) if f"nn.{cell}" in one)
    scope, (made,) = live(text, [change("open-gates", (line + 2, cell.lower()), bias=4.0)])
    assert made.acted == 2
    for p, before in zip(scope["net"].parameters(), scope["start"], strict=True):
        if p.dim() == 1:
            assert p[3:6].tolist() == [2.0] * 3
            kept = torch.ones(p.numel(), dtype=torch.bool)
            kept[3:6] = False
            assert torch.equal(p[kept], before[kept])
        else:
            assert torch.equal(p, before)
    scope, (made,) = live(text, [change("open-gates", (1, cell.lower()))])
    assert made.acted == 0
