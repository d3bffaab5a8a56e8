"""Which part of the weights is looked at around a step.

All of a small model. Of a large one a part that fits a fixed room, so that watching needs little memory and time beside
the step: as many tensors as `TENSORS`, and of each as many rows as make `ENTRIES` together. The part moves on from step
to step and comes round to every entry. The norm of a part of m among n entries stands for √(n/m) times as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Parameter

ENTRIES = 1 << 20  # that are copied ahead of a step: 4 MB of float32
TENSORS = 256  # whose norms are taken one by one: beyond this the calls, not the numbers, are what costs


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start … start + length` of a tensor along its longest axis, or all of it where `axis` is None."""

    index: int  # of the tensor in the list
    axis: int | None = None
    start: int = 0
    length: int = 0
    times: float = 1.0  # by which the piece's norm stands for the tensor's

    def of(self, t: Tensor) -> Tensor:
        """Return this piece of a tensor, a view."""
        return t if self.axis is None else t.narrow(self.axis, self.start, self.length)


class Rotation:
    """Deals the pieces out, step by step.

    Args:
        tensors: all that there are.
        entries: how many entries may be in a step's pieces together, beside small tensors and a row of each large one.
        count: how many tensors they may be of.
    """

    def __init__(self, tensors: Sequence[Tensor], entries: int = ENTRIES, count: int = TENSORS) -> None:
        self._shapes = [tuple(t.shape) if type(t) in (Tensor, Parameter) and not t.is_sparse else () for t in tensors]
        self._sizes = [t.numel() for t in tensors]
        self._entries, self._count = entries, count
        self._first = 0  # the tensor that the next step begins with
        self._turns = [0] * len(self._sizes)  # how often each was looked at
        self.partial_in_tensors = len(self._sizes) > count
        self.whole = not self.partial_in_tensors and sum(self._sizes) <= entries
        self._all = [Piece(i) for i in range(len(self._sizes))] if self.whole else []

    def next(self) -> list[Piece]:
        """Return the pieces of the next step."""
        if self.whole:
            return self._all
        chosen = self._tensors()
        size = sum(self._sizes[i] for i in chosen)
        share = self._entries / size if size > self._entries else 1.0
        return [self._piece(i, share) for i in chosen]

    def _tensors(self) -> list[int]:
        n = len(self._sizes)
        if not self.partial_in_tensors:
            return list(range(n))
        first, self._first = self._first, (self._first + self._count) % n
        return sorted(i % n for i in range(first, first + self._count))

    def _piece(self, index: int, share: float) -> Piece:
        shape = self._shapes[index]
        rows = max(shape, default=0)
        if self._sizes[index] <= self._entries // self._count:  # (too small to be worth a part)
            return Piece(index)
        length = max(1, math.floor(rows * share))
        if length >= rows:
            return Piece(index)
        turn = self._turns[index] % math.ceil(rows / length)
        self._turns[index] += 1
        start = min(turn * length, rows - length)  # the last piece ends where the rows end
        return Piece(index, shape.index(rows), start, length, math.sqrt(rows / length))
