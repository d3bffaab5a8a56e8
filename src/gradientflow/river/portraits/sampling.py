"""Samples of a field in a plane: coarse first, then finer, in batches that fit memory, as many as a time allows.

A grid of one level holds that of the level before: no point is evaluated twice, and n × n samples cost n² gradients in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields.base import Evaluation, Field
from gradientflow.river.paths.meter import Meter
from gradientflow.river.portraits.box import Box
from gradientflow.river.portraits.plane import Plane

SIDES = (3, 5, 9, 17, 25, 33, 41, 49, 65, 81, 97, 129, 161, 193, 257)  # of a grid: each holds 3 × 3, from 9 on 9 × 9
FIRST = 9  # side of the coarsest grid that is handed out, but where a finer one would take too long
BETTER = 33  # side from which on 17 × 17 are a small part
FINEST = 193  # side that a time alone leads to: finer than a figure shows
ROOM = 1 << 28  # bytes of the vectors of a batch
HELD = 4  # vectors of P numbers for each row of it
ROWS = 4096
BEGIN, GROWS = 4, 4  # rows that the first batch is less than four times of, and how much larger the next one may be
SPELL = 0.25  # seconds of a batch, about: so long it takes at most until a sampling that is not wanted any more ends
SHARE = 0.9  # of the time left that is planned with
LATE = 1.5  # times the time asked for, when a level that takes longer than thought is given up

Progress = Callable[[int, int], bool | None]


@dataclass(frozen=True, slots=True)
class Samples:
    """A grid of samples, rows of equal second coordinate from the bottom.

    Attributes:
        n: samples along each side.
        table: rate along both axes, loss and leak, shape (n, n, 4), float64; NaN where there is none.
        gradients: spent so far on all grids.
        seconds: taken so far.
    """

    n: int
    table: Tensor
    gradients: int
    seconds: float


class Sounding:
    """A field over a box of a plane, being sampled.

    Args:
        field: dθ/dt on all P parameters.
        plane: a slice of its space.
        box: which part of it.
        progress: called after each batch with the gradients made and those of the level; returns False to end.

    Attributes:
        meter: counts what is spent.
        notes: what a reader should know.
        ended: `progress` said so, or the time was up.
        whole: the last level was filled in.
    """

    def __init__(self, field: Field, plane: Plane, box: Box, progress: Progress | None = None) -> None:
        if field.size and field.size != plane.size:
            raise UsageError(f"{field.name} has {field.size} parameters; the plane lies in a space of {plane.size}.")
        self.field, self.plane, self.box, self.progress = field, plane, box, progress
        self.meter = Meter(field, plane.centre)
        self.notes: list[str] = []
        self.ended, self.whole = False, False
        self._single = False
        self._most = max(1, min(ROWS, ROOM // (HELD * plane.size * plane.centre.element_size())))
        self._last = BEGIN  # rows of the last batch
        self._each = float("nan")  # seconds of a gradient, in the last level
        self._until = float("inf")

    def levels(self, n: int | None, seconds: float | None) -> Iterator[Samples]:
        """Sample level by level.

        Args:
            n: side of the last grid, one of `SIDES`; None: as fine as the time allows.
            seconds: for all of it; None: as long as it takes.

        Yields:
            Each grid when it is whole.
        """
        began = time.perf_counter()
        self._until = float("inf") if seconds is None else began + LATE * seconds
        table, side = torch.full((1, 1, 4), float("nan"), dtype=torch.float64), 1
        while True:
            left = None if seconds is None else began + seconds - time.perf_counter()
            aim = self._aim(side, n, left)
            if aim == side:
                return
            side, table = self._finer(table, side, _next(side, aim, timed=left is not None))
            if not self.whole:
                return
            last = self._aim(side, n, None if seconds is None else began + seconds - time.perf_counter()) == side
            if side >= FIRST or last:
                yield Samples(side, table, self.meter.gradients, time.perf_counter() - began)
            if self.ended:
                return

    def _aim(self, side: int, n: int | None, left: float | None) -> int:
        """Return the side of the finest grid that holds this one and can be afforded."""
        able = [s for s in SIDES if s > side and (s - 1) % max(side - 1, 1) == 0 and s <= (n or FINEST)]
        if left is not None and side > 1:
            able = [s for s in able if (s * s - side * side) * self._each <= SHARE * left]
        return max(able, default=side)

    def _finer(self, table: Tensor, side: int, to: int) -> tuple[int, Tensor]:
        """Fill in a grid that holds the present one."""
        fresh = torch.full((to, to, 4), float("nan"), dtype=torch.float64)
        known = torch.zeros(to, to, dtype=torch.bool)
        if side > 1:
            stride = (to - 1) // (side - 1)
            fresh[::stride, ::stride] = table
            known[::stride, ::stride] = True
        x, y = _lattice(self.box, to)
        rows, columns = (~known).nonzero(as_tuple=True)
        began, done = time.perf_counter(), 0
        while done < len(rows):
            batch = slice(done, done + self._batch())
            i, j = rows[batch], columns[batch]
            there = self._evaluate(self.plane.lift(x[j], y[i]).to(dtype=self.field.dtype, device=self.field.device))
            along, leak = self.plane.split(there.rate)
            loss = (
                torch.full_like(leak, float("nan")) if there.value is None else there.value.reshape(-1).double().cpu()
            )
            fresh[i, j] = torch.cat([along, loss[:, None], leak[:, None]], dim=1)
            done += len(i)
            self._last = len(i)
            now = time.perf_counter()
            self._each = (now - began) / done
            wanted = self.progress is None or self.progress(done, len(rows)) is not False
            if not wanted or now > self._until:
                self.ended = True
                break
        self.whole = done >= len(rows)
        return to, fresh

    def _batch(self) -> int:
        fits = round(SPELL / self._each) if self._each > 0 else GROWS * self._last
        return max(1, min(self._most, fits, GROWS * self._last))

    def _evaluate(self, points: Tensor) -> Evaluation:
        """Evaluate the field at rows, one by one where it takes no more; a loss field sees to that itself."""
        if not self._single:
            try:
                return self.meter(points)
            except (FieldError, torch.OutOfMemoryError):
                raise
            except (RuntimeError, ValueError, TypeError) as problem:  # what torch.func.vmap says to `if` and `.item()`
                if len(points) == 1:
                    raise
                self._single = True
                why = str(problem).strip().split("\n")[0]
                self.notes.append(f"{self.field.name} takes one point at a time ({why})")
        each = [self.meter(row) for row in torch.split(points, 1)]
        values = [e.value.reshape(-1) for e in each if e.value is not None]
        return Evaluation(torch.cat([e.rate for e in each]), torch.cat(values) if len(values) == len(each) else None)


def nearest(n: int) -> int:
    """Return the side of a grid that is nearest to what was asked for.

    Raises:
        UsageError: it is not at least 2.

    Example:
        >>> nearest(64), nearest(2000)
        (65, 257)
    """
    if not isinstance(n, int) or n < 2:
        raise UsageError(f"n is how many samples along each side of a plane: expected 3 to {SIDES[-1]}, got {n!r}.")
    return min(SIDES, key=lambda s: abs(s - n))


def _next(side: int, aim: int, *, timed: bool = False) -> int:
    """Return the next finer grid on the way to a side; `timed`: by one that tells better what a gradient takes.

    Example:
        >>> [_next(s, 97) for s in (1, 3, 5, 9, 17, 33)]
        [3, 5, 9, 17, 33, 97]
    """
    if side < FIRST:
        return min(SIDES[SIDES.index(side) + 1] if side > 1 else SIDES[0], aim)
    if timed and side == FIRST and aim >= BETTER:
        return 2 * FIRST - 1
    times = (aim - 1) // (side - 1)
    return 1 + (side - 1) * next(p for p in range(2, times + 1) if times % p == 0)


def _lattice(box: Box, n: int) -> tuple[Tensor, Tensor]:
    x0, x1, y0, y1 = box
    return torch.linspace(x0, x1, n, dtype=torch.float64), torch.linspace(y0, y1, n, dtype=torch.float64)
