"""What a path is checked by while it is solved: numbers gathered at every accepted step, for the certificates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.floor import Floor
from gradientflow.river.paths.motion import Motion, Piece
from gradientflow.river.solvers.base import lengths

# A step is suspected of a point that is not Lipschitz when the rate changes across it much faster than before and after, or
# the path is much slower there. It is looked at more closely then: suspicion alone decides nothing.
SPIKE = Limit("quotient_over_least", 10.0, "chosen: on smooth fields the quotient moves by less within a few steps")
DIP = Limit("speed_over_largest", 0.1, "chosen: as `quotient_over_least`")
JUMP = Limit(
    "change_over_sharpness", 4.0, "chosen: λ bounds the change of a smooth gradient, and may itself grow in a step"
)
SEEN = Limit("change_over_speed", 0.05, "chosen: a smaller change of the gradient is no matter")
SEARCHED = 1_000  # parameters up to which the strangest step is kept for a closer look: it is two more vectors
LAWS_EVERY = 8  # steps between two looks at conserved quantities


class Witness:
    """Gathers, per drop: the work ∫‖dθ/dt‖², the largest climb of the loss, the largest load, the drift of the laws."""

    def __init__(self, field: Field, motion: Motion) -> None:
        drops = len(motion.t)
        self.field = field
        self.work = torch.zeros(drops, dtype=torch.float64)
        self.climb = torch.zeros(drops, dtype=torch.float64)
        self.climb_at = torch.full((drops,), float("nan"), dtype=torch.float64)
        self.load = torch.zeros(drops, dtype=torch.float64)
        self.start = motion.theta.clone() if drops > 1 else motion.theta
        self.far = torch.zeros(drops, dtype=torch.float64)  # largest distance from the start
        self.doubt = torch.zeros(drops, dtype=torch.float64)  # largest ‖θ‖·‖rate‖: what a relative error in θ does to L
        self.cubes = torch.zeros(
            drops, dtype=torch.float64
        )  # Σh³: what the local errors of a method of order 2 sum to, but for a factor
        self.begin = motion.loss()
        self.last = None if self.begin is None else self.begin.clone()  # after the last whole step
        laws = field.conserved(motion.theta)
        self.laws = {n: v.detach().clone() for n, v in laws.items()}
        self.drift = {n: torch.zeros(drops, dtype=torch.float64) for n in laws}
        self.growth = torch.zeros(drops, dtype=torch.float64)  # ∫ max(0, −λmin) dt up to the last look at λmin
        self.looked = torch.zeros(drops, dtype=torch.float64)  # when that was
        self.bottom = torch.full((drops,), float("nan"), dtype=torch.float64)  # and what it saw
        self.steps = 0
        self.calm = float("inf")  # least Lipschitz quotient so far
        self.fast, self.score = 0.0, 0.0  # largest speed so far, and how strange the strangest step was
        self.sharp, self.low = 0.0, 0.0  # quotient and speed of the strange step
        self.gone = False  # the path has become ordinary again since
        self.jumps, self.jumping = 0, 0.0  # steps of a single drop that crossed a kink, and the time they took
        self.floor = Floor(motion)
        self.strange: tuple[float, Tensor, Tensor] | None = None  # when, and the ends of the step

    def see(self, piece: Piece, spectrum: tuple[Tensor, Tensor] | None = None) -> None:
        """Take a piece; `spectrum`: largest and smallest Hessian eigenvalue of each drop as last measured."""
        top, bottom = (None, None) if spectrum is None else spectrum
        rows = piece.rows
        self.steps += 1
        self.floor.see(piece)
        self.work[rows] += piece.work
        self.cubes[rows] += (piece.t1 - piece.t0) ** 3
        if bottom is not None:
            new = (bottom[rows] != self.bottom[rows]) & ~bottom[rows].isnan()  # looked at before this step
            self.part(rows[new], piece.t0[new], bottom)
        way = lengths(piece.theta1 - (self.start if len(rows) == len(self.far) else self.start[rows]))
        self.far[rows] = torch.maximum(self.far[rows], way)
        doubt = lengths(piece.theta0) * piece.speed0
        self.doubt[rows] = torch.maximum(self.doubt[rows], doubt)
        self.load[rows] = torch.maximum(self.load[rows], piece.load.nan_to_num(0.0))
        if piece.value0 is not None and piece.value1 is not None:
            if self.last is not None:
                self.last[rows] = piece.value1.double().cpu()
            climb = (piece.value1 - piece.value0).double().cpu()
            worse = climb > self.climb[rows]
            self.climb[rows[worse]] = climb[worse]
            self.climb_at[rows[worse]] = piece.t1[worse]
        if (
            len(self.work) == 1
            and piece.theta0.shape[1] <= SEARCHED
            and piece.rate0 is not None
            and piece.rate1 is not None
        ):
            self._strange(piece.rate0, piece.rate1, piece)
        if (
            len(self.work) == 1
            and top is not None
            and piece.falls
            and piece.rate0 is not None
            and piece.rate1 is not None
        ):
            self._jump(piece.rate0, piece.rate1, piece, float(top[0]))
        if self.laws and self.steps % LAWS_EVERY == 0:
            self.look(rows, piece.theta1)

    def part(self, rows: Tensor, t: Tensor, bottom: Tensor) -> None:
        """Take λmin of some drops, seen at t; between two looks −λmin goes like a power of t, as on paths that go like log t."""
        old, now = ((-x[rows]).nan_to_num(0.0).clamp_min(0.0) for x in (self.bottom, bottom))
        begin = self.looked[rows]
        self.growth[rows] += area(begin, t, torch.where(self.bottom[rows].isnan(), now, old), now)
        self.looked[rows], self.bottom[rows] = t, bottom[rows]

    def _strange(self, rate0: Tensor, rate1: Tensor, piece: Piece) -> None:
        """Remember the step that stands out: by how fast the rate changed across it, or by how slow the path was there."""
        way = max(float((piece.theta1 - piece.theta0).norm()), 1e-300)
        quotient, slow = float((rate1 - rate0).norm()) / way, float(torch.minimum(piece.speed0[0], piece.speed1[0]))
        self.fast = max(self.fast, float(piece.speed0[0]))
        if quotient > SPIKE * self.calm or slow < DIP * self.fast:
            score = max(quotient / max(self.calm, 1e-300), self.fast / max(slow, 1e-300))
            if score > self.score:
                self.score, self.strange = score, (float(piece.t1[0]), piece.theta0, piece.theta1)
                self.sharp, self.low = quotient, slow
                self.gone = False
        if self.strange is not None and (quotient * SPIKE < self.sharp or float(piece.speed1[0]) * DIP > self.low):
            self.gone = True
        if quotient > 0:  # at rest nothing changes, and nothing is learnt
            self.calm = min(self.calm, quotient)

    def _jump(self, rate0: Tensor, rate1: Tensor, piece: Piece, top: float) -> None:
        """Count a step across which the gradient changed by far more than its Hessian allows for: it crossed a kink."""
        way, change = float((piece.theta1 - piece.theta0).norm()), float((rate1 - rate0).norm())
        speed = max(float(piece.speed0[0]), float(piece.speed1[0]))
        if change > JUMP * max(top, 0.0) * way and change > SEEN * speed:
            self.jumps += 1
            self.jumping += float(piece.t1[0] - piece.t0[0])

    def look(self, rows: Tensor, theta: Tensor) -> None:
        """Measure how far the conserved quantities have drifted."""
        for name, now in self.field.conserved(theta).items():
            at = self.laws[name][rows]
            drift = (now - at).double().norm(dim=1).cpu()
            self.drift[name][rows] = torch.maximum(self.drift[name][rows], drift)

    def freeze(self) -> dict[str, Any]:
        """Return all numbers."""
        held = {n: v for n, v in vars(self).items() if n not in ("field", "start", "floor")}
        return held | {"floor": self.floor.freeze()}

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        vars(self).update({n: v for n, v in state.items() if n != "floor"})
        self.floor.thaw(state["floor"])


def area(t0: Tensor, t1: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ∫ from t0 to t1 of what goes from a to b, none of them negative: like a power of t where all are above 0, else evenly.

    Example:
        >>> one, far = torch.ones(1, dtype=torch.float64), torch.full((1,), 100.0, dtype=torch.float64)
        >>> round(float(area(one, far, one, one / far)), 6)  # ∫dt/t; evenly it would be 50
        4.60517
    """
    even = 0.5 * (a + b) * (t1 - t0)
    bends = (t0 > 0) & (t1 > t0) & (a > 0) & (b > 0)
    x = torch.where(bends, t1 / t0, torch.full_like(t1, math.e)).log()
    power = torch.where(bends, b / a, torch.ones_like(a)).log() / x + 1.0
    flat = power.abs() * x < 1e-6
    curved = a * t0 * torch.where(flat, x, torch.expm1((power * x).clamp_max(700.0)) / torch.where(flat, x, power))
    return torch.where(bends, curved, even)
