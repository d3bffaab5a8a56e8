"""Where data enters the first layers: what is known of it, and the interventions that treat it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.remedies.acting.base import quietly
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.acting.leaves import LAYERS, leaf_of
from gradientflow.limits import Limit
from gradientflow.ops import RECURRENT

ENOUGH = Limit("rows_seen", 64, "chosen: after these the statistics of tiny batches stand still")
OWN_ROWS = Limit("rows_of_a_batch", 8, "chosen: a batch of fewer is too small to be standardised by itself")
STILL = Limit("spread_over_level", 1e-6, "chosen: what varies less is rounding of a column that is constant")


@dataclass
class Entry:
    """Data that enters a layer: where it stands among the arguments, its dimension of columns, and the layer's weight."""

    data: Tensor
    position: int
    columns: int
    weight: Tensor


def entry_of(call: Call) -> Entry | None:
    """Return the data that a call of a layer joins with a weight; None where no data (nothing that carries a gradient) enters.

    Without gradients everything looks like data: the caller has to know the weights of the first layers.
    """
    names = ("input", "self")
    if call.name in RECURRENT:
        weight = next((t for t in call.tensors() if t.is_leaf and t.requires_grad and t.dim() == 2), None)
        data = call.argument(0, *names)
        if weight is None or not is_data(data) or data.dim() < 2 or (len(call.args) > 1 and _packed(call)):
            return None
        return Entry(data, 0, -1, weight)
    if call.name in LAYERS or call.name == "mul":
        first = 1 if call.name in ("addmm", "addmv", "baddbmm") else 0
        one, two = call.argument(first, *names, "mat1"), call.argument(first + 1, "weight", "other", "mat2", "tensor2")
        for data, other, position in ((one, two, first), (two, one, first + 1)):
            found = leaf_of(other)
            if found is not None and is_data(data):
                if call.name in ("linear",) or position == first:
                    columns = -1
                else:
                    columns = -2 if data.dim() > 1 else -1
                if call.raw == "__rmatmul__":
                    columns = -2 if columns == -1 else -1
                if call.name.startswith("conv"):
                    columns = 1 if data.dim() == other.dim() else 0
                return Entry(data, position, columns, found[0])
    return None


def is_data(t: Any) -> bool:
    return isinstance(t, Tensor) and t.is_floating_point() and not t.requires_grad and t.dim() >= 1


def _telling(data: Tensor) -> bool:
    """Whether a tensor can be data: it has several entries, and not all are zero (the first state of a recurrence)."""
    with quietly():
        return data.numel() > 1 and bool(data.any())


def _packed(call: Call) -> bool:
    return isinstance(call.args[1], Tensor) and call.args[1].dtype == torch.int64


class Column:
    """Mean and spread, column by column, of the first batch; of the first rows together, where batches are tiny."""

    def __init__(self) -> None:
        self.rows = 0
        self.whole = False  # whether the first batch was large enough by itself
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None
        self._anchor: Tensor | None = None
        self.shift: Tensor | None = None
        self.scale: Tensor | None = None

    def learn(self, data: Tensor, columns: int) -> None:
        """Look at a batch, unless enough was seen."""
        if self.rows and (self.whole or self.rows >= ENOUGH):
            return
        wide = (
            data.double().movedim(columns, -1).reshape(-1, data.shape[columns])
            if data.dim() > 1
            else data.double().reshape(-1, 1)
        )
        wide = torch.where(torch.isfinite(wide), wide, torch.zeros_like(wide))
        if self._sum is None or self._squares is None or self._anchor is None:
            self.whole = wide.shape[0] >= OWN_ROWS
            self._anchor = wide.mean(0)
            self._sum, self._squares = torch.zeros_like(self._anchor), torch.zeros_like(self._anchor)
        self._sum = self._sum + (wide - self._anchor).sum(0)
        self._squares = self._squares + (wide - self._anchor).square().sum(0)
        self.rows += wide.shape[0]
        mean = self._sum / self.rows
        spread = (self._squares / self.rows - mean.square()).clamp(min=0.0).sqrt()
        level = (mean + self._anchor).abs()
        few = max(
            0.0, 1.0 - self.rows / OWN_ROWS
        )  # the first rows of tiny batches: by their size as much as by their spread
        spread = (1.0 - few) * spread + few * level
        overall = float(spread.square().mean().sqrt())
        still = spread <= STILL * level.clamp(min=1e-30)
        one = torch.ones_like(spread)
        size = torch.where(level > 0, level, torch.full_like(level, overall or 1.0))
        self.scale = torch.where(still, torch.where(level == 1.0, one, size), spread)
        self.shift = torch.where(still, 0.0, (mean + self._anchor) * (1.0 - few))

    def apply(self, data: Tensor, columns: int) -> Tensor:
        """Return the data less its shift, over its scale."""
        assert self.shift is not None and self.scale is not None
        if data.dim() <= 1:
            return (data - float(self.shift)) / float(self.scale)
        shape = [1] * data.dim()
        shape[columns] = -1
        shift, scale = (t.to(device=data.device).reshape(shape) for t in (self.shift, self.scale))
        return ((data.double() - shift) / scale).to(data.dtype)


class AtTheEntrance(OnCalls):
    """An intervention on the data that enters the first layers, in training, and in what comes after with the same weights."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._first: dict[int, tuple[Tensor, Any]] = {}

    def wants(self, name: str) -> bool:
        """Whether it is a layer."""
        named = {p.op for p in self.change.places}
        return name in LAYERS | RECURRENT or (name == "mul" and name in named)

    def before(self, call: Call) -> None:
        """Put the treated data in the data's place."""
        entry = entry_of(call)
        if entry is None:
            return
        known = self._first.get(id(entry.weight))
        if known is None or known[0] is not entry.weight:
            if not torch.is_grad_enabled() or not _telling(entry.data) or not self.here(call):
                return
            known = self._first[id(entry.weight)] = (entry.weight, self.fresh())
        training = torch.is_grad_enabled()
        with quietly():
            treated = self.treated(entry, known[1], training)
        if treated is not None:
            self.acted += 1
            call.put(treated, entry.position, "input", "self")

    def fresh(self) -> Any:
        """Return what is remembered for one first layer."""

    def treated(self, entry: Entry, known: Any, training: bool) -> Tensor | None:
        """Return what is to enter in the data's place; None to leave it."""
