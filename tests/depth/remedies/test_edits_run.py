"""Edits made from the record of a real run: the edited script runs, and does what the remedy says it should do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gradientflow.depth.causes import places
from gradientflow.depth.remedies.write import edit
from gradientflow.records import Change, Finding, Place, Run
from tests.depth.scripts import plain, watched, write

HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(1)
x = torch.randn(128, 8)
y = (x[:, :1] * x[:, 1:2] > 0).float()
"""

LOOP = """
for step in range(60):
    loss = F.binary_cross_entropy_with_logits(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
final = F.binary_cross_entropy_with_logits(net(x), y).item()
"""

DEEP = """
class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 24)
        self.layers = nn.ModuleList([nn.Linear(24, 24) for _ in range(12)])
        self.last = nn.Linear(24, 1)

    def forward(self, x):
        x = torch.{act}(self.first(x))
        for layer in self.layers:
            x = torch.{act}(layer(x))
        return self.last(x)


net = Deep()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
"""

SMALL = """
net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
for m in net:
    if isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=1e-4)
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
"""

FAST = """
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.SGD(net.parameters(), lr=300.0)
"""

KEEPING = """
net = nn.Linear(8, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
final = 0.0
for step in range(60):
    loss = (net(x) - x.sum(1, keepdim=True)).pow(2).mean()
    loss.backward()
    opt.step()
    final += loss.item() / 20 if step >= 40 else 0.0
"""
ROOT = """
net = nn.Linear(8, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
nn.init.zeros_(net.weight)
nn.init.zeros_(net.bias)
for step in range(40):
    loss = torch.sqrt((net(x) ** 2).sum(1)).mean() + (net(x) - 1).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
final = loss.item()
"""

CASES: dict[str, tuple[str, str, dict[str, float | str], str]] = {
    # name: script, kind of the remedy, settings, operation or optimizer that it acts on
    "another activation": (HEAD + DEEP.format(act="sigmoid") + LOOP, "swap-activation", {"to": "relu"}, "sigmoid"),
    "a normalisation": (HEAD + DEEP.format(act="relu").replace("Adam", "SGD").replace("3e-3", "0.1") + LOOP, "add-norm", {}, "relu"),
    "a skip": (HEAD + DEEP.format(act="tanh") + LOOP, "add-skip", {"scale": 0.5}, "tanh"),
    "first weights": (HEAD + SMALL + LOOP, "rescale-init", {"gain": 5 / 3}, "linear"),
    "a smaller step": (HEAD + FAST + LOOP, "lower-step", {"factor": 1e-3}, ""),
    "gradients cleared": (HEAD + KEEPING, "zero-grad", {}, ""),
    "a root kept from zero": (HEAD + ROOT, "clamp-op", {"eps": 1e-8}, "sqrt"),
    "inputs standardised": (HEAD.replace("randn(128, 8)", "randn(128, 8) * 3e4") + FAST.replace("300.0", "0.3") + LOOP, "scale-input", {}, "linear"),
}  # fmt: skip


def change_for(seen: Run, kind: str, settings: dict[str, float | str], name: str) -> Change:
    """A change at the lines of an operation, as far as the record shows them."""
    ops = [op for probe in seen.probes for op in probe.ops if op.name == name] if name else []
    lines = list(
        dict.fromkeys(Place(at.file, at.line, None, name) for op in ops for at in [places.of_op(op, seen.meta)])
    )
    return Change(kind, "", lines, dict(settings))


def before_and_after(
    folder: Path, text: str, kind: str, settings: dict[str, float | str], operation: str
) -> list[float]:
    """What a script and its edited form end with."""
    script = write(folder, text)
    outcome = watched(script, probe_every=50).outcome
    assert outcome is not None
    made = edit(change_for(outcome.run, kind, settings, operation), Finding("", "", 1.0, None, "", {}, []), outcome.run)
    assert made.before == script.read_text(encoding="utf-8")
    return [float(plain(file).scope["final"]) for file in (script, write(folder, made.after, "edited.py"))]


@pytest.mark.parametrize("name", CASES)
def test_the_edited_script_does_better_than_the_script(name: str, tmp_path: Path) -> None:
    before, after = before_and_after(tmp_path, *CASES[name])
    assert math.isfinite(after)
    assert not math.isfinite(before) or after < 0.9 * before, (before, after)


def test_an_edit_that_changes_too_little_does_no_better(tmp_path: Path) -> None:
    text, kind, _, operation = CASES["first weights"]
    before, after = before_and_after(tmp_path, text, kind, {"factor": 1.5}, operation)
    assert after > 0.9 * before
