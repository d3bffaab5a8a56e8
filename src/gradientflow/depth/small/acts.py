"""The activations of the small network: what theory integrates over, and the expression that the script says it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Act:
    """One activation. `text`: an expression with {} in the place of its input."""

    apply: Callable[[Tensor], Tensor]
    text: str


ACTS = {
    "relu": Act(F.relu, "torch.relu({})"),
    "gelu": Act(F.gelu, "F.gelu({})"),
    "silu": Act(F.silu, "F.silu({})"),
    "leaky_relu": Act(F.leaky_relu, "F.leaky_relu({}, 0.01)"),
    "tanh": Act(torch.tanh, "torch.tanh({})"),
    "sigmoid": Act(torch.sigmoid, "torch.sigmoid({})"),
    "none": Act(lambda z: z, "{}"),
}
