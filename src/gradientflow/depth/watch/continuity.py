"""Are the weights ahead of a step those that the step before left? Asked at each step, of a few of them, bit for bit.

Whoever rewrites weights between two steps (an average copied back, a checkpoint loaded again, surgery) rewrites whole
tensors, as a rule; so a few entries of a few tensors tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from gradientflow.torch_internals import readable, transformed

_TENSORS = 4
_ENTRIES = 16  # of each


class Continuity:
    """Looks at the same few weights on either side of each step.

    Args:
        params: the optimizer's parameters.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        plain = [p for p in params if type(p) in (Tensor, Parameter) and not p.is_sparse and p.numel()]
        self._chosen = _spread([p for p in plain if p.is_contiguous()], _TENSORS)
        self._views: list[Tensor] = []  # of their entries
        self._places: list[int] | None = []  # where in memory those lie; None where they move, and no view is kept
        self._before: Tensor | None = None  # ahead of the last step
        self._left: Tensor | None = None  # behind it
        self.knows = False  # whether the last look compared anything

    def before(self) -> tuple[float, float | None, float] | None:
        """The step begins. Return (relative size, share of the last update that was taken back, share of entries) where weights
        were rewritten; None where they are what was left, or nothing is known.
        """
        began, left, now = self._before, self._left, self._sample()
        self._before = now
        self.knows = left is not None and now is not None and left.shape == now.shape
        if left is None or now is None or not self.knows or torch.equal(left, now):
            return None
        change = (now - left).double()
        size, weights = float(change.norm()), float(left.double().norm())
        if not math.isfinite(weights):
            return None
        if not math.isfinite(size):
            return math.inf, None, float((~torch.isfinite(now)).double().mean())
        undone = None
        if began is not None and began.shape == left.shape:
            update = (left - began).double()
            square = float((update * update).sum())
            undone = -float((change * update).sum()) / square if square > 0 else None
        return size / max(weights, 1e-300), undone, float((change != 0).double().mean())

    def after(self) -> None:
        """The step is over: keep what it left."""
        self._left = self._sample()

    def _sample(self) -> Tensor | None:
        if transformed() or not self._chosen or not all(map(readable, self._chosen)):
            return None
        with torch.no_grad():
            parts = self._entries()
            if len({(t.dtype, t.device) for t in parts}) > 1:
                parts = [t.double().cpu() for t in parts]
            return torch.cat(parts)

    def _entries(self) -> list[Tensor]:
        """Return the entries, as views: the same as before, as long as each parameter lies where it lay. (A view of one that was
        given other memory would hold the old.)
        """
        places = [p.data_ptr() for p in self._chosen]
        if self._places is not None and places != self._places:
            self._places = None if self._views else places
            self._views = [_middle(p) for p in self._chosen] if self._places else []
        return self._views or [_middle(p) for p in self._chosen]


def _middle(p: Tensor) -> Tensor:
    flat = p.detach().view(-1)
    start = max(0, flat.numel() // 2 - _ENTRIES // 2)
    return flat[start : start + _ENTRIES]


def _spread(params: list[Tensor], count: int) -> list[Tensor]:
    """Return so many of the parameters, evenly spread."""
    n = len(params)
    return params if n <= count else [params[i * (n - 1) // (count - 1)] for i in range(count)]
