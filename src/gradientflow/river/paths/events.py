"""Where a path stops before its time: steady states, targets, balls, and whatever the caller asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.river.paths.motion import Motion, Piece
from gradientflow.river.paths.path import Status
from gradientflow.river.solvers.base import lengths

BISECTIONS = 60


class Event:
    """Something that ends a drop's path.

    `fired` says for which rows of a piece it happened and when; None for a row where it did not. Events with a function
    that changes sign are located on the interpolated path.
    """

    name = "event"

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return (row within the piece, flow time, sentence) for each row where the event happened."""
        raise NotImplementedError


@dataclass(frozen=True)
class SteadyState(Event):
    """The path has come to rest: ‖dθ/dt‖ ≤ `rate`, and no direction of growth is left (λmin ≥ −`curvature`).

    A saddle also has a small gradient; the smallest Hessian eigenvalue, as last measured, tells them apart.

    Args:
        rate: tolerance on ‖dθ/dt‖ (for a loss ‖∇L‖), in parameter units per flow time.
        curvature: how negative λmin may be, in 1/flow time; None: do not ask.
    """

    rate: float = 1e-8
    curvature: float | None = 1e-6
    name = "steady state"

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return the rows at rest."""
        low = piece.speed1 <= self.rate
        found = []
        for i in low.nonzero()[:, 0].tolist():
            row = int(piece.rows[i])
            bottom = float(motion.sharpness()[1][row])
            if self.curvature is not None and bottom < -self.curvature:
                continue
            least = "" if bottom != bottom else f", λmin {bottom:.3g}"
            found.append(
                (i, float(piece.t1[i]), f"steady state: ‖dθ/dt‖ {float(piece.speed1[i]):.3g} ≤ {self.rate:g}{least}")
            )
        return found


@dataclass(frozen=True)
class LossTarget(Event):
    """The loss has come down to `value`."""

    value: float
    name = "loss target"

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return the rows that reached the target."""
        if piece.value1 is None or piece.value0 is None:
            raise UsageError("LossTarget needs a field with a loss; this one has none. Use your own event: gf.When(f).")
        hit = ((piece.value1 <= self.value) & (piece.value0 > self.value)).nonzero()[:, 0].tolist()
        return [(i, _bisect(partial(self._above, piece, i), piece, i), f"loss reached {self.value:g}") for i in hit]

    def _above(self, piece: Piece, i: int, t: float) -> float:
        return piece.value(i, t) - self.value


@dataclass(frozen=True)
class LeavesBall(Event):
    """θ has left the ball of `radius` around `centre` (the origin when none is given)."""

    radius: float
    centre: Tensor | None = None
    name = "leaves ball"

    def _beyond(self, theta: Tensor) -> Tensor:
        return lengths(theta if self.centre is None else theta - self.centre.to(theta)) - self.radius

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return the rows that left."""
        out = ((self._beyond(piece.theta1) > 0) & (self._beyond(piece.theta0) <= 0)).nonzero()[:, 0].tolist()
        text = f"left the ball of radius {self.radius:g}"
        return [(i, _bisect(partial(self._room, piece, i), piece, i), text) for i in out]

    def _room(self, piece: Piece, i: int, t: float) -> float:
        return -float(self._beyond(piece.at(i, t)))


@dataclass(frozen=True)
class When(Event):
    """The caller's own event: the path ends where `function` of one point, shape (P,), comes down through zero.

    Args:
        function: a point to a number, positive at the start; a function that returns a bool ends the path at the first
            step where it is true.
        name: what the status calls it.
    """

    function: Callable[[Tensor], float | bool | Tensor]
    name: str = "event"

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return the rows where the function came down to zero, or became true."""
        found = []
        for i in range(len(piece.rows)):
            after = self.function(piece.theta1[i])
            if isinstance(after, bool) or (isinstance(after, Tensor) and after.dtype == torch.bool):
                if after:
                    found.append((i, float(piece.t1[i]), self.name))
            elif float(after) <= 0 < float(self.function(piece.theta0[i])):
                found.append((i, _bisect(partial(self._value, piece, i), piece, i), self.name))
        return found

    def _value(self, piece: Piece, i: int, t: float) -> float:
        return float(self.function(piece.at(i, t)))


def as_event(event: Event | Callable[[Tensor], float | bool | Tensor]) -> Event:
    """Return the event, or wrap a function of one point.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(event, Event):
        return event
    if callable(event):
        return When(event, getattr(event, "__name__", "event").strip("<>"))
    raise UsageError(
        f"an event is a gf.SteadyState, gf.LossTarget, gf.LeavesBall, gf.When or a function of θ, got {event!r}."
    )


def check(events: list[Event], piece: Piece, motion: Motion) -> dict[int, tuple[float, Status]]:
    """Return for each row of the piece the first event that happened in it."""
    first: dict[int, tuple[float, Status]] = {}
    for event in events:
        for i, t, text in event.fired(piece, motion):
            t = t if piece.rate1 is not None else float(piece.t1[i])  # between two steps there is no descent
            if i not in first or t < first[i][0]:
                first[i] = (t, Status("event", text + f" at t = {t:.9g}."))
    return first


def _bisect(f: Callable[[float], float], piece: Piece, i: int) -> float:
    """Return where f, positive at the beginning of the piece, comes down to zero."""
    low, high = float(piece.t0[i]), float(piece.t1[i])
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if f(middle) > 0:
            low = middle
        else:
            high = middle
    return high
