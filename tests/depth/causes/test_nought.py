"""A loss that is multiplied by zero is told with its line; a part of it that is, or a factor that begins at zero, is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.depth.scripts import watched, write

SCRIPT = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 10)
y = x[:, :3].sum(1, keepdim=True).tanh()
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for k in range(60):
    optimizer.zero_grad()
    error = F.mse_loss(model(x), y)
    loss = {}  # HERE
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "loss",
    [
        "error * 0.0",
        "0 * error",
        "-(error * torch.zeros(1)).sum()",
        "torch.mul(error, 0) / 4",
        "2 * (error * torch.tensor(0.0))",
    ],
)
def test_a_factor_of_zero_is_told_with_its_line(loss: str, tmp_path: Path) -> None:
    file = write(tmp_path, SCRIPT.format(loss))
    outcome = watched(file).outcome
    assert outcome is not None and outcome.verdict.watch.errors == []
    first = outcome.verdict.findings[0]
    line = next(k for k, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if "# HERE" in text)
    assert (first.symptom, first.cause, first.place and first.place.line) == ("dead", "zero-derivative", line)


@pytest.mark.parametrize(
    "loss",
    ["error + 0.0 * error.square()", "error * 1.0", "error * min(1.0, k / 10)", "error + error * torch.zeros(1).sum()"],
)
def test_another_factor_is_not(loss: str, tmp_path: Path) -> None:
    outcome = watched(write(tmp_path, SCRIPT.format(loss))).outcome
    assert outcome is not None
    assert outcome.verdict.symptom == "healthy", outcome.verdict.summary
