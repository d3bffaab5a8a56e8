"""Where a path stops before its time: steady states, targets, balls, and whatever the caller asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.records import Status
from gradientflow.river.paths.motion import Motion, Piece
from gradientflow.river.solvers.base import lengths

BISECTIONS = 60


class Event:
    """Something that ends a drop's path.

    `fired` says for which rows of a piece it happened and when; None for a row where it did not. Events with a function
    that changes sign are located on the interpolated path.
    """

    name = "event"

    def level(self, theta: Tensor, value: float) -> float | None:
        """Return what comes down to zero at the event, at one point with its loss; None where the event is no such thing."""
        return None

    def holds(self, motion: Motion, row: int) -> str | None:
        """Say that the event is there where a drop begins; None where it is not."""
        loss = motion.loss()
        level = self.level(motion.theta[row], float("nan") if loss is None else float(loss[row]))
        return f"{self.name} at the start" if level is not None and level <= 0 else None

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return (row within the piece, flow time, sentence) for each row where the event happened."""
        raise NotImplementedError


@dataclass(frozen=True)
class SteadyState(Event):
    """The path has come to rest: ‖dθ/dt‖ ≤ `rate`, and no direction of growth is left (λmin ≥ −`curvature`).

    A saddle also has a small gradient; the smallest Hessian eigenvalue tells them apart: it is
    looked for once more, with up to 60 products, before the path is said to rest.

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
            text = self._rests(motion, int(piece.rows[i]), float(piece.speed1[i]))
            if text is not None:
                found.append((i, float(piece.t1[i]), text))
        return found

    def holds(self, motion: Motion, row: int) -> str | None:
        """Say that a drop begins at rest; None where it does not."""
        speed = float(motion.speed()[row])
        return self._rests(motion, row, speed) if speed <= self.rate else None

    def _rests(self, motion: Motion, row: int, speed: float) -> str | None:
        """Say that a drop as slow as that rests; None where it stands on a saddle."""
        bottom = float(motion.sharpness()[1][row])
        if self.curvature is not None and bottom == bottom:
            if bottom >= -self.curvature:  # only then: a few Lanczos steps may have missed a slightly negative one
                bottom = min(bottom, motion.least(row))
            if bottom < -self.curvature:
                return None
        least = "" if bottom != bottom else f", λmin {bottom:.3g}"
        return f"steady state: ‖dθ/dt‖ {speed:.3g} ≤ {self.rate:g}{least}"


@dataclass(frozen=True)
class LossTarget(Event):
    """The loss has come down to `value`; a path that begins there ends at once."""

    value: float
    name = "loss target"

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return the rows that reached the target."""
        if piece.value1 is None or piece.value0 is None:
            raise UsageError("LossTarget needs a field with a loss; this one has none. Use your own event: gf.When(f).")
        hit = ((piece.value1 <= self.value) & (piece.value0 > self.value)).nonzero()[:, 0].tolist()
        return [(i, _bisect(self, piece, i), f"loss reached {self.value:g}") for i in hit]

    def holds(self, motion: Motion, row: int) -> str | None:
        """Say that the loss is that low where a drop begins; None where it is not."""
        loss = motion.loss()
        if loss is None:
            raise UsageError("LossTarget needs a field with a loss; this one has none. Use your own event: gf.When(f).")
        begin = float(loss[row])
        return f"the loss is {begin:.6g} at the start, not above {self.value:g}" if begin <= self.value else None

    def level(self, theta: Tensor, value: float) -> float | None:
        """Return the loss above the target."""
        return value - self.value


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
        return [(i, _bisect(self, piece, i), text) for i in out]

    def holds(self, motion: Motion, row: int) -> str | None:
        """Say that a drop begins outside; None where it does not."""
        beyond = float(self._beyond(motion.theta[row : row + 1])[0])
        return f"the start is {beyond:.3g} outside the ball of radius {self.radius:g}" if beyond > 0 else None

    def level(self, theta: Tensor, value: float) -> float | None:
        """Return the room left to the sphere."""
        return -float(self._beyond(theta))


