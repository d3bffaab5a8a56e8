"""How long a training is watched that has come to nothing."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from gradientflow import diagnose
from tests.depth.causes.by_hand import flips


def test_losses_in_a_row_that_are_not_finite() -> None:
    def given_up(count: float) -> bool:
        """Whether a training of ten steps is left early, so many of whose first losses are no numbers."""
        seen: list[int] = []

        def loss(model: nn.Module, x: Tensor) -> Tensor:
            seen.append(1)
            value: Tensor = model(x).mean()
            return value + (math.nan if len(seen) <= count else 0.0)

        model, sgd = nn.Linear(2, 1), functools.partial(torch.optim.SGD, lr=0.0)
        diagnose(model, loss, torch.ones(3, 2), optimizer=sgd, steps=10)
        return len(seen) < 10

    flips(given_up, 2, 3)
