"""What must not change a verdict: the unit of the loss, the batch size, the number format, names, wrapping, lines above.

Each script runs through the door that the command line uses, in this process.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.depth.scripts import watched, write

BEGINNING = """
import math
import torch
from torch import nn
from torch.nn import functional as F
{above}
torch.manual_seed({seed})
torch.set_default_dtype({dtype})
class {Net}(nn.Module):
    def __init__(self):
        super().__init__()
"""
TRAINING = """
model = {wrap}({Net}())
x = torch.randn({batch}, 16)
y = Y
optimizer = torch.optim.SGD(model.parameters(), LR)
for step in range(STEPS):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled={autocast}):
        loss = {scale} * F.LOSS(model(x), y)
    loss.backward()
    optimizer.step()
"""


def script(net: str, *, lr: str, steps: int, y: str = "(x[:, :4]).argmax(1)", loss: str = "cross_entropy") -> str:
    """A whole script, with what may be changed in braces."""
    training = TRAINING.replace("Y\n", f"{y}\n").replace("LR", lr).replace("STEPS", str(steps)).replace("LOSS", loss)
    return BEGINNING + net.strip("\n") + training


SIGMOIDS = """
        self.{layers} = nn.ModuleList(nn.Linear(16 if i == 0 else 32, 32) for i in range(9))
        self.head = nn.Linear(32, 4)
    def forward(self, x):
        for layer in self.{layers}:
            x = torch.sigmoid(layer(x))  # HERE
        return self.head(x)
"""
LARGE = """
        self.{layers} = nn.ModuleList(nn.Linear(16 if i == 0 else 48, 48) for i in range(12))
        self.head = nn.Linear(48, 1)
        for layer in self.{layers}:
            nn.init.normal_(layer.weight, std=4 / math.sqrt(layer.in_features))  # HERE
    def forward(self, x):
        for layer in self.{layers}:
            x = torch.relu(layer(x))
        return self.head(x)
"""
LOOSE = """
        self.{layers} = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
        self.head = nn.Linear(8, 4)
    def forward(self, x):
        code = self.{layers}(x)
        code = code.detach()  # HERE
        return self.head(code)
"""
HEALTHY = """
        self.{layers} = nn.ModuleList(nn.Linear(16 if i == 0 else 64, 64) for i in range(4))
        self.head = nn.Linear(64, 4)
        for layer in self.{layers}:
            nn.init.kaiming_normal_(layer.weight)
    def forward(self, x):
        for layer in self.{layers}:
            x = torch.relu(layer(x))
        return self.head(x)
"""

PLAIN: dict[str, str] = {
    "above": "", "seed": "0", "dtype": "torch.float32", "Net": "Net", "layers": "layers", "wrap": "", "batch": "64", "scale": "1.0",
    "autocast": "False",
}  # fmt: skip
CHANGES: dict[str, dict[str, str]] = {
    "as it is": {},
    "loss × 1e-6": {"scale": "1e-6"},
    "loss × 1e6": {"scale": "1e6"},
    "twice the batch": {"batch": "128"},
    "float64": {"dtype": "torch.float64"},
    "bfloat16 autocast": {"autocast": "True"},
    "other names": {"Net": "Étage", "layers": "stufen"},
    "wrapped": {"wrap": "nn.Sequential"},
    "other lines": {"above": "# a line\n\n# and another\n" * 7},
    "another seed": {"seed": "5"},
}
SCRIPTS: dict[str, tuple[str, tuple[str, str]]] = {
    "sigmoids": (script(SIGMOIDS, lr="lr=0.05 / {scale}", steps=10), ("vanishing", "saturating-activation")),
    "large weights": (
        script(LARGE, lr="lr=1e-14 / {scale}", steps=6, y="x[:, :1]", loss="l1_loss"),
        ("exploding", "init-too-large"),
    ),
    "cut off": (script(LOOSE, lr="lr=0.1 / {scale}", steps=12), ("disconnected", "disconnected-parameters")),
    "healthy": (script(HEALTHY, lr="lr=0.1 / {scale}, momentum=0.9", steps=40), ("healthy", "")),
}


@dataclass
class Told:
    symptom: str
    cause: str
    line: int | None
    text: list[str]


def told(folder: Path, text: str, change: dict[str, str]) -> Told:
    file = write(folder, text.format(**(PLAIN | change)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = watched(file, probe_every=4).outcome
    assert outcome is not None
    verdict = outcome.verdict
    assert verdict.watch.errors == []
    first = verdict.findings[0] if verdict.findings else None
    line = first.place.line if first is not None and first.place is not None else None
    return Told(verdict.symptom, first.cause if first else "", line, file.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_verdict_stays(name: str, change: str, tmp_path: Path) -> None:
    text, expected = SCRIPTS[name]
    found = told(tmp_path, text, CHANGES[change])
    assert (found.symptom, found.cause) == expected
    if expected[0] != "healthy":
        assert found.line is not None
        assert "# HERE" in found.text[found.line - 1]


@pytest.mark.parametrize("name", ["sigmoids", "large weights", "cut off"])
def test_the_mend_does_change_it(name: str, tmp_path: Path) -> None:
    """The control: what these tests hold fixed would notice a real difference."""
    mends = {
        "sigmoids": ("torch.sigmoid(layer(x))", "torch.tanh(layer(x)) + x[:, :1]"),
        "large weights": ("4 / math", "math.sqrt(2) / math"),
        "cut off": ("code.detach()", "code"),
    }
    text, expected = SCRIPTS[name]
    assert told(tmp_path, text.replace(*mends[name]), {}).symptom != expected[0]