@dataclass(frozen=True)
class When(Event):
    """The caller's own event: the path ends where `function` of one point, shape (P,), comes down through zero.

    Args:
        function: a point to a number, positive until the path should end; a function that returns a bool ends the path
            at the first step where it is true. Where it is not positive, or true, at the start the path ends there.
        name: what the status calls it.
    """

    function: Callable[[Tensor], float | bool | Tensor]
    name: str = "event"

    def fired(self, piece: Piece, motion: Motion) -> list[tuple[int, float, str]]:
        """Return the rows where the function came down to zero, or became true."""
        found = []
        for i in range(len(piece.rows)):
            after = self.function(piece.theta1[i])
            if _no_number(after):
                if after:
                    found.append((i, float(piece.t1[i]), self.name))
            elif float(after) <= 0 < float(self.function(piece.theta0[i])):
                found.append((i, _bisect(self, piece, i), self.name))
        return found

    def holds(self, motion: Motion, row: int) -> str | None:
        """Say that the function is not positive, or true, where a drop begins; None where it is not so."""
        at = self.function(motion.theta[row])
        if _no_number(at):
            return f"{self.name} is true at the start" if at else None
        return f"{self.name} is {float(at):.6g} at the start, not above 0" if float(at) <= 0 else None

    def level(self, theta: Tensor, value: float) -> float | None:
        """Return the function's value, where it is a number."""
        at = self.function(theta)
        return None if _no_number(at) else float(at)


def _no_number(at: Any) -> bool:
    """Whether a function answered yes or no: Python's bool, or that of PyTorch or NumPy."""
    return isinstance(at, bool) or str(getattr(at, "dtype", "")) in ("torch.bool", "bool")


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


def at_start(events: list[Event], motion: Motion) -> None:
    """End the drops that begin where an event holds already."""
    for row in motion.live.nonzero()[:, 0].tolist():
        for event in events:
            text = event.holds(motion, row)
            if text is not None:
                motion.end(torch.tensor([row]), Status("event", f"{text}: the path ends at t = 0."))
                break


def check(events: list[Event], piece: Piece, motion: Motion) -> dict[int, tuple[float, Status, Tensor | None]]:
    """Return for each row of the piece the first event that happened in it: when, the status, and the point there.

    Events are found on the interpolated path; where they are is then settled by steps of the solver itself.
    """
    first: dict[int, tuple[float, Event, str]] = {}
    for event in events:
        for i, t, text in event.fired(piece, motion):
            if i not in first or t < first[i][0]:
                first[i] = (t, event, text)
    found: dict[int, tuple[float, Status, Tensor | None]] = {}
    for i, (t, event, text) in first.items():
        theta = None
        if piece.rate1 is None:  # between two steps there is no descent
            t = float(piece.t1[i])
        else:
            t, theta = _settle(event, piece, i, motion, t)
        found[i] = (t, Status("event", text + f" at t = {t:.9g}."), theta)
    return found


def _settle(event: Event, piece: Piece, i: int, motion: Motion, guess: float) -> tuple[float, Tensor | None]:
    """Return where the event is on the path that the solver takes, by the Illinois method, and the point there."""
    low, high = float(piece.t0[i]), float(piece.t1[i])
    value0 = float("nan") if piece.value0 is None else float(piece.value0[i])
    value1 = float("nan") if piece.value1 is None else float(piece.value1[i])
    above, below = event.level(piece.theta0[i], value0), event.level(piece.theta1[i], value1)
    if above is None or below is None or not above > 0 >= below:
        return guess, None
    t, point = guess, piece.theta1[i]
    if not low < t < high:
        return high, None
    best = (high, piece.theta1[i])
    for _ in range(40):
        point, value = motion.peek(piece, i, t)
        now = event.level(point, value)
        if now is None or now != now:
            break
        if now > 0:
            low, above, below = t, now, 0.5 * below
        else:
            high, below, above = t, now, 0.5 * above
            best = (t, point)
        if now == 0 or high - low <= 1e-13 * max(abs(high), 1e-300):
            break
        t = low + (high - low) * above / (above - below) if above != below else 0.5 * (low + high)
        if not low < t < high:
            t = 0.5 * (low + high)
    return best


def _bisect(event: Event, piece: Piece, i: int) -> float:
    """Return where the event's level, positive at the beginning of the piece, comes down to zero on the interpolated path."""
    low, high = float(piece.t0[i]), float(piece.t1[i])
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        level = event.level(*piece.at(i, middle))
        if level is not None and level > 0:
            low = middle
        else:
            high = middle
    return high
