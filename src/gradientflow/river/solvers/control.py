"""How long a step is: error norms, first step, and predictive (PI) step control."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.river.fields.base import Field
from gradientflow.river.solvers.base import lengths

SAFETY = 0.8
SHRINK, GROW = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What error a step may make: rtol·|θ| + atol.

    On the flow of a loss |θ| is the norm of the whole vector, because the axes that matter there are the Hessian's own
    and not the parameters; the absolute part counts per parameter (root mean square). Other fields may mix quantities of
    different size in one state, so there each component is weighed by its own size.
    """

    rtol: float
    atol: float
    whole: bool

    @staticmethod
    def of(field: Field, rtol: float, atol: float) -> Tolerance:
        """Return the tolerance as it is meant for this field."""
        return Tolerance(rtol, atol, field.potential)

    def size(self, defect: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Return the error of each row relative to what it may be, (B, P) → (B,), float64; 1 is just allowed."""
        if self.whole:
            scale = torch.maximum(lengths(before), lengths(after))
            root = math.sqrt(defect.shape[1])
            return lengths(defect) / (self.rtol * scale + self.atol * root).clamp_min(1e-300)
        weight = torch.maximum(before.abs(), after.abs()).mul_(self.rtol).add_(self.atol).clamp_min_(1e-300)
        return lengths(defect / weight) / math.sqrt(defect.shape[1])


class Controller:
    """Predictive step control (Watts 1984; Gustafsson 1994) for B drops, with the constants of RKC (1998, §3.4).

    After an accepted step h ← h · clip(0.8 · err⁻¹ᐟᵏ · (h/h₋) (err₋/err)¹ᐟᵏ, 0.1, 10); the second factor extrapolates
    the trend of the error, and is left out after the first step and after a rejection.
    """

    def __init__(self, drops: int) -> None:
        self.last_error = torch.ones(drops, dtype=torch.float64)
        self.last_step = torch.zeros(drops, dtype=torch.float64)  # 0: no trend yet

    def accepted(self, rows: Tensor, h: Tensor, error: Tensor, order: int, safety: float = SAFETY) -> Tensor:
        """Return the factor for the next step."""
        error = error.clamp_min(1e-10)
        plain = safety * error ** (-1.0 / order)
        last = self.last_step[rows]
        trend = plain * (h / last.clamp_min(1e-300)) * (self.last_error[rows] / error) ** (1.0 / order)
        factor = torch.where(last > 0, torch.minimum(plain * 1.25, trend), plain)
        self.last_error[rows], self.last_step[rows] = error, h
        return factor.clamp(SHRINK, GROW)

    def rejected(self, rows: Tensor, error: Tensor, order: int) -> Tensor:
        """Return the factor for the repeated step."""
        self.last_step[rows] = 0.0
        bad = ~torch.isfinite(error)
        factor = SAFETY * torch.where(bad, torch.full_like(error, 1e9), error) ** (-1.0 / order)
        return torch.where(bad, torch.full_like(error, 0.25), factor).clamp(SHRINK, SAFETY)
