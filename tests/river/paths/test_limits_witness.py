"""From where on a step is strange, or has crossed a kink: each limit from both sides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from gradientflow.river.fields.base import Potential
from gradientflow.river.paths.motion import Piece
from gradientflow.river.paths.witness import Witness

D = torch.float64


def witness() -> Witness:
    motion: Any = SimpleNamespace(t=torch.zeros(1, dtype=D), theta=torch.zeros(1, 1, dtype=D), loss=lambda: None)
    return Witness(Potential(lambda w: (w**2).sum(), start=[0.0]), motion)


def piece(change: float, speed: float = 1.0) -> Piece:
    """A step of length one, across which the rate changes."""
    one, row = torch.ones(1, dtype=D), torch.ones(1, 1, dtype=D)
    return Piece(
        torch.zeros(1, dtype=torch.int64), 0 * one, one, 0 * row, row, 0 * row, change * row, None, None, speed * one,
        speed * one, one, one, one, "dp54", falls=True,
    )  # fmt: skip


def jumps(change: float, top: float) -> int:
    w = witness()
    w.see(piece(change), (torch.tensor([top], dtype=D), torch.tensor([0.0], dtype=D)))
    return w.jumps


def test_change_over_sharpness():
    assert jumps(3.9, 1.0) == 0 and jumps(4.1, 1.0) == 1


def test_change_over_speed():
    assert jumps(0.049, 0.0) == 0 and jumps(0.051, 0.0) == 1


def strange(change: float, speed: float) -> bool:
    w = witness()
    w.see(piece(1.0, 1.0))
    assert w.strange is None
    w.see(piece(change, speed))
    return w.strange is not None


def test_quotient_over_least():
    assert not strange(9.9, 1.0) and strange(10.1, 1.0)


def test_speed_over_largest():
    assert not strange(1.0, 0.101) and strange(1.0, 0.099)
