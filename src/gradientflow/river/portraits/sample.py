"""A field of two parameters over a box: samples, Jacobians, and what counts as small there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field

ROWS = 8192  # points evaluated at once
SLOW = 56  # samples along each side where the field takes one point at a time


@dataclass(frozen=True, slots=True)
class Grid:
    """Samples: points (N, 2), rates (N, 2) and losses (N,), rows of equal θ₂ from the bottom."""

    points: Tensor
    rate: Tensor
    value: Tensor | None


class Patch:
    """A field over a box.

    Args:
        field: dθ/dt with two parameters.
        box: θ₁ from, to; θ₂ from, to.
    """

    def __init__(self, field: Field, box: tuple[float, float, float, float]) -> None:
        self.field, self.box = field, box
        self.diagonal = math.hypot(box[1] - box[0], box[3] - box[2])
        self.typical = 1.0  # a middling ‖f‖ in the box; set by `grid`
        self._single = False

    def rate(self, points: Tensor) -> Tensor:
        """Return f at points, (B, 2) → (B, 2)."""
        return self._evaluate(points)[0]

    def _evaluate(self, points: Tensor) -> tuple[Tensor, Tensor | None]:
        at = points.to(self.field.dtype).to(self.field.device)
        rates, values = [], []
        for part in torch.split(at, 1 if self._single else ROWS):
            there = self.field.evaluate(part)
            rates.append(there.rate)
            values.append(there.value)
        rate = torch.cat(rates).double().cpu()
        if any(v is None for v in values):
            return rate, None
        return rate, torch.cat([v.reshape(-1) for v in values if v is not None]).double().cpu()

    def grid(self, n: int) -> tuple[Grid, list[str]]:
        """Sample n × n points; fewer, and a note, where the field cannot be vectorised."""
        notes: list[str] = []
        points = self._lattice(n)
        try:
            rate, value = self._evaluate(points)
        except FieldError:
            raise
        except (RuntimeError, ValueError, TypeError) as problem:  # what torch.func.vmap says to `if` and `.item()`
            self._single = True
            n = min(n, SLOW)
            points = self._lattice(n)
            rate, value = self._evaluate(points)
            first = str(problem).strip().split("\n")[0]
            notes.append(f"{self.field.name} takes one point at a time ({first}): sampled {n}×{n} points only")
        speed = rate.norm(dim=1)
        finite = speed[speed.isfinite() & (speed > 0)]
        self.typical = float(finite.median()) if len(finite) else 1.0
        return Grid(points, rate, value), notes

    def _lattice(self, n: int) -> Tensor:
        x0, x1, y0, y1 = self.box
        x = torch.linspace(x0, x1, n, dtype=torch.float64)
        y = torch.linspace(y0, y1, n, dtype=torch.float64)
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([xx.reshape(-1), yy.reshape(-1)], 1)

    def jacobian(self, points: Tensor) -> Tensor:
        """Return ∂f/∂θ at points, (B, 2) → (B, 2, 2)."""
        at = points.to(self.field.dtype).to(self.field.device)
        blocks = []
        for part in torch.split(at, 1 if self._single else ROWS):
            product = self.field.linearize(part)
            columns = [product(torch.eye(2, dtype=part.dtype, device=part.device)[k].expand_as(part)) for k in (0, 1)]
            blocks.append(torch.stack(columns, 2))
        return torch.cat(blocks).double().cpu()

    def inside(self, points: Tensor, margin: float = 0.0) -> Tensor:
        """Return which points lie in the box, widened by a share of its sides."""
        x0, x1, y0, y1 = self.box
        dx, dy = margin * (x1 - x0), margin * (y1 - y0)
        x, y = points[:, 0], points[:, 1]
        return (x >= x0 - dx) & (x <= x1 + dx) & (y >= y0 - dy) & (y <= y1 + dy)


def numbers(x: Tensor) -> list[float | None]:
    """Return numbers as a record holds them: None for one that is not finite."""
    return [v if math.isfinite(v) else None for v in x.double().reshape(-1).tolist()]
