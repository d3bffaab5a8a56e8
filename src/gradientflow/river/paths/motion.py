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

from gradientflow.records import Status
from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.meter import Meter
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

    def points(self, on: Tensor, t: Tensor) -> Tensor:
        """Return rows of the piece at times within it, (b,) → (b, P): cubic Hermite, which takes no further gradient."""
        h, s = self._share(on, t)
        h, s = h.to(self.theta0)[:, None], s.to(self.theta0)[:, None]
        a, b = rows(self.theta0, on), rows(self.theta1, on)
        if self.rate0 is None or self.rate1 is None:
            return torch.lerp(a, b, s)
        out = a * ((1 + 2 * s) * (1 - s) ** 2)
        out.addcmul_(b, s * s * (3 - 2 * s))
        out.addcmul_(rows(self.rate0, on), h * s * (1 - s) ** 2)
        return out.addcmul_(rows(self.rate1, on), h * s * s * (s - 1))

    def losses(self, on: Tensor, t: Tensor) -> Tensor | None:
        """Return the loss of rows at times, (b,) → (b,), or None; on a gradient flow its slope at both ends is −‖rate‖²."""
        if self.value0 is None or self.value1 is None:
            return None
        h, s = self._share(on, t)
        a, b = self.value0[on].double().cpu(), self.value1[on].double().cpu()
        if not self.falls:
            return a + s * (b - a)
        da, db = -self.speed0[on].square(), -self.speed1[on].square()
        curve = (
            a * (1 + 2 * s) * (1 - s) ** 2
            + b * s * s * (3 - 2 * s)
            + h * (da * s * (1 - s) ** 2 + db * s * s * (s - 1))
        )  # a fast transient within the step may bend the cubic too far
        return torch.minimum(torch.maximum(curve, torch.minimum(a, b)), torch.maximum(a, b))

    def speeds(self, on: Tensor, t: Tensor) -> Tensor:
        """Return ‖dθ/dt‖ of rows at times, (b,) → (b,), between the ends on a logarithmic scale."""
        _, s = self._share(on, t)
        a, b = self.speed0[on], self.speed1[on]
        return torch.where((a > 0) & (b > 0), a ** (1 - s) * b**s, a + s * (b - a))

    def at(self, i: int, t: float) -> tuple[Tensor, float]:
        """Return the point, (P,), and the loss, or NaN, of one row at one time."""
        on, when = torch.tensor([i]), torch.tensor([t], dtype=torch.float64)
        loss = self.losses(on, when)
        return self.points(on, when)[0], float("nan") if loss is None else float(loss)

    def _share(self, on: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lengths of rows, and the share of them that lies before the times."""
        h = (self.t1 - self.t0)[on]
        return h, ((t - self.t0[on]) / h).clamp(0.0, 1.0)


@dataclass(slots=True)
class Look:
    """The outer eigenvalues of the Hessian as measured where a single drop was at a time; NaN where they were not.

    `more`: what else was measured there, by name.
    """

    t: float
    top: float
    bottom: float
    bound: float
    more: dict[str, float]


def rows(x: Tensor, on: Tensor) -> Tensor:
    """Return some rows, in ascending order; where that is all of them, without a copy."""
    return x if len(on) == len(x) else x[on]


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
    tells = False  # the sharpness is told without being asked for
    looks: list[Look]  # since somebody last took them; of a single drop

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

    def measured(self) -> list[str]:
        """Return the names of what a look may measure besides."""
        return []

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
