"""What is kept of a path: statistics by default, points only where asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.river.fields.memory import refuse_beyond
from gradientflow.river.paths.gauge import TOP, Gauge
from gradientflow.river.paths.motion import Motion, Piece, rows

SMALL = 8  # parameters up to which the points are kept without being asked for
GRID = 65  # moments of an ensemble when nobody says
BEGINNING = 64  # moments that there is room for at first, where steps are kept
COLUMNS = ("times", "loss", "grad_norm", "step", "stages", "sharpness", "lambda_min", "sharpness_bound")
LOOKED = COLUMNS[5:]  # what is known of a moment only where somebody looked


class Projects(Protocol):
    """A plane, as a path sees it: θ ↦ both coordinates and the distance out of it, (3,), kept under its own name."""

    @property
    def key(self) -> str: ...
    def __call__(self, theta: Tensor) -> Tensor: ...


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
        sharpness: measure the so many largest Hessian eigenvalues at every kept moment, to 1 % of the largest: they are in
            ``path.kept["sharpness"]``, (n, k), and the largest is ``path.sharpness``. A moment takes some gradients more;
            ``path.cost.looking`` says how many in all. None: the largest, at some of the moments, for a twentieth of the
            gradients or little more; 0: none is kept, and nobody looks but the solver for its own sake.
        plane: a `gf.Plane`: keep the path's shadow in it, three numbers a moment instead of P, in ``path.kept[plane.key]``,
            (n, 3): both coordinates, and the distance from the plane.

    Raises:
        UsageError: times that are not ascending or not finite, `every` below 1, or `sharpness` below 0.

    Example:
        >>> Keep(at=[0.0, 1.0, 10.0], theta=True, functions={"norm": lambda w: w.norm()}).every
        1
    """

    at: Sequence[float] | Tensor | None = None
    theta: bool | None = None
    exact: bool | None = None
    every: int = 1
    functions: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    sharpness: int | None = None
    plane: Projects | None = None

    def __post_init__(self) -> None:
        if self.sharpness is not None and self.sharpness < 0:
            raise UsageError(f"Keep(sharpness=…) is how many eigenvalues, 0 or more, got {self.sharpness}.")
        if self.sharpness and set(TOP) & set(self.functions):
            raise UsageError(
                f"Keep(functions=…): {' and '.join(TOP)} are what Keep(sharpness=…) keeps; name yours otherwise."
            )
        if self.every < 1:
            raise UsageError(f"Keep(every=…) must be 1 or more, got {self.every}.")
        times = self.times
        if times is not None and (
            len(times) == 0 or not bool(torch.isfinite(times).all()) or bool((times.diff() <= 0).any())
        ):
            raise UsageError("Keep(at=…) wants finite flow times in ascending order, at least one.")

    @staticmethod
    def early(t: float, count: int) -> Tensor:
        """Return 0 and so many times up to t, closer together at the beginning, where the most happens: 10⁻⁵ t … t, evenly in log."""
        times = torch.logspace(-5, 0, count, dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), times]) * t

    def asked(self) -> dict[str, Any]:
        """Return what was asked to be kept, as plain data: a path resumes only with the same."""
        return {
            "at": repr(None if self.times is None else self.times.tolist()), "every": self.every, "exact": self.exact,
            "theta": self.theta, "functions": sorted(self.measures), "sharpness": self.sharpness,
        }  # fmt: skip

    @property
    def measures(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """All that is measured of a point, by name."""
        return dict(self.functions) | ({} if self.plane is None else {self.plane.key: self.plane})

    def gridded(self, t_end: float) -> Keep:
        """Return the same with times: what many drops are kept at, each of which has steps of its own."""
        return self if self.at is not None else replace(self, at=torch.linspace(0.0, t_end, GRID, dtype=torch.float64))

    @property
    def times(self) -> Tensor | None:
        """The times asked for, float64, or None."""
        return None if self.at is None else torch.as_tensor(self.at, dtype=torch.float64).reshape(-1)


class Sampler:
    """Collects the moments of drops: at common times, or, where none are given, at every so many steps of each.

    Moment k of a drop is row k of its column, whenever that drop comes by it; what no drop has come by is NaN. A single
    drop can afford more than a crowd: all columns, the loss asked for where no slope tells it between two steps, functions
    of θ, and its points where they are (those of a crowd go to main memory).

    Args:
        keep: what, and when.
        theta: the drops, (B, P).
    """

    def __init__(self, keep: Keep, theta: Tensor) -> None:
        drops, size = theta.shape
        self.keep, self.grid, self.single = keep, keep.times, drops == 1
        self.columns = COLUMNS if self.single else COLUMNS[:3]
        with_theta = size <= SMALL if keep.theta is None else keep.theta
        moments = BEGINNING if self.grid is None else len(self.grid)
        each = drops * (8.0 * len(self.columns) + (size * theta.element_size() if with_theta else 0))
        refuse_beyond(
            moments, each, f"{moments:,} moments of {drops:,} drops of {size:,} parameters",
            "Keep fewer moments (keep=gf.Keep(at=…)), fewer drops, or not the points (theta=False).",
        )  # fmt: skip
        nan = float("nan")
        self.table = torch.full((moments, drops, len(self.columns)), nan, dtype=torch.float64)
        home = theta.device if self.single else torch.device("cpu")
        self.theta = torch.full((moments, drops, size), nan, dtype=theta.dtype, device=home) if with_theta else None
        self.measures = keep.measures
        self.kept: dict[str, list[Tensor]] = {n: [] for n in self.measures}
        self.next = torch.zeros(drops, dtype=torch.int64)
        self.steps = torch.zeros(drops, dtype=torch.int64)
        self.gauge = Gauge(keep.sharpness)

    def begin(self, motion: Motion) -> None:
        """Take the start."""
        if self.grid is None or float(self.grid[0]) <= 0:
            self._stand(torch.arange(len(motion.t)), motion)

    def take(self, piece: Piece, motion: Motion, cuts: Mapping[int, float]) -> None:
        """Take what is wanted of a piece; `cuts`: row of the piece → where an event cut it short."""
        self.steps[piece.rows] += 1
        last = piece.t1.clone()
        for i, t in cuts.items():
            last[i] = t
        if self.grid is None:
            self._steps(piece, motion, last, cuts)
            return
        while True:
            k = self.next[piece.rows]
            when = self.grid[k.clamp_max(len(self.grid) - 1)]
            inside = ((k < len(self.grid)) & (when <= last)).nonzero()[:, 0]
            if len(inside) == 0:
                return
            self._between(piece, motion, inside, when[inside])

    def note(self, motion: Motion) -> None:
        """Write down what the motion has measured where it is, if that moment is kept."""
        looks, motion.looks = motion.looks, []
        k = int(self.next[0]) - 1
        for look in looks:
            if k >= 0 and float(self.table[k, 0, 0]) == look.t:
                if not self.keep.sharpness:
                    self._looked(k, look.top, look.bottom, look.bound)
                for name, value in look.more.items():
                    self.kept[name][k] = torch.tensor(value, dtype=torch.float64)

    def _looked(self, k: int, *found: float) -> None:
        first = self.columns.index(LOOKED[0])
        self.table[k, 0, first:] = torch.tensor(found, dtype=torch.float64)

    def close(self, motion: Motion) -> None:
        """Take the end, where it is not there yet."""
        if self.grid is None:
            on = torch.arange(len(motion.t))
            late = on[(self.next == 0) | (self.table[self.next - 1, on, 0] < motion.t)]
            if len(late):
                self._stand(late, motion)

    def _stand(self, on: Tensor, motion: Motion) -> None:
        """Take these drops as they stand."""
        none = torch.zeros(len(on), dtype=torch.float64)
        loss = motion.loss()
        self._put(
            on,
            motion,
            motion.t[on],
            None if loss is None else loss[on],
            motion.speed()[on],
            none,
            none,
            rows(motion.theta, on),
        )

    def _steps(self, piece: Piece, motion: Motion, last: Tensor, cuts: Mapping[int, float]) -> None:
        """Take the ends of the steps that are wanted; the drops that met an event stand there already."""
        wanted = (self.steps[piece.rows] % self.keep.every == 0) | (last >= motion.t_end)
        wanted[list(cuts)] = True
        on = wanted.nonzero()[:, 0]
        if len(on) == 0:
            return
        loss, speed, theta, who = piece.value1, piece.speed1[on], rows(piece.theta1, on), piece.rows[on]
        loss = None if loss is None else loss[on].double().cpu()
        if cuts:
            now = motion.loss()
            loss, speed, theta = None if now is None else now[who], motion.speed()[who], rows(motion.theta, who)
        self._put(who, motion, last[on], loss, speed, (last - piece.t0)[on], piece.stages[on], theta)

    def _between(self, piece: Piece, motion: Motion, on: Tensor, when: Tensor) -> None:
        """Take moments within steps."""
        wanted = (
            self.theta is not None
            or self.kept
            or (self.single and motion.meter.field.potential and self.keep.sharpness != 0)
        )
        theta = piece.points(on, when) if wanted else None
        loss = piece.losses(on, when)
        if self.single and loss is not None and not piece.falls and piece.rate1 is not None:  # no slope is known: ask
            loss = motion.meter.value(piece.points(on, when) if theta is None else theta).double().cpu()
        length = (piece.t1 - piece.t0)[on]
        self._put(piece.rows[on], motion, when, loss, piece.speeds(on, when), length, piece.stages[on], theta)

    def _put(
        self, on: Tensor, motion: Motion, t: Tensor, loss: Tensor | None, speed: Tensor, step: Tensor, stages: Tensor,
        theta: Tensor | None,
    ) -> None:  # fmt: skip
        k = self.next[on]
        self._grow(int(k.max()) + 1)
        loss = torch.full_like(t, float("nan")) if loss is None else loss
        row = (t, loss, speed, step, stages.double())[: len(self.columns)]
        self.table[k, on, : len(row)] = torch.stack(row, dim=1)
        if self.theta is not None and theta is not None:
            self.theta[k, on] = theta.detach().to(self.theta.device)
        self.next[on] += 1
        for name in motion.measured():
            self.kept.setdefault(name, []).append(torch.tensor(float("nan"), dtype=torch.float64))
        if self.single and theta is not None:
            self._measure(int(k[0]), theta, motion)
        for name, function in self.measures.items():
            assert theta is not None  # wanted where there are functions
            self.kept[name].append(_number(function(theta[0].detach().clone())))

    def _measure(self, k: int, theta: Tensor, motion: Motion) -> None:
        """Measure the sharpness at a kept moment: where it is asked for, or where no look of the solver's comes by."""
        between = self.grid is not None or self.keep.every > 1
        if not (self.keep.sharpness or (between and self.gauge.affordable(motion))) or not motion.meter.field.potential:
            return
        found = self.gauge.measure(motion, theta)
        self._looked(k, float(found.values[0]), found.bottom, float(found.residuals[0]))
        if self.keep.sharpness:
            for name, part in zip(TOP, (found.values, found.residuals), strict=True):
                self.kept.setdefault(name, []).append(part)

    def _grow(self, moments: int) -> None:
        """Make room for so many moments, by doubling."""
        more = max(moments, 2 * len(self.table)) - len(self.table)
        if moments <= len(self.table):
            return
        self.table = torch.cat([self.table, torch.full_like(self.table[:1], float("nan")).expand(more, -1, -1)])
        if self.theta is not None:
            self.theta = torch.cat([self.theta, torch.full_like(self.theta[:1], float("nan")).expand(more, -1, -1)])

    def column(self, name: str) -> Tensor:
        """Return one column, (moments, B)."""
        return self.table[:, :, self.columns.index(name)].clone()

    def arrays(self) -> dict[str, Any]:
        """Return the columns of a single drop, its θ and the kept functions, as they go into a path."""
        n = int(self.next[0])
        out: dict[str, Any] = {name: self.column(name)[:n, 0] for name in self.columns}
        out["stages"] = out["stages"].to(torch.int64)
        out["theta"] = None if self.theta is None or n == 0 else self.theta[:n, 0].clone()
        out["kept"] = {name: torch.stack(v) for name, v in self.kept.items() if v}
        return out

    def freeze(self) -> dict[str, Any]:
        """Return what was collected, as plain data."""
        return {n: getattr(self, n) for n in ("table", "theta", "kept", "next", "steps")} | {"warm": self.gauge.warm}

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        vars(self).update({n: v for n, v in state.items() if n != "warm"})
        self.gauge.warm = state["warm"]
        self.kept = {n: list(v) for n, v in state["kept"].items()}


def _number(result: Any) -> Tensor:
    """Return what a function of θ returned as a tensor; numbers of Python keep all their digits."""
    kind = torch.float64 if isinstance(result, float) else None
    return torch.as_tensor(result, dtype=kind).detach().clone()
