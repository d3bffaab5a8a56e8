"""What the loop moves: the protocol of everything that carries drops along, and the piece of path that one advance makes.

1. `live` says which drops still move; `advance()` tries one step of some or all of them and returns the accepted pieces,
   or None where every step was rejected. A drop that cannot go on gets its status from the motion.
2. `t` is flow time, per drop, float64; `t_end` is where a drop arrives.
3. `freeze()` returns all that decides the future, as plain data and tensors; `thaw()` takes it back. A path that was
   frozen and thawed goes on bit for bit as one that was not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.path import Status
from gradientflow.river.solvers.base import lengths
from gradientflow.river.solvers.spectrum import Spectrum


@dataclass(slots=True)
class Piece:
    """What one advance added to the paths of the drops in `rows`.

    Tensors per row: t0, t1 (b,); theta0, theta1, rate0, rate1 (b, P); value0, value1 (b,) or None; work (b,) is
    ∫‖dθ/dt‖² over the piece; load is h·λ of the step before the last look at λ, relative to what its method is stable for; stages is the evaluations it took.
    Without rates (a descent) the path between is the chord.
    """

    rows: Tensor
    t0: Tensor
    t1: Tensor
    theta0: Tensor
    theta1: Tensor
    rate0: Tensor | None
    rate1: Tensor | None
    value0: Tensor | None
    value1: Tensor | None
    speed0: Tensor
    speed1: Tensor
    work: Tensor
    load: Tensor
    stages: Tensor
    method: str
    falls: bool = False  # the loss falls at the rate ‖rate‖²: a gradient flow

    def at(self, i: int, t: float) -> Tensor:
        """Return row i at time t within the piece, shape (P,): cubic Hermite, which takes no further gradient."""
        h = float(self.t1[i] - self.t0[i])
        s = (t - float(self.t0[i])) / h
        a, b = self.theta0[i], self.theta1[i]
        if self.rate0 is None or self.rate1 is None:
            return torch.lerp(a, b, s)
        out = a * ((1 + 2 * s) * (1 - s) ** 2)
        out.add_(b, alpha=s * s * (3 - 2 * s))
        out.add_(self.rate0[i], alpha=h * s * (1 - s) ** 2)
        return out.add_(self.rate1[i], alpha=h * s * s * (s - 1))

    def value(self, i: int, t: float) -> float:
        """Return the loss of row i at time t; on a gradient flow its slope at both ends is −‖rate‖²."""
        if self.value0 is None or self.value1 is None:
            return float("nan")
        h = float(self.t1[i] - self.t0[i])
        s = (t - float(self.t0[i])) / h
        a, b = float(self.value0[i]), float(self.value1[i])
        chord = a + s * (b - a)
        if not self.falls:
            return chord
        da, db = -(float(self.speed0[i]) ** 2), -(float(self.speed1[i]) ** 2)
        curve = (
            a * (1 + 2 * s) * (1 - s) ** 2
            + b * s * s * (3 - 2 * s)
            + h * (da * s * (1 - s) ** 2 + db * s * s * (s - 1))
        )
        return min(max(curve, min(a, b)), max(a, b))  # a fast transient within the step may bend the cubic too far

    def speed(self, i: int, t: float) -> float:
        """Return ‖dθ/dt‖ of row i at time t, between the ends on a logarithmic scale."""
        s = (t - float(self.t0[i])) / float(self.t1[i] - self.t0[i])
        a, b = float(self.speed0[i]), float(self.speed1[i])
        return a ** (1 - s) * b**s if a > 0 and b > 0 else a + s * (b - a)


class Motion(ABC):
    """What moves drops: the module's rules, and what every motion answers alike."""

    meter: Meter
    t_end: float
    t: Tensor
    theta: Tensor
    here: Evaluation
    live: Tensor
    statuses: list[Status | None]
    spectrum: Spectrum

    def loss(self) -> Tensor | None:
        """Return the loss of each drop, (B,), float64, or None; a copy."""
        return None if self.here.value is None else self.here.value.double().cpu().clone()

    def speed(self) -> Tensor:
        """Return ‖dθ/dt‖ of each drop, (B,), float64."""
        return lengths(self.here.rate)

    def sharpness(self) -> tuple[Tensor, Tensor]:
        """Return the largest and the smallest eigenvalue of the Hessian as last measured, (B,) each."""
        return self.spectrum.top, self.spectrum.bottom

    def arrived(self) -> Tensor:
        """Return which drops are where they are to end, (B,)."""
        return self.t >= self.t_end

    def extra(self) -> dict[str, float]:
        """Return what a moment of this motion knows besides."""
        return {}

    def end(self, rows: Tensor, status: Status) -> None:
        """Let these drops rest."""
        self.live[rows] = False
        for i in rows.tolist():
            self.statuses[i] = status

    @abstractmethod
    def advance(self) -> Piece | None:
        """Try one step; return the accepted pieces."""

    @abstractmethod
    def peek(self, piece: Piece, i: int, t: float) -> tuple[Tensor, float]:
        """Return the point and the loss of row i at a time within a piece."""

    @abstractmethod
    def least(self, row: int) -> float:
        """Return the smallest eigenvalue of the Hessian where a drop is."""

    @abstractmethod
    def halt(self, row: int, t: float, theta: Tensor) -> None:
        """Put a drop back to a moment within its last piece."""

    @abstractmethod
    def freeze(self) -> dict[str, Any]:
        """Return all that decides the future."""

    @abstractmethod
    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
