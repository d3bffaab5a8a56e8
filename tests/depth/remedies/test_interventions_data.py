"""Remedies where data enters, at singular operations, at the output and in the wiring, in numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tests.depth.remedies.live import change, lines_of, live

# an expression in x (a leaf that requires grad, with the singular point among its entries), and the operation's name
SINGULAR = {
    "torch.sqrt(x * x)": "sqrt",
    "(x * x).sqrt()": "sqrt",
    "(x * x + 0).sqrt_()": "sqrt",
    "(x * x) ** 0.5": "pow",
    "torch.pow(x * x, 0.25)": "pow",
    "x ** -1": "pow",
    "(x * x).rsqrt()": "rsqrt",
    "torch.log(x * x)": "log",
    "torch.log2(x * x)": "log2",
    "torch.log10(x * x)": "log10",
    "torch.log1p(x - 1)": "log1p",
    "1 / x": "reciprocal",
    "torch.reciprocal(x)": "reciprocal",
    "torch.ones(3) / x": "div",
    "torch.div(torch.ones(3), x)": "div",
    "x * 0 / x": "div",
    "torch.acos(x + 1)": "acos",
    "torch.asin(x - 1)": "asin",
    "torch.atanh(x + 1)": "atanh",
    "torch.logit(x.clamp(0, 1))": "logit",
    "torch.exp(1e4 * x)": "exp",
    "2.0 ** (1e4 * x)": "exp",
    "torch.where(x > 0, torch.sqrt(x), x)": "sqrt",
    "torch.where(x > 0, torch.log(x), x)": "log",
}


@pytest.mark.parametrize("form", list(SINGULAR))
def test_a_clamped_operation_and_its_slope_are_finite(form: str) -> None:
    data = "[0.0, 0.3, -0.2]" if "acos" not in form and "atanh" not in form else "[0.0, -0.3, -0.2]"
    data = "[0.0, 0.3, 0.9]" if "log1p" in form or "asin" in form or "logit" in form else data
    text = f"x = torch.tensor({data}, requires_grad=True)\nout = {form}\nout.sum().backward()\n"
    usual = live(text, [])[0]
    assert not (torch.isfinite(usual["out"]).all() and torch.isfinite(usual["x"].grad).all())  # it is singular here
    scope, (clamp,) = live(text, [change("clamp-op", (2, SINGULAR[form]), eps=1e-6)])
    assert clamp.problem is None
    assert torch.isfinite(scope["out"]).all()
    assert torch.isfinite(scope["x"].grad).all()
    assert clamp.acted == 1
    if "exp" not in SINGULAR[form]:  # away from the point it is what it was
        same = torch.isfinite(usual["out"][1:])
        assert torch.allclose(scope["out"][1:][same], usual["out"][1:][same], rtol=1e-4, atol=1e-6)
    elsewhere, (idle,) = live(text, [change("clamp-op", (3, SINGULAR[form]), eps=1e-6)])
    assert idle.acted == 0
    assert torch.equal(elsewhere["out"].nan_to_num(7.0), usual["out"].nan_to_num(7.0))


def test_in_place_division_is_kept_from_zero() -> None:
    text = """
    x = torch.tensor([0.0, 2.0], requires_grad=True)
    out = torch.ones(2)
    out /= x  # mark: here
    """
    scope, (clamp,) = live(text, [change("clamp-op", (4, "div"), eps=1e-3)])
    assert scope["out"].tolist() == pytest.approx([1e3, 0.5])
    assert clamp.acted == 1


def test_a_softmax_by_hand_keeps_its_value() -> None:
    text = """
    scores = torch.tensor([[900.0, 899.0], [1.0, 0.0]], requires_grad=True)
    e = torch.exp(scores)  # mark: here
    p = e / e.sum(1, keepdim=True)
    """
    scope, _ = live(text, [change("clamp-op", (3, "exp"), shift=True, dim=1)])
    assert torch.allclose(scope["p"], torch.softmax(scope["scores"], 1))
    assert live(text, [])[0]["p"].isnan().any()


def test_normalize_gets_a_larger_eps() -> None:
    text = "x = torch.full((1, 3), 1e-9, requires_grad=True)\nF.normalize(x).sum().backward()\n"
    scope, (clamp,) = live(text, [change("clamp-op", (2, "normalize"), eps=1e-3)])
    assert scope["x"].grad.abs().max().item() <= 1.1e3
    assert live(text, [])[0]["x"].grad.abs().max().item() >= 0.0
    assert clamp.acted == 1


ENTRY = """
torch.manual_seed(0)
data = torch.randn(256, 5) * torch.tensor([1e4, 1.0, 1e-3, 30.0, 0.0]) + torch.tensor([5e5, 0.0, 2.0, -7.0, 1.0])
first, second = nn.Linear(5, 8), nn.Linear(8, 1)
seen = []
first.register_forward_hook(lambda m, a, out: seen.append(out))
for i in range(4):
    out = second(torch.tanh(first(data[64 * i : 64 * i + 64])))  # mark: here
    out.sum().backward()
