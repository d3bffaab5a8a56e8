"""Options of an optimizer that are numpy's numbers are recorded as what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradientflow import store, watch
from gradientflow.depth.watch.optimizers import number_of, options_of


@pytest.mark.parametrize(
    ("value", "worth"),
    [
        (np.float64(0.5), 0.5), (np.float32(0.25), 0.25), (np.int64(3), 3), (torch.tensor(0.5), 0.5), (True, True), ("sum", "sum"),
        ((np.float64(0.5), np.float32(0.25)), [0.5, 0.25]), ((0.9, torch.tensor(0.5)), [0.9, 0.5]),
    ],
)  # fmt: skip
def test_a_record_holds_pythons_own_values(value: Any, worth: Any) -> None:
    held = options_of({"params": [], "x": value})["x"]
    assert held == worth and type(held) is type(worth)


@pytest.mark.parametrize(
    "value", [None, object(), torch.ones(2), torch.tensor(1j), torch.ones((), device="meta"), ("a", 1)]
)
def test_what_is_no_number_is_left_out(value: Any) -> None:
    assert options_of({"x": value}) == {}
    assert number_of(value) is None and number_of(True) is None


def test_lbfgs_with_options_of_numpy_is_recorded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = nn.Linear(1, 1), torch.linspace(-1, 1, 8)[:, None]
    lbfgs = torch.optim.LBFGS(net.parameters(), lr=np.float64(0.5), tolerance_change=np.finfo(float).eps)

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = (net(x) - 2 * x).square().mean()
        loss.backward()
        return loss

    with watch(out=tmp_path / "run") as seen:
        for _ in range(3):
            lbfgs.step(closure)
    run = store.read(tmp_path / "run")
    assert seen.verdict.steps == 3 and [s.lr for s in run.steps] == [0.5] * 3
    assert run.meta.optimizers[0].options["tolerance_change"] == float(np.finfo(float).eps)
