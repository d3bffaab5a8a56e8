"""Errors averaged ahead of the square are told in all their spellings; a mean of squares, and a mean beside one, is not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradientflow.depth.causes import averaged
from gradientflow.depth.causes.averaged import Averaged
from gradientflow.records import Verdict
from tests.depth.causes.by_hand import flips, value
from tests.depth.scripts import watched, write

SCRIPT = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = x[:, :3].sum(1, keepdim=True).tanh()
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(60):
    rows = torch.randint(256, (64,))
    p, t = model(x[rows]), y[rows]
    optimizer.zero_grad()
    loss = {}  # HERE
    loss.backward()
    optimizer.step()
"""
BAD = (
    "(p - t).mean() ** 2",
    "torch.square(torch.mean(t - p))",
    "(p - t).sum().abs() / 64",
    "(p.mean() - t.mean()) ** 2",
    "F.mse_loss(p.mean(), t.mean())",
    "(p - t).mean(0).pow(2).sum()",
    "(p - t).mean() * (p - t).mean()",
    "F.smooth_l1_loss((p - t).squeeze(1).mean(), torch.tensor(0.0))",
)
WELL = (
    "((p - t) ** 2).mean()",
    "F.mse_loss(p, t).sqrt()",
    "F.mse_loss(p, t) ** 2",
    "(F.mse_loss(p, t) - 0.01).abs() + 0.01",
    "((p - t).mean(1) ** 2).mean()",
    "F.mse_loss(p, t) + (p - t).mean() ** 2",
    "F.mse_loss(p, t) + 0.1 * (p.mean() - t.mean()) ** 2",
    "(p.sum() - 3.0) ** 2 / 100",
    "((F.normalize(torch.cat([p, t], 1)) @ F.normalize(torch.cat([p, t], 1)).T).mean() - 0.1) ** 2",
)


def verdict(folder: Path, loss: str) -> Verdict:
    outcome = watched(write(folder, SCRIPT.format(loss))).outcome
    assert outcome is not None and outcome.verdict.watch.errors == []
    return outcome.verdict


@pytest.mark.parametrize("loss", BAD)
def test_a_mean_ahead_of_the_square_is_told_with_its_line(loss: str, tmp_path: Path) -> None:
    found = verdict(tmp_path, loss).findings[0]
    assert found.cause == "mixed-samples", found.summary
    lines = textwrap.dedent(SCRIPT).splitlines()
    assert found.place is not None and found.place.line == 1 + next(k for k, x in enumerate(lines) if "# HERE" in x)


@pytest.mark.parametrize("loss", WELL)
def test_what_is_none_is_not(loss: str, tmp_path: Path) -> None:
    assert [f.cause for f in verdict(tmp_path, loss).findings if f.cause == "mixed-samples"] == []


def test_what_is_left_of_the_errors_is_said(tmp_path: Path) -> None:
    found = verdict(tmp_path, BAD[0]).findings[0]
    assert found.evidence["share_seen"] < 0.3
    assert found.evidence["squared_error_of_single_samples"] > 0.5 * found.evidence["variance_of_the_targets"]


def test_a_network_that_learns_the_samples_all_the_same_is_left_in_peace() -> None:
    def unlearnt(part: float) -> bool:
        seen = Averaged(None, None, 64, value(part**0.5), value(1.0))  # type: ignore[arg-type]
        return averaged._unlearnt(seen)

    flips(unlearnt, 0.49, 0.51)
    assert averaged._unlearnt(Averaged(None, None, 64, None, None))  # type: ignore[arg-type]