with torch.no_grad():
    second(torch.tanh(first(data)))
"""


def test_inputs_are_standardised_by_the_first_batch_also_in_evaluation() -> None:
    at = lines_of(ENTRY)["here"]
    scope, (scale,) = live(ENTRY, [change("scale-input", (at, "linear"))])
    data, first = scope["data"].double(), scope["first"].double()
    mean, std = data[:64].mean(0), data[:64].std(0, correction=0)
    mean[4], std[4] = 0.0, 1.0  # a column of ones is left as it is
    with torch.no_grad():
        wanted = F.linear((data - mean) / std, first.weight, first.bias)
    assert torch.allclose(torch.cat(scope["seen"][:4]).double(), wanted, atol=1e-3)
    assert torch.allclose(scope["seen"][4].double(), wanted, atol=1e-3)
    assert scale.acted == 5  # four batches and the evaluation; the second layer is no entry
    usual, (idle,) = live(ENTRY, [change("scale-input", (at - 1, "linear"))])
    assert usual["seen"][0].abs().max().item() > 1e4
    assert idle.acted == 0


def test_inputs_are_standardised_by_given_numbers() -> None:
    text = """
    x = torch.tensor([[12.0, 100.0], [8.0, 300.0]])
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
    seen = layer(x)  # mark: here
    """
    scope, _ = live(text, [change("scale-input", (6, "linear"), mean=[10.0, 200.0], std=[2.0, 50.0])])
    assert scope["seen"].tolist() == [[1.0, -2.0], [-1.0, 2.0]]
    scope, _ = live(text, [change("scale-input", (6, "linear"), mean=10.0, std=2.0)])
    assert scope["seen"].tolist() == [[1.0, 45.0], [-1.0, 145.0]]


def test_single_rows_are_standardised_as_they_come() -> None:
    text = """
    torch.manual_seed(0)
    data = torch.randn(400, 3) * torch.tensor([100.0, 3.0, 1000.0]) + torch.tensor([2000.0, 0.0, -500.0])
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
    seen = torch.cat([layer(row[None]) for row in data])  # mark: here
    """
    scope, _ = live(text, [change("scale-input", (7, "linear"))])
    assert scope["seen"].abs().max().item() < 12.0  # never wild, also at the first rows
    assert torch.allclose(scope["seen"][100:].std(0), torch.ones(3), atol=0.35)
    assert scope["seen"][100:].mean(0).abs().max().item() < 0.4


def test_other_ways_in_are_standardised_too() -> None:
    text = """
    torch.manual_seed(0)
    image = 255 * torch.rand(16, 3, 8, 8)
    series = 90 + 5 * torch.randn(16, 7, 4)
    conv, rnn, w = nn.Conv2d(3, 4, 3), nn.GRU(4, 6, batch_first=True), torch.randn(4, 2, requires_grad=True)
    slope, line = torch.zeros(1, requires_grad=True), torch.arange(100.0)
    kept = []
    conv(image)  # mark: image
    rnn(series)  # mark: series
    out = series[:, 0] @ w  # mark: product
    (slope * line).sum().backward()  # mark: line
    """
    at = lines_of(text)
    changes = [
        change(
            "scale-input",
            (at["image"], "conv2d"),
            (at["series"], "gru"),
            (at["product"], "matmul"),
            (at["line"], "mul"),
        )
    ]
    scope, (scale,) = live(text, changes)
    assert scale.problem is None
    assert scale.acted == 4
    rows = scope["series"][:, 0]
    wanted = (rows - rows.mean(0)) / rows.std(0, correction=0) @ scope["w"]
    assert torch.allclose(scope["out"], wanted, atol=1e-3)
    assert scope["slope"].grad.abs().item() < 1e-3  # the sum of a centred line


def test_the_first_state_of_a_recurrence_is_no_data() -> None:
    text = """
    torch.manual_seed(0)
    own, entry = nn.Linear(4, 4), nn.Linear(4, 4)
    x = 40 + torch.randn(16, 6, 4)
    def last():
        h = torch.zeros(16, 4)
        for t in range(6):
            h = torch.tanh(own(h) + entry(x[:, t]))  # mark: here
        return h
    trained = last().detach()
    with torch.no_grad():
        judged = last()
    """
    scope, (scale,) = live(text, [change("scale-input", (lines_of(text)["here"], "linear"))])
    assert torch.equal(scope["trained"], scope["judged"])
    assert scope["judged"].abs().max().item() < 0.999  # no longer at the end of its range
    assert live(text, [])[0]["judged"].abs().max().item() > 0.999
    assert scale.acted == 12


def test_absurd_and_missing_entries_become_the_median() -> None:
    text = """
    torch.manual_seed(0)
    data = torch.randn(128, 3)
    data[100, 1], data[101, 2] = -9999.0, float("nan")
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
    seen = torch.cat([layer(data[:64]), layer(data[64:])])  # mark: here
    """
    scope, (drop,) = live(text, [change("drop-bad-batch", (8, "linear"))])
    medians = scope["data"][:64].median(0).values
    assert scope["seen"][100, 1].item() == pytest.approx(medians[1].item())
    assert scope["seen"][101, 2].item() == pytest.approx(medians[2].item())
    untouched = torch.ones(128, 3, dtype=torch.bool)
    untouched[100, 1] = untouched[101, 2] = False
    assert torch.allclose(scope["seen"][untouched], scope["data"][untouched])
    assert drop.acted == 1


LOSSES = {
    "(p - y).pow(2).mean()": ("sub", 2.0),
    "((y - p) ** 2).mean()": ("sub", 2.0),
    "F.mse_loss(p, y)": ("mse_loss", 2.0),
    "nn.MSELoss()(p, y)": ("mse_loss", 2.0),
    "F.l1_loss(p, y)": ("l1_loss", 1.0),
    "(p - y).abs().mean()": ("sub", 1.0),
    "F.smooth_l1_loss(p, y, beta=50.0)": ("smooth_l1_loss", 1.0),
    "F.huber_loss(p, y, delta=50.0)": ("huber_loss", 2.0),
}


@pytest.mark.parametrize("form", list(LOSSES))
def test_targets_are_standardised_and_the_loss_leads_back(form: str) -> None:
    op, power = LOSSES[form]
    text = f"y = 1000.0 + 300.0 * torch.randn(64, 1)\np = torch.randn(64, 1, requires_grad=True)\nloss = {form}\n"
    scope, (scale,) = live(text, [change("scale-target", (3, op), power=power)])
    y, p = scope["y"], scope["p"]
    inside = eval(form, {"F": F, "torch": torch, "nn": torch.nn, "y": y, "p": p * y.std(correction=0) + y.mean()})
    assert scope["loss"].item() * scale.loss_factor == pytest.approx(inside.item(), rel=1e-3)
    assert scale.loss_factor == pytest.approx(y.std(correction=0).item() ** power, rel=1e-4)
    assert scale.acted == 1
    other, (idle,) = live(text, [change("scale-target", (2, op), power=power)])
    assert idle.loss_factor == 1.0
    assert other["loss"].item() > 10 * scope["loss"].item()


def test_a_last_batch_of_one_is_scaled_as_the_others() -> None:
    text = """
    y = torch.tensor([900.0, 1100.0, 1300.0])
    losses = []
    for part in (y[:2], y[2:]):
        p = torch.zeros(part.shape, requires_grad=True)
        losses.append(F.mse_loss(p, part).item())
    """
    scope, (scale,) = live(text, [change("scale-target", (6, "mse_loss"))])
    assert scope["losses"] == pytest.approx([1.0, 9.0])  # mean 1000, spread 100
    assert scale.acted == 2


def test_an_output_is_fitted_to_its_loss() -> None:
    text = """
    s = torch.tensor([[2.0], [-30.0]], requires_grad=True)
    p = torch.sigmoid(s)  # mark: here
    loss = F.binary_cross_entropy(p, torch.tensor([[1.0], [1.0]]))
    loss.backward()
    """
    scope, (fix,) = live(text, [change("fix-output", (3, "sigmoid"), to="identity")])
    wanted = F.binary_cross_entropy_with_logits(scope["s"].detach(), torch.ones(2, 1))
    assert scope["loss"].item() == pytest.approx(wanted.item())
    assert scope["s"].grad[1].item() == pytest.approx(-0.5)
    assert fix.acted == 1
    single = "s = torch.randn(4, 1, requires_grad=True)\np = torch.softmax(s, 1)\n"
    assert torch.equal(live(single, [])[0]["p"], torch.ones(4, 1))
    scope, _ = live(single, [change("fix-output", (2, "softmax"), to="sigmoid")])
    assert torch.equal(scope["p"], torch.sigmoid(scope["s"]))


def test_the_sign_is_flipped_for_every_kind_of_backward_call() -> None:
    text = """
    w = nn.Parameter(torch.ones(2))
    (3 * w).sum().backward()
    torch.autograd.backward([(5 * w).sum()])
    (g,) = torch.autograd.grad((7 * w).sum(), [w])
    """
    scope, (flip,) = live(text, [change("flip-sign")])
    assert scope["w"].grad.tolist() == [-8.0, -8.0]
    assert scope["g"].tolist() == [-7.0, -7.0]
    assert (flip.acted, flip.loss_factor) == (3, -1.0)
    assert live(text, [])[0]["w"].grad.tolist() == [8.0, 8.0]


def test_the_gradient_is_flipped_for_every_kind_of_backward_call_and_the_loss_stays() -> None:
    text = """
    w = nn.Parameter(torch.ones(2))
    loss = (3 * w).sum()
    loss.backward()
    torch.autograd.backward([(5 * w).sum()])
    (2 * w).backward(torch.tensor([1.0, 10.0]))
    (g,) = torch.autograd.grad((7 * w).sum(), [w])
    (h,) = torch.autograd.grad([w * w], w, grad_outputs=[torch.tensor([1.0, 3.0])])
    """
    scope, (flip,) = live(text, [change("flip-sign", gradient=True)])
    assert scope["w"].grad.tolist() == [-10.0, -28.0]
    assert scope["g"].tolist() == [-7.0, -7.0] and scope["h"].tolist() == [-2.0, -6.0]
    assert scope["loss"].item() == 6.0
    assert (flip.acted, flip.loss_factor, flip.problem) == (5, 1.0, None)
    assert live(text, [])[0]["w"].grad.tolist() == [10.0, 28.0]


ORPHANS = """
body = [nn.Linear(3, 3), nn.Linear(3, 3)]
head, spare = nn.Linear(3, 1), nn.Linear(3, 1)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
kept = [body[0].weight.detach().clone(), spare.weight.detach().clone()]
for step in range(3):
    h = torch.ones(4, 3)
    for layer in body:
        h = layer(h)
    optimizer.zero_grad()
    head(h).sum().backward()
    optimizer.step()
    scheduler.step()
