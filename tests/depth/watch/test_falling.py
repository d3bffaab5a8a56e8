"""What a step does to the loss of its own batch: right to the number where it is known, the script none the wiser, refused with the reason
where a second forward pass could do harm.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from gradientflow.depth.probe import tape
from gradientflow.depth.watch import falling
from gradientflow.records import Descent, Run
from tests.depth.causes.by_hand import flips
from tests.depth.watch.steps import seen

START = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 10)
y = x[:, :3].sum(1, keepdim=True).tanh()
{}
optimizer = {}
for k in range(6):
    optimizer.zero_grad()
    {}
    loss.backward()
    {}
    optimizer.step()
    {}
"""
SGD, ADAM = "torch.optim.SGD(model.parameters(), lr=0.05)", "torch.optim.Adam(model.parameters(), lr=0.003)"
NET = "model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))"
MSE = "loss = F.mse_loss(model(x), y)"


def script(model: str = NET, loss: str = MSE, optimizer: str = SGD, between: str = "pass", behind: str = "pass") -> str:
    def block(text: str) -> str:
        return textwrap.dedent(text).strip("\n").replace("\n", "\n    ")

    return START.format(textwrap.dedent(model), optimizer, block(loss), block(between), block(behind))


def descents(run: Run) -> list[Descent]:
    """What every probed step did; fails where one was not measured."""
    found = [p.descent for p in run.probes]
    assert found and all(isinstance(d, Descent) for d in found), found
    return found  # type: ignore[return-value]


def refusals(run: Run) -> list[str]:
    found = [p.descent for p in run.probes]
    assert found and all(isinstance(d, str) for d in found), found
    return found  # type: ignore[return-value]


def test_on_a_quadratic_all_three_are_exact(tmp_path: Path) -> None:
    """L = ½ Σ aᵢ wᵢ², a step of −η a w: ⟨∇L, Δw⟩ = η Σ (a w)², ½ ΔᵀHΔ = ½ η² Σ a³ w²."""
    text = """
    import torch
    a = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = torch.optim.SGD([w], lr=0.05)
    for k in range(5):
        optimizer.zero_grad()
        loss = 0.5 * (a * w * w).sum()
        loss.backward()
        optimizer.step()
    """
    a, w = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    for d in descents(seen(tmp_path, text)):
        step = 0.05 * a * w
        assert d.loss == pytest.approx(float(0.5 * (a * w * w).sum()), rel=1e-12)
        assert d.predicted == pytest.approx(float((a * w * step).sum()), rel=1e-12)
        assert d.curvature == pytest.approx(float(0.5 * (a * step * step).sum()), rel=1e-9)
        w = w - step
        assert d.after == pytest.approx(float(0.5 * (a * w * w).sum()), rel=1e-12)


