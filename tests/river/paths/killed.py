"""A path that is killed while it is solved: `python -m tests.river.paths.killed KIND FILE AFTER` ends by SIGKILL."""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import Any

import torch
from torch import Tensor

from gradientflow.river import Ensemble, Keep, Path, Potential, flow
from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths import loop, solve

TIME = 6.0
DROPS = torch.tensor([[2.0, -1.5], [0.3, 1.0], [-1.0, 2.5]], dtype=torch.float64)


def quartic(w: Tensor) -> Tensor:
    return (w**4).sum() / 4 + 0.5 * (w[0] - 9 * w[1]) ** 2


class Fatal(Potential):
    """The quartic, whose evaluation number `after` is the process's last."""

    def __init__(self, after: int | None) -> None:
        super().__init__(quartic, start=[2.0, -1.5], name="quartic")
        self.left = after

    def evaluate(self, theta: Tensor) -> Evaluation:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(theta)


KINDS: dict[str, dict[str, Any]] = {
    "single": {"method": "auto", "keep": Keep(every=3, functions={"norm": torch.linalg.vector_norm})},
    "two-step": {"method": "tsrkc3"},
    "ensemble": {"method": "auto", "starts": DROPS, "keep": Keep(at=[0.0, 0.5, 3.0, 6.0], theta=True)},
}


def ask(kind: str, file: str | None, after: int | None = None, **more: Any) -> Path | Ensemble:
    return flow(Fatal(after), TIME, checkpoint=file, resume=file is not None, **(KINDS[kind] | more))


if __name__ == "__main__":
    torch.set_num_threads(1)
    solve.Limits = functools.partial(loop.Limits, every=0.0)  # type: ignore[misc,assignment]  # a checkpoint a step
    ask(sys.argv[1], sys.argv[2], int(sys.argv[3]))
