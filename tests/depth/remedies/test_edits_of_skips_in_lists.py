"""Skips in lists of layers that become an `nn.Sequential(*layers)`: the edited script does what the intervention does."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch

from gradientflow.depth.remedies.planner import Planner
from gradientflow.depth.remedies.table import TABLE
from gradientflow.depth.remedies.write import edit
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Change, Finding, Place
from tests.depth.scripts import plain, watched

SCRIPT = """\
import torch
from torch import nn
torch.manual_seed(0)
w = 16
{net}
opt = torch.optim.SGD(net.parameters(), lr=0.05)
X = torch.randn(64, 8)
Y = X[:, :1]
for step in range(6):
    loss = ((net(X) - Y) ** 2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
"""
APPENDED = """\
layers = [nn.Linear(8, w), nn.Tanh()]
for _ in range(6):
    layers.append(nn.Linear(w, w))
    layers.append(nn.Tanh())
net = nn.Sequential(*layers, nn.Linear(w, 1))"""
ZIPPED = """\
sizes, layers = [8] + [w] * 6, []
for a, b in zip(sizes, sizes[1:]):
    layers += [nn.Linear(a, b), nn.Tanh()]
net = nn.Sequential(*layers, nn.Linear(w, 1))"""
CLASS = """\
class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        body, d = [], 8
        for k in range(depth):
            body.append(nn.Linear(d, w))
            body.append(nn.Tanh())
            d = w
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(w, 1)
    def forward(self, x):
        return self.head(self.body(x))
net = Net(6)"""
COMPREHENDED = "net = nn.Sequential(nn.Linear(8, w), *[m for _ in range(6) for m in (nn.Linear(w, w), nn.Tanh())], nn.Linear(w, 1))"
ONE_LINE = """\
layers = [nn.Linear(8, w), nn.Tanh()]
for _ in range(6): layers.append(nn.Linear(w, w)); layers.append(nn.Tanh())
net = nn.Sequential(*layers, nn.Linear(w, 1))"""
# name: how the network is built, what of the source is replaced by what, skips in it
BUILT = {
    "appended": (APPENDED, "    layers.append(nn.Tanh())", "    layers.append(Residual(layers.pop(), nn.Tanh()))", 6),
    "on one line": (ONE_LINE, "layers.append(nn.Tanh())\n", "layers.append(Residual(layers.pop(), nn.Tanh()))\n", 6),
    "widths by name": (ZIPPED, "[nn.Linear(a, b), nn.Tanh()]", "[Residual(nn.Linear(a, b), nn.Tanh())]", 5),
    "in a class": (CLASS, "body.append(nn.Tanh())", "body.append(Residual(body.pop(), nn.Tanh()))", 5),
    "a tuple": (COMPREHENDED, "(nn.Linear(w, w), nn.Tanh())", "(Residual(nn.Linear(w, w), nn.Tanh()),)", 6),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_layer_and_its_activation_get_a_skip(name: str, tmp_path: Path) -> None:
    net, old, new, skips = BUILT[name]
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.format(net=net), encoding="utf-8")
    with contextlib.redirect_stderr(io.StringIO()):
        outcome = watched(file).outcome
    assert outcome is not None
    made_at = next(op for op in outcome.run.probes[0].ops if op.name == "tanh")
    finding = Finding(
        "vanishing", "depth-without-skip", 0.9, Place(made_at.made_file, made_at.made_line, None, "tanh"), "", {}, []
    )
    plan = TABLE["add-skip"].plan
    assert callable(plan)
    (change,) = plan(Planner(outcome.run, outcome.verdict), finding)
    after = edit(change, finding, outcome.run).after
    start, end = (
        after.index("class Residual("),
        after.index("else out\n\n\n" if "else out" in after else "forward(x)\n\n\n"),
    )
    without = after[:start] + after[end:].split("\n\n\n", 1)[1]
    assert without == SCRIPT.format(net=net.replace(old.rstrip("\n"), new.rstrip("\n")))
    edited = tmp_path / "edited.py"
    edited.write_text(after, encoding="utf-8")
    scope = plain(edited).scope
    residual = [m for m in scope["net"].modules() if type(m).__name__ == "Residual"]
    assert sum(m[0].in_features == m[0].out_features for m in residual) == skips
    x = torch.randn(3, residual[-1][0].in_features)
    branch = residual[-1][1](residual[-1][0](x))
    assert torch.equal(residual[-1](x), x + float(change.settings.get("scale", 1.0)) * branch)
    wider = [m for m in residual if m[0].in_features != m[0].out_features]
    for m in wider:  # those go without
        x = torch.randn(3, m[0].in_features)
        assert torch.equal(m(x), m[1](m[0](x)))


@pytest.mark.parametrize(
    "net",
    [
        APPENDED.replace("layers.append(nn.Linear(w, w))\n    layers.append(nn.Tanh())", "layers.append(nn.Linear(w, w))\n    other.append(nn.Tanh())\n    layers.append(other[-1])").replace("layers = [", "other = []\nlayers = ["),
        APPENDED.replace("nn.Linear(w, w)", "nn.Linear(w, 2 * w)").replace("nn.Linear(8, w)", "nn.Linear(8, w)").replace("layers.append(nn.Tanh())", "layers.append(nn.Tanh())\n    layers.append(nn.Linear(2 * w, w))"),
    ],
    ids=["another list", "no equal width"],
)  # fmt: skip
def test_what_is_not_known_to_be_one_block_of_equal_width_is_left(net: str, tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.format(net=net), encoding="utf-8")
    with contextlib.redirect_stderr(io.StringIO()):
        outcome = watched(file).outcome
    assert outcome is not None
    made_at = next(op for op in outcome.run.probes[0].ops if op.name == "tanh")
    place = Place(made_at.made_file, made_at.made_line, None, "tanh")
    with pytest.raises(NoEditError):
        edit(Change("add-skip", "", [place], {"scale": 0.5}), Finding("", "", 1.0, place, "", {}, []), outcome.run)