moved = [not torch.equal(m.weight, k) for m, k in zip([body[0], spare], kept)]
"""


def test_parameters_without_an_optimizer_are_trained() -> None:
    scope, (adopt,) = live(ORPHANS, [change("reconnect")])
    assert scope["moved"] == [True, False]  # what gets no gradient stays
    assert adopt.acted == 4
    assert adopt.problem is None
    assert live(ORPHANS, [])[0]["moved"] == [False, False]


def test_another_optimizers_parameters_are_left_to_it() -> None:
    text = ORPHANS.replace(
        "scheduler =", "other = torch.optim.SGD([p for m in body for p in m.parameters()], lr=0.0)\nscheduler ="
    )
    scope, (adopt,) = live(text, [change("reconnect")])
    assert scope["moved"] == [False, False]
    assert adopt.acted == 0


def test_a_detach_is_left_out_and_what_is_frozen_is_trained() -> None:
    text = """
    make, judge = nn.Linear(2, 2), nn.Linear(2, 1)
    first, second = torch.optim.SGD(make.parameters(), lr=0.1), torch.optim.SGD(judge.parameters(), lr=0.1)
    kept = make.weight.detach().clone()
    for step in range(3):
        fake = make(torch.ones(4, 2)).detach()  # mark: cut
        second.zero_grad()
        judge(fake).sum().backward()
        second.step()
        first.zero_grad()
        judge(fake).pow(2).sum().backward()
        first.step()
    moved = not torch.equal(make.weight, kept)
    """
    cut = lines_of(text)["cut"]
    scope, (reconnect,) = live(text, [change("reconnect", (cut, "detach"))])
    assert scope["moved"]
    assert reconnect.acted == 3
    assert not live(text, [change("reconnect", (cut + 1, "detach"))])[0]["moved"]
    frozen = """
    layer, head = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    kept = layer.weight.clone(), head.weight.detach().clone()
    for step in range(3):
        head(layer(torch.ones(4, 2))).sum().backward()
        optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip((layer.weight, head.weight), kept)]
    """
    assert live(frozen, [])[0]["moved"] == [False, False]
    assert live(frozen, [change("reconnect", unfreeze=True)])[0]["moved"] == [True, True]


def test_a_block_without_gradients_keeps_them() -> None:
    text = """
    layer = nn.Linear(2, 2)
    with torch.no_grad():  # mark: cut
        h = layer(torch.ones(1, 2))
    on = torch.is_grad_enabled()
    """
    scope, (one,) = live(text, [change("reconnect", (3, "set_grad_enabled"))])
    assert scope["h"].requires_grad and scope["on"]
    assert one.acted == 1
    assert not live(text, [])[0]["h"].requires_grad
    assert math.isfinite(scope["h"].sum().item())
