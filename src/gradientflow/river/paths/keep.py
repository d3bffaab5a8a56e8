"""What is kept of a path: statistics by default, points only where asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.river.paths.motion import Motion, Piece

SMALL = 8  # parameters up to which the points are kept without being asked for
GRID = 65  # moments of an ensemble when nobody says


@dataclass(frozen=True)
class Keep:
    """What to keep of a path, and when.

    Args:
        at: flow times, ascending; between steps the path is interpolated (cubic Hermite, no further gradient).
            None: every accepted step; for an ensemble 65 times evenly from 0 to the end.
        theta: keep the points themselves, n × P numbers. None: only where P ≤ 8.
        exact: let steps end at these times instead of interpolating; more steps, no interpolation error. None: where
            rtol is below 1e-6, which the cubic between two long steps would spoil.
        every: keep every so many accepted steps (without `at`); the start and the end are always kept.
        functions: name → function of one point, shape (P,), whose results are kept in ``path.kept``.

    Raises:
        UsageError: times that are not ascending or not finite, or `every` below 1.

    Example:
        >>> Keep(at=[0.0, 1.0, 10.0], theta=True, functions={"norm": lambda w: w.norm()}).every
        1
    """

    at: Sequence[float] | Tensor | None = None
    theta: bool | None = None
    exact: bool | None = None
    every: int = 1
    functions: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"Keep(every=…) must be 1 or more, got {self.every}.")
        times = self.times
        if times is not None and (
            len(times) == 0 or not bool(torch.isfinite(times).all()) or bool((times.diff() <= 0).any())
        ):
            raise UsageError("Keep(at=…) wants finite flow times in ascending order, at least one.")

    def asked(self) -> dict[str, Any]:
        """Return what was asked to be kept, as plain data: a path resumes only with the same."""
        return {
            "at": repr(None if self.times is None else self.times.tolist()), "every": self.every, "exact": self.exact,
            "theta": self.theta, "functions": sorted(self.functions),
        }  # fmt: skip

    @property
    def times(self) -> Tensor | None:
        """The times asked for, float64, or None."""
        return None if self.at is None else torch.as_tensor(self.at, dtype=torch.float64).reshape(-1)


class Sampler:
    """Collects the moments of one drop."""

    columns = ("times", "loss", "grad_norm", "sharpness", "lambda_min", "step", "stages")

    def __init__(self, keep: Keep, size: int) -> None:
        self.keep = keep
        self.with_theta = size <= SMALL if keep.theta is None else keep.theta
        self.rows: list[tuple[float, ...]] = []
        self.theta: list[Tensor] = []
        self.kept: dict[str, list[Tensor]] = {n: [] for n in keep.functions}
        self.pending = None if keep.times is None else keep.times.tolist()
        self.steps = 0

    def begin(self, motion: Motion) -> None:
        """Take the start."""
        if self.pending is None or self.pending[0] <= 0:
            self._moment(0.0, motion.theta[0], _first(motion.loss()), float(motion.speed()[0]), motion, 0.0, 0)
            self.pending = None if self.pending is None else self.pending[1:]

    def take(self, piece: Piece, motion: Motion, end: float | None = None) -> None:
        """Take what is wanted of a piece, up to `end` where an event cut it short."""
        self.steps += 1
        t0, t1 = float(piece.t0[0]), float(piece.t1[0]) if end is None else end
        if self.pending is not None:
            while self.pending and self.pending[0] <= t1:
                self._within(piece, self.pending.pop(0), motion)
        elif self.steps % self.keep.every == 0 or end is not None or t1 >= motion.t_end:
            if end is None:
                value = None if piece.value1 is None else float(piece.value1[0])
                self._moment(t1, piece.theta1[0], value, float(piece.speed1[0]), motion, t1 - t0, int(piece.stages[0]))
            else:  # the motion stands at the event already
                loss = motion.loss()
                self._moment(
                    t1, motion.theta[0], _first(loss), float(motion.speed()[0]), motion, t1 - t0, int(piece.stages[0])
                )

    def close(self, motion: Motion) -> None:
        """Take the end, where it is not there yet."""
        t = float(motion.t[0])
        if self.pending is None and (not self.rows or self.rows[-1][0] < t):
            self._moment(t, motion.theta[0], _first(motion.loss()), float(motion.speed()[0]), motion, 0.0, 0)

    def _within(self, piece: Piece, t: float, motion: Motion) -> None:
        value = None if piece.value1 is None else piece.value(0, t)
        if value is not None and not piece.falls and piece.rate1 is not None:  # no slope is known: ask
            value = float(motion.meter.value(piece.at(0, t)[None]))
        length = float(piece.t1[0] - piece.t0[0])
        self._moment(t, piece.at(0, t), value, piece.speed(0, t), motion, length, int(piece.stages[0]))

    def _moment(
        self, t: float, theta: Tensor, loss: float | None, speed: float, motion: Motion, step: float, stages: int
    ) -> None:
        top, bottom = motion.sharpness()
        loss = float("nan") if loss is None else loss
        self.rows.append((t, loss, speed, float(top[0]), float(bottom[0]), step, stages))
        if self.with_theta:
            self.theta.append(theta.detach().clone())
        for name, number in motion.extra().items():
            self.kept.setdefault(name, []).append(torch.tensor(number, dtype=torch.float64))
        for name, function in self.keep.functions.items():
            self.kept[name].append(_number(function(theta.detach().clone())))

    def arrays(self) -> dict[str, Any]:
        """Return the columns, θ and the kept functions, as they go into a path."""
        table = torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(self.columns))
        out: dict[str, Any] = {n: table[:, i].clone() for i, n in enumerate(self.columns)}
        out["stages"] = out["stages"].to(torch.int64)
        out["theta"] = torch.stack(self.theta) if self.theta else None
        out["kept"] = {n: torch.stack(v) for n, v in self.kept.items() if v}
        return out

    def freeze(self) -> dict[str, Any]:
        """Return what was collected, as plain data."""
        return {"rows": self.rows, "theta": self.theta, "kept": self.kept, "pending": self.pending, "steps": self.steps}

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        self.rows = [tuple(r) for r in state["rows"]]
        self.theta, self.kept = list(state["theta"]), {n: list(v) for n, v in state["kept"].items()}
        self.pending, self.steps = state["pending"], state["steps"]


class GridSampler:
    """Collects the moments of many drops at common times."""

    def __init__(self, keep: Keep, drops: int, size: int, t_end: float, like: Tensor) -> None:
        if keep.functions:
            raise UsageError(
                "Keep(functions=…) is for single paths; on an ensemble keep the points (theta=True) and apply them after."
            )
        times = keep.times if keep.times is not None else torch.linspace(0.0, t_end, GRID, dtype=torch.float64)
        self.times = times
        n = len(times)
        nan = float("nan")
        self.values = torch.full((n, drops), nan, dtype=torch.float64)
        self.rates = torch.full((n, drops), nan, dtype=torch.float64)
        with_theta = size <= SMALL if keep.theta is None else keep.theta
        self.theta = torch.full((n, drops, size), nan, dtype=like.dtype) if with_theta else None
        self.next = torch.zeros(drops, dtype=torch.int64)
        self.steps = torch.zeros(drops, dtype=torch.int64)

    def begin(self, motion: Motion) -> None:
        """Take the start."""
        if float(self.times[0]) <= 0:
            loss = motion.loss()
            if loss is not None:
                self.values[0] = loss
            self.rates[0] = motion.speed()
            if self.theta is not None:
                self.theta[0] = motion.theta.cpu()
            self.next += 1

    def take(self, piece: Piece, motion: Motion, ends: dict[int, float] | None = None) -> None:
        """Take the times that lie within a piece, all drops at once; `ends`: row of the piece → where an event cut it."""
        self.steps[piece.rows] += 1
        last = piece.t1.clone()
        for i, t in (ends or {}).items():
            last[i] = t
        while True:
            k = self.next[piece.rows]
            inside = k < len(self.times)
            when = self.times[k.clamp_max(len(self.times) - 1)]
            inside &= when <= last
            if not bool(inside.any()):
                return
            rows, k, when = piece.rows[inside], k[inside], when[inside]
            self._hermite(piece, inside, rows, k, when)
            self.next[rows] += 1

    def _hermite(self, piece: Piece, inside: Tensor, rows: Tensor, k: Tensor, when: Tensor) -> None:
        h = (piece.t1 - piece.t0)[inside]
        s = ((when - piece.t0[inside]) / h).clamp(0.0, 1.0)
        a, b = piece.speed0[inside].clamp_min(1e-300), piece.speed1[inside].clamp_min(1e-300)
        self.rates[k, rows] = a ** (1 - s) * b**s
        if piece.value0 is not None and piece.value1 is not None:
            va, vb = piece.value0[inside].double().cpu(), piece.value1[inside].double().cpu()
            between = va + s * (vb - va)
            if piece.falls:
                da, db = -(piece.speed0[inside] ** 2), -(piece.speed1[inside] ** 2)
                between = va * (1 + 2 * s) * (1 - s) ** 2 + vb * s * s * (3 - 2 * s)
                between += h * (da * s * (1 - s) ** 2 + db * s * s * (s - 1))
                between = torch.minimum(torch.maximum(between, torch.minimum(va, vb)), torch.maximum(va, vb))
            self.values[k, rows] = between
        if self.theta is None:
            return
        s_, h_ = s.to(piece.theta0)[:, None], h.to(piece.theta0)[:, None]
        one = piece.theta0[inside] * ((1 + 2 * s_) * (1 - s_) ** 2) + piece.theta1[inside] * (s_ * s_ * (3 - 2 * s_))
        if piece.rate0 is not None and piece.rate1 is not None:
            one = one + h_ * (piece.rate0[inside] * s_ * (1 - s_) ** 2 + piece.rate1[inside] * s_ * s_ * (s_ - 1))
        self.theta[k, rows] = one.cpu()

    def close(self, motion: Motion) -> None:
        """Nothing is left to take."""

    def freeze(self) -> dict[str, Any]:
        """Return what was collected."""
        return dict(vars(self))

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        vars(self).update(state)


def _number(result: Any) -> Tensor:
    """Return what a function of θ returned as a tensor; numbers of Python keep all their digits."""
    kind = torch.float64 if isinstance(result, float) else None
    return torch.as_tensor(result, dtype=kind).detach().clone()


def _first(values: Tensor | None) -> float | None:
    return None if values is None else float(values[0])
