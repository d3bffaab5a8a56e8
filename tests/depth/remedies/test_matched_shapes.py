"""A loss that broadcasts (N, 1) against (N,), seen in a run: what is written into the source squeezes the column, whichever side it is on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradientflow.depth.remedies.write import edit
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.watch.session import Outcome
from gradientflow.records import Change, Place
from tests.depth.scripts import watched

SCRIPT = """\
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
X = torch.randn(64, 6)
Y = (X @ torch.randn(6)).tanh()
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
crit = nn.MSELoss()
{before}
for step in range(4):
    x, y = X, Y
    {within}
    {loss}
    opt.zero_grad(); loss.backward(); opt.step()
"""
P = "p = net(x)"
WRITTEN = {
    "a module": ("", "pass", "loss = crit(net(x), y)", "loss = crit(net(x).squeeze(-1), y)"),
    "by keyword": ("", "pass", "loss = crit(target=y, input=net(x))", "loss = crit(target=y, input=net(x).squeeze(-1))"),
    "in the wrong order": ("", P, "loss = F.l1_loss(y, p)", "loss = F.l1_loss(y, p.squeeze(-1))"),
    "a column of targets": ("Y = Y[:, None]", "p = net(x).squeeze(1)", "loss = F.mse_loss(p, y)", "loss = F.mse_loss(p, y.squeeze(-1))"),
    "two axes more": ("", P, "loss = F.mse_loss(p[:, :, None], y)", "loss = F.mse_loss(p[:, :, None].flatten(), y)"),
    "a difference": ("", P, "loss = ((y - p) ** 2).mean()", "loss = ((y - p.squeeze(-1)) ** 2).mean()"),
    "of a call": ("", "pass", "loss = (y - net(x)).abs().mean()", "loss = (y - net(x).squeeze(-1)).abs().mean()"),
    "by torch.sub": ("", "pass", "loss = torch.sub(net(x), y).square().mean()", "loss = torch.sub(net(x).squeeze(-1), y).square().mean()"),
    "a column of weights": (
        "W = torch.rand(64, 1)", "e = (net(x).squeeze(1) - y) ** 2", "loss = (W * e).mean()", "loss = (W.squeeze(-1) * e).mean()"
    ),
}  # fmt: skip
MEANT = {
    "pairs of answers": (P, "loss = F.softplus(-(p - p.T) * (y[:, None] - y[None, :]).sign()).mean()"),
    "pairs by name": (P, "loss = (p - y.unsqueeze(0)).diagonal().pow(2).mean()"),
    "one shape": ("p = net(x).squeeze(1)", "loss = ((p - y) ** 2).mean()"),
}


def seen(folder: Path, before: str, within: str, loss: str) -> Outcome:
    file = folder / "train.py"
    file.write_text(SCRIPT.format(before=before, within=within, loss=loss), encoding="utf-8")
    outcome = watched(file).outcome
    assert outcome is not None
    return outcome


def written(outcome: Outcome) -> str:
    finding = outcome.verdict.findings[0]
    assert finding.cause == "mixed-samples"
    at = finding.place
    assert at is not None
    settings = {"column": finding.evidence["column"]}
    change = Change("match-shapes", "", [Place(at.file, at.line, None, at.op)], settings)
    return edit(change, finding, outcome.run).after


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("kind", WRITTEN)
def test_the_column_is_squeezed(kind: str, tmp_path: Path) -> None:
    before, within, loss, wanted = WRITTEN[kind]
    after = written(seen(tmp_path, before, within, loss))
    assert after == SCRIPT.format(before=before, within=within, loss=wanted)
    mended = tmp_path / "mended"
    mended.mkdir()
    (mended / "train.py").write_text(after, encoding="utf-8")
    outcome = watched(mended / "train.py").outcome
    assert outcome is not None
    assert "mixed-samples" not in [f.cause for f in outcome.verdict.findings]


@pytest.mark.parametrize("kind", MEANT)
def test_pairs_that_are_meant_are_left_alone(kind: str, tmp_path: Path) -> None:
    within, loss = MEANT[kind]
    outcome = seen(tmp_path, "", within, loss)
    assert "mixed-samples" not in [f.cause for f in outcome.verdict.findings]


def test_where_two_calls_stand_side_by_side_nothing_is_guessed(tmp_path: Path) -> None:
    outcome = seen(tmp_path, "same = nn.Identity()", "pass", "loss = (net(x) - same(y)).pow(2).mean()")
    with pytest.raises(NoEditError, match="which operand is the column"):
        written(outcome)
