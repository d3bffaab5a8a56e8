"""When a descent has left its flow, and when it has diverged: each limit from both sides."""

from __future__ import annotations

from typing import Any

import torch

from gradientflow.river import Path, Potential, descend
from gradientflow.river.paths.compare import _why, leaving

D = torch.float64
TIMES = torch.arange(4.0, dtype=D)


def left(*relative: float) -> float | None:
    return leaving(TIMES, torch.tensor(relative, dtype=D))


def test_distance_over_way():
    assert left(0.0, 0.0, 0.099, 0.099) is None and left(0.0, 0.0, 0.101, 0.101) == 2.0


def test_distance_over_apart():
    assert left(0.0, 0.2, 0.051, 0.2) == 1.0 and left(0.0, 0.2, 0.049, 0.2) == 3.0


def gd(slope: float = 1.0) -> Path:
    field = Potential(lambda w: -slope * w.sum(), start=[0.0])
    return descend(field, torch.optim.SGD, 1.0, lr=1.0)


def test_crossed_over_left():
    def why(crossed: float) -> str:
        far: Any = torch.full((4,), 0.5, dtype=D)
        return _why(gd(), 2.0, (1.0, crossed), 1.0, TIMES, far)

    assert "sharpness crosses" in why(1.49) and "not unstable" in why(1.51)


def test_size_over_first():
    assert gd(0.99e12).status.reason == "reached" and gd(1.01e12).status.reason == "diverged"
