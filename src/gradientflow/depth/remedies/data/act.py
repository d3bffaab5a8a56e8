"""Remedies where data enters: inputs standardised, absurd entries repaired, targets standardised."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradientflow.depth.remedies.acting.around_steps import OnSteps, norm_of
from gradientflow.depth.remedies.acting.base import Together, quietly
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.depth.remedies.data.entrance import ENOUGH, OWN_ROWS, AtTheEntrance, Column, Entry, is_data
from gradientflow.depth.remedies.data.limits import NORMS, OUT_OF_LINE
from gradientflow.limits import Limit
from gradientflow.ops import COMPARING
from gradientflow.records import Change

ABSURD = Limit("robust_deviations", 50.0, "chosen: of a column's entries; heavy tails stay below")
ONE_VALUE = Limit("spread_over_mean", 1e-12, "chosen: targets that differ by no more than rounding are all equal")
_MAD = 1.4826  # standard deviations of a normal distribution in one median deviation (Hampel 1974)
_SORTED = 1_000_000  # entries of which a quantile is taken


class ScaleInput(AtTheEntrance):
    """Data that enters the first layers, standardised column by column by the statistics of the first batch.

    With `mean` and `std` in the settings (a number each, or one for each column) by those.
    """

    def fresh(self) -> Column:
        """Return columns of which nothing is known yet, or what the settings say of them."""
        column, settings = Column(), self.change.settings
        if "mean" in settings and "std" in settings:
            column.rows, column.whole = int(ENOUGH), True
            column.shift, column.scale = (
                torch.tensor(settings[name], dtype=torch.float64).reshape(-1) for name in ("mean", "std")
            )
        return column

    def treated(self, entry: Entry, known: Column, training: bool) -> Tensor | None:
        """Standardise."""
        if training or known.scale is None:
            known.learn(entry.data, entry.columns)
        return known.apply(entry.data, entry.columns)


class RepairRows(AtTheEntrance):
    """Entries that are not finite, or absurd (more than `ABSURD` robust deviations from the median), become the column's median."""

    def fresh(self) -> dict[str, Tensor]:
        """Return a memory for the columns' medians."""
        return {}

    def treated(self, entry: Entry, known: dict[str, Tensor], training: bool) -> Tensor | None:
        """Repair, where there is something to repair."""
        data = entry.data
        wide = (
            data.double().movedim(entry.columns, -1).reshape(-1, data.shape[entry.columns])
            if data.dim() > 1
            else data.double().reshape(-1, 1)
        )
        if "middle" not in known and wide.shape[0] >= OWN_ROWS:
            middle = torch.nan_to_num(wide.nanmedian(0).values)
            reach = torch.nan_to_num((wide - middle).abs().nanmedian(0).values)
            level = (
                torch.nan_to_num(wide.abs(), nan=0.0, posinf=0.0).quantile(0.9)
                if wide.numel() < _SORTED
                else reach.max()
            )
            known["middle"] = middle
            known["reach"] = torch.where(reach > 0, _MAD * reach, torch.maximum(middle.abs(), level))
        middle = known.get("middle", torch.zeros(wide.shape[1], dtype=wide.dtype, device=wide.device))
        bad = ~torch.isfinite(wide)
        if "reach" in known:
            bad |= (wide - middle).abs() > self.number("deviations", ABSURD) * known["reach"].clamp(min=1e-30)
        if not bool(bad.any()):
            return None
        mended = torch.where(bad, middle.expand_as(wide), wide).to(data.dtype)
        if data.dim() <= 1:
            return mended.reshape(data.shape)
        return mended.reshape(data.movedim(entry.columns, -1).shape).movedim(-1, entry.columns)


class ScaleTarget(OnCalls):
    """Where a loss compares an answer with data, the data is standardised by the first batch's mean and spread.

    `power` in the settings says how the loss grows with the difference, where it is written by hand: 2 squared, 1 absolute.
    """

    names = frozenset(COMPARING)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._shift = self._scale = math.nan
        settings = self.change.settings
        if "mean" in settings and "std" in settings:
            self._shift, self._scale = self.number("mean", 0.0), self.number("std", 1.0)

    def before(self, call: Call) -> None:
        """Put the standardised target in the target's place."""
        if not torch.is_grad_enabled():
            return
        for data, answer, position in self._pairs(call):
            if not (isinstance(answer, Tensor) and answer.requires_grad and is_data(data) and self.here(call)):
                continue
            if math.isnan(self._shift) and data.numel() < 2:
                return
            with quietly():
                self._learn(data)
                scaled = (data - self._shift) / self._scale
            call.put(scaled, position, *(("target", "other") if position else ("input", "self")))
            if call.name in ("smooth_l1_loss", "huber_loss"):
                key = "beta" if call.name == "smooth_l1_loss" else "delta"
                call.kwargs = call.kwargs | {key: float(call.kwargs.get(key, 1.0)) / self._scale}
            power = COMPARING[call.name] or self.number("power", 2.0)
            self.loss_factor = self._scale**power
            self.acted += 1
            return

    @staticmethod
    def _pairs(call: Call) -> Iterator[tuple[Any, Any, int]]:
        one, two = call.argument(0, "input", "self"), call.argument(1, "target", "other")
        yield two, one, 1
        yield one, two, 0

    def _learn(self, data: Tensor) -> None:
        if math.isnan(self._shift):
            finite = data[torch.isfinite(data)].double()
            self._shift, self._scale = float(finite.mean()), float(finite.std(correction=0))
            if not self._scale > ONE_VALUE * abs(self._shift):
                self._scale = abs(self._shift) or 1.0


class SkipBadStep(OnSteps):
    """A step whose gradient is not finite, or more than `times` the median of those before, is not taken."""

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites)
        self._norms: weakref.WeakKeyDictionary[Optimizer, list[float]] = weakref.WeakKeyDictionary()

    def treat(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        """Take the gradients away from a step that is out of line."""
        norms = self._norms.setdefault(optimizer, [])
        norm = norm_of(params)
        usual = median(norms[-50:]) if len(norms) >= NORMS else math.inf
        if math.isfinite(norm) and not norm > self.number("times", OUT_OF_LINE) * usual:
            norms.append(norm)
            return
        for p in params:
            p.grad = None
        self.acted += 1


class DropBadBatch(Together):
    """Steps out of line are not taken, and absurd entries of the data are repaired."""

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites, SkipBadStep, RepairRows)