SAME = {
    "momentum": {"optimizer": "torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)"},
    "adam": {"optimizer": ADAM},
    "dropout": {"model": "model = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.4), nn.GELU(), nn.Linear(16, 1))"},
    "batch norm": {"model": "model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))"},
    "instance norm": {
        "model": "model = nn.Sequential(nn.Unflatten(1, (2, 5)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), nn.Linear(10, 1))"
    },
    "a new batch each time": {"loss": "rows = torch.randint(64, (16,))\nloss = F.mse_loss(model(x[rows]), y[rows])"},
    "recurrent, with dropout between layers": {
        "model": "reader, last = nn.GRU(1, 8, num_layers=2, dropout=0.3, batch_first=True), nn.Linear(8, 1)\nmodel = nn.ModuleList([reader, last])",
        "loss": "loss = F.mse_loss(last(reader(x[:, :, None])[0][:, -1]), y)",
    },
    "attention": {
        "model": "attend, last = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True), nn.Linear(4, 1)\nmodel = nn.ModuleList([attend, last])",
        "loss": "h = x[:, :8].reshape(64, 2, 4)\nloss = F.mse_loss(last(attend(h, h, h)[0].mean(1)), y)",
    },
    "an encoder layer": {
        "model": "layer, last = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Linear(4, 1)\nmodel = nn.ModuleList([layer, last])",
        "loss": "loss = F.mse_loss(last(layer(x[:, :8].reshape(64, 2, 4)).mean(1)), y)",
    },
    "embedding and cross-entropy": {
        "model": "model = nn.Sequential(nn.Embedding(5, 6), nn.Flatten(), nn.Linear(12, 3))\nwords = torch.randint(5, (64, 2))\nlabels = torch.randint(3, (64,))",
        "loss": "loss = F.cross_entropy(model(words), labels)",
    },
    "written in place": {"loss": "h = model[0](x)\nh[:, 0] = 0.5\nh += 1\nh.mul_(0.9).clamp_(-2, 2)\nloss = F.mse_loss(model[2](h.tanh()), y)"},
    "cast by itself": {"loss": "with torch.autocast('cpu', dtype=torch.bfloat16):\n    out = model(x)\nloss = F.mse_loss(out.float(), y)"},
    "detached": {"loss": "out = model(x)\nloss = F.mse_loss(out, (0.5 * out + 0.5 * y).detach())"},
    "clipped": {"between": "nn.utils.clip_grad_norm_(model.parameters(), 0.1)"},
    "scaled": {"loss": "loss = 1024 * F.mse_loss(model(x), y)", "between": "for p in model.parameters():\n    p.grad /= 1024"},
    "the penalty is a part": {"loss": "loss = F.mse_loss(model(x), y) + 1e-3 * sum((p ** 2).sum() for p in model.parameters())"},
    "one weight, twice": {
        "model": "model = nn.Sequential(nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 10))\nmodel[2].weight = model[0].weight",
        "loss": "loss = F.mse_loss(model(x), x)",
    },
    "without gradients first": {"loss": "with torch.no_grad():\n    goal = model(x).mean()\nloss = F.mse_loss(model(x), y - goal)"},
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_it_is_measured_and_the_script_computes_what_it_does_unwatched(name: str, tmp_path: Path) -> None:
    """(`seen` holds every number against the unwatched run, to the bit, random numbers and statistics too.) What the first two
    orders leave is small, and half a step leaves an eighth of a third order: the three numbers belong together.
    """
    for d in descents(seen(tmp_path, script(**SAME[name]))):
        assert d.error <= 2e-6 * abs(d.loss)
        coarse = 0.1 if name == "cast by itself" else 0.0  # (whose loss moves in steps)
        left = d.predicted - d.curvature - d.fall
        assert abs(left) <= (0.15 + coarse) * (abs(d.predicted) + abs(d.curvature)) + 20 * d.error + coarse * 0.01
        if name not in ("momentum", "cast by itself"):
            assert d.predicted > 0


REFUSED = {
    "a function of the script's own": (
        "is not seen",
        {"model": NET + "\nclass Own(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, h):\n        return 2 * h\n"
         "    @staticmethod\n    def backward(ctx, g):\n        return 2 * g\n", "loss": "loss = F.mse_loss(Own.apply(model(x)), y)"},
    ),
    "hooks in the graph": ("hooks of its own", {"loss": "h = model(x)\nh.register_hook(lambda g: 0.5 * g)\nloss = F.mse_loss(h, y)"}),
    "hooks on weights": (
        "hooks of the script's own change",
        {"model": NET + "\nfor p in model.parameters():\n    p.register_hook(lambda g: 0.5 * g)"},
    ),
    "a generator of its own": ("generator", {
        "model": NET + "\nown = torch.Generator()",
        "loss": "h = model(x)\nloss = F.mse_loss(h + 0 * torch.bernoulli(h.sigmoid(), generator=own), y)",
    }),
    "a derivative in the loss": ("derivative", {
        "loss": "z = x.clone().requires_grad_()\nout = model(z)\n(slope,) = torch.autograd.grad(out.sum(), z, create_graph=True)\n"
                "loss = F.mse_loss(out, y) + 0.01 * slope.square().mean()",
    }),
    "a buffer that is written to": ("was no part of the graph", {
        "loss": "room = torch.zeros(64, 1)\nroom[:] = model(x)\nloss = F.mse_loss(room, y)",
    }),
    "data that changes behind it": ("written to since", {
        "loss": "batch = x.clone()\nloss = F.mse_loss(model(batch), y)", "between": "batch.zero_()",
    }),
    "weights that change behind it": ("run again ahead of the step", {"between": "model[0].weight.data.mul_(0.9)"}),
    "an embedding that holds its norm": ("max_norm", {
        "model": "model = nn.Sequential(nn.Embedding(5, 6, max_norm=1.0), nn.Flatten(), nn.Linear(12, 1))\nwords = torch.randint(5, (64, 2))",
        "loss": "loss = F.mse_loss(model(words), y)",
    }),
    "gradients that pile up": ("still in `.grad`", {"between": "pass", "behind": "kept = [p.grad.clone() for p in model.parameters()]",
                                                   "loss": "for p, g in zip(model.parameters(), globals().get('kept', [])):\n    p.grad = g\n" + MSE}),
    "several numbers": ("not called on one number", {
        "loss": "class Many:\n    def backward(self):\n        F.mse_loss(model(x), y, reduction='none').backward(torch.ones(64, 1))\nloss = Many()",
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_do_harm_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    why, parts = REFUSED[name]
    found = [p.descent for p in seen(tmp_path, script(**parts)).probes]
    assert any(isinstance(d, str) and why in d for d in found), found
    later = found[1:] if name == "gradients that pile up" else found
    assert not any(isinstance(d, Descent) for d in later), found


def test_two_optimizers_each_on_its_own_batch(tmp_path: Path) -> None:
    """What one left in the other's gradients is no harm."""
    text = """
    import torch
    import torch.nn.functional as F
    from torch import nn
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    maker, judge = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    first, second = torch.optim.Adam(judge.parameters(), lr=0.01), torch.optim.Adam(maker.parameters(), lr=0.01)
    for k in range(4):
        made = maker(torch.randn(64, 4))
        first.zero_grad()
        loss = F.softplus(-judge(x)).mean() + F.softplus(judge(made.detach())).mean()
        loss.backward()
        first.step()
        second.zero_grad()
        F.softplus(-judge(made)).mean().backward()
        second.step()
    """
    run = seen(tmp_path, text)
    firsts = [p.descent for p in run.probes if p.optimizer == 0]
    assert firsts and all(isinstance(d, Descent) and d.predicted > 0 for d in firsts), firsts


def test_warnings_come_as_often_as_unwatched(tmp_path: Path) -> None:
    model = (
        NET
        + """
import warnings
warnings.simplefilter("always")
count = []
warnings.showwarning = lambda *args, **kwargs: count.append(str(args[0])[:20])
"""
    )
    run = seen(tmp_path, script(model=model, loss="loss = F.mse_loss(model(x), y[:, 0])", behind="heard = len(count)"))
    descents(run)


def test_data_that_take_much_room_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 * 64 * 10 + 4 * 64  # of x and y
    monkeypatch.setattr(tape, "ROOM", size)
    descents(seen(tmp_path, script()))
    monkeypatch.setattr(tape, "ROOM", size - 1)
    (tmp_path / "other").mkdir()
    assert all("its data take more than" in why for why in refusals(seen(tmp_path / "other", script())))


def test_a_pass_of_so_many_calls_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "CALLS", 4)
    descents(seen(tmp_path, script()))  # (two layers, one activation, the loss)
    monkeypatch.setattr(tape, "CALLS", 3)
    (tmp_path / "other").mkdir()
    assert all("more than 3 calls" in why for why in refusals(seen(tmp_path / "other", script())))


def test_of_accumulated_passes_the_first_batch_is_looked_at(tmp_path: Path) -> None:
    loss = "for part in (0, 1):\n    loss = F.mse_loss(model(x[32 * part :][:32]), y[32 * part :][:32]) / 2\n    if part == 0:\n        loss.backward()"
    assert all(d.predicted > 0 for d in descents(seen(tmp_path, script(loss=loss))))


def test_a_loss_that_comes_out_otherwise_is_not_measured() -> None:
    """A second run that is off by more than rounding is no measure of anything."""

    def measured(off: float) -> bool:
        meter = falling.Falling()
        p = torch.nn.Parameter(torch.ones(2))
        meter._grads, meter._loss = {id(p): torch.ones(2)}, 1.0

        class Tape:
            why = ""

            def loss(self) -> float:
                return 1.0 + off

        meter._tape = Tape()  # type: ignore[assignment]
        return meter.before_step([p], False) is None

    flips(measured, 1.1e-5, 0.9e-5)


def test_a_network_that_is_too_large_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = 10 * 16 + 16 + 16 + 1
    monkeypatch.setattr(falling, "ENTRIES", entries)
    descents(seen(tmp_path, script()))
    monkeypatch.setattr(falling, "ENTRIES", entries - 1)
    (tmp_path / "other").mkdir()
    assert all("parameters" in why for why in refusals(seen(tmp_path / "other", script())))


def test_so_many_probes_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(falling, "LOOKS", 2)
    found = [p.descent for p in seen(tmp_path, script()).probes]
    assert [isinstance(d, Descent) for d in found] == [True, True, False, False, False, False]
