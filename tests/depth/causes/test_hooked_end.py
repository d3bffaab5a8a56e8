"""A gradient that ends at a hook of the script's own is told with the hook's line; a hook that only looks on is not blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.depth.scripts import watched, write

SCRIPT = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 10), torch.randint(3, (64,))
body, head = nn.Sequential(nn.Linear(10, 16), nn.ReLU()), nn.Linear(16, 3)
{}
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
for _ in range(40):
    optimizer.zero_grad()
    h = body(x)
    {}
    out = head(h)
    {}
    F.cross_entropy(out, y).backward()
    optimizer.step()
"""
ZERO = ".register_hook(torch.zeros_like)  # HERE"


@pytest.mark.parametrize("where", ["out", "h"])
def test_a_hook_that_gives_zeros_is_told_with_its_line(where: str, tmp_path: Path) -> None:
    file = write(
        tmp_path, SCRIPT.format("", f"h{ZERO}" if where == "h" else "", f"out{ZERO}" if where == "out" else "")
    )
    outcome = watched(file).outcome
    assert outcome is not None and outcome.verdict.watch.errors == []
    first = outcome.verdict.findings[0]
    line = next(k for k, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if "# HERE" in text)
    assert (first.cause, first.place and first.place.line) == ("gradient-altered", line), first.summary


def test_a_hook_that_looks_on_is_not_blamed(tmp_path: Path) -> None:
    looks = "{}.register_hook(lambda g: None)"
    dead = "nn.init.constant_(body[0].bias, -100.0)"
    outcome = watched(write(tmp_path, SCRIPT.format(dead, looks.format("h"), looks.format("out")))).outcome
    assert outcome is not None
    assert outcome.verdict.findings[0].cause != "gradient-altered", outcome.verdict.summary
    (tmp_path / "well").mkdir()
    outcome = watched(write(tmp_path / "well", SCRIPT.format("", looks.format("h"), looks.format("out")))).outcome
    assert outcome is not None and outcome.verdict.symptom == "healthy"
