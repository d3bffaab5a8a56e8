"""Remedies at the weights: rescaled, redrawn or made orthogonal, once, when training first uses them.

The weights are found where they are used, so that modules, plain tensors and functional code are all alike. They are
written through `.data`, in place: an optimizer that holds them keeps holding them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.remedies.acting.base import drawn, quietly
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.acting.leaves import (
    LAYERS,
    affine_of,
    flat_weights,
    weights_of,
)
from gradientflow.depth.remedies.weights.plan import OPEN
from gradientflow.limits import Limit
from gradientflow.ops import GATED, NORMALISATIONS, RECURRENT

NO_PATTERN = Limit("spread_over_size", 1e-4, "chosen: weights that are one value and rounding have no pattern to keep")
SINGULAR = Limit("pivot_over_largest", 1e-7, "chosen: the rounding of the float32 that the weights are kept in")


class OnWeights(OnCalls):
    """An intervention that treats each weight once, at its first use in training; with `shape` in the settings, only weights
    of that shape.
    """

    names = LAYERS | NORMALISATIONS | RECURRENT

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._done: dict[int, Tensor] = {}

    def wants(self, name: str) -> bool:
        """Whether it is a layer, or named by a place."""
        return name in LAYERS | NORMALISATIONS | RECURRENT | {"mul", "embedding"} and (
            not self.change.places or any(p.op in (None, name) for p in self.change.places)
        )

    def first(self, t: Tensor | None) -> bool:
        """Whether this tensor was not treated yet; from now on it counts as treated."""
        if t is None or self._done.get(id(t)) is t:
            return False
        self._done[id(t)] = t
        return True

    def before(self, call: Call) -> None:
        """Treat the weights of a call that stands at a place."""
        if not torch.is_grad_enabled() or not self.here(call):
            return
        if call.name in NORMALISATIONS:
            for scale, shift in affine_of(call):
                if self.first(shift if shift is not None else scale):
                    with quietly():
                        self.norm(scale, shift)
            return
        if call.name in RECURRENT:
            for k, weight in enumerate(w for w in flat_weights(call) if w.dim() == 2):
                if self.first(weight):
                    with quietly():
                        self.recurrent(weight, k % 2 == 1)
            return
        shape = self.change.settings.get("shape")
        for weight, inputs, bias in weights_of(call):
            if (shape is None or list(weight.shape) == shape) and self.first(weight):
                with quietly():
                    self.weight(weight, inputs, bias)

    def weight(self, weight: Tensor, inputs: int, bias: Tensor | None) -> None:
        """Treat one weight, with its bias."""

    def norm(self, scale: Tensor | None, shift: Tensor | None) -> None:
        """Treat the affine part of a normalisation."""

    def recurrent(self, weight: Tensor, own: bool) -> None:
        """Treat one weight of a ready-made recurrent layer; `own`: it multiplies the layer's own state."""


class RescaleInit(OnWeights):
    """Each weight keeps its random pattern and gets the standard deviation gain / √inputs; weights without a pattern are
    drawn anew.

    Settings: `gain` (√2 before ReLU-like functions, 1 for linear ones, 5/3 for tanh), or `factor` (times what they are);
    `bias`: the value that biases, and shifts of normalisations, get (their scales get 1); `fresh`: draw anew in any case.
    """

    def weight(self, weight: Tensor, inputs: int, bias: Tensor | None) -> None:
        """Rescale, or draw anew."""
        settings = self.change.settings
        data = weight.data
        if "factor" in settings and "gain" not in settings:
            data.mul_(self.number("factor", 1.0))
            self.acted += 1
        elif "gain" in settings:
            wanted = self.number("gain", 1.0) / math.sqrt(max(inputs, 1))
            centred = data - data.mean()
            spread = float(centred.double().square().mean().sqrt())
            size = float(data.double().square().mean().sqrt())
            rows = data.flatten(1)
            alike = rows.shape[0] > 1 and bool((rows == rows[:1]).all())
            if (
                settings.get("fresh")
                or alike
                or not math.isfinite(spread)
                or spread <= NO_PATTERN * size
                or size == 0.0
            ):
                data.copy_(drawn(data, len(self._done)) * wanted)
            else:
                data.mul_(wanted / size)
            self.acted += 1
        if bias is not None and "bias" in settings and self.first(bias):
            bias.data.fill_(self.number("bias", 0.0))
            self.acted += 1

    def norm(self, scale: Tensor | None, shift: Tensor | None) -> None:
        """Give a normalisation its usual start: scale 1, shift `bias`."""
        if scale is not None:
            scale.data.fill_(1.0)
        if shift is not None:
            shift.data.fill_(self.number("bias", 0.0))
        self.acted += 1

    def recurrent(self, weight: Tensor, own: bool) -> None:
        """Rescale the weights of a ready-made recurrent layer."""
        self.weight(weight, weight.shape[1], None)


class BreakSymmetry(RescaleInit):
    """Weights are drawn anew, at random: equal units stay equal."""

    def weight(self, weight: Tensor, inputs: int, bias: Tensor | None) -> None:
        """Draw."""
        weight.data.copy_(drawn(weight.data, len(self._done)) * (self.number("gain", 1.0) / math.sqrt(max(inputs, 1))))
        self.acted += 1


class OrthogonalRecurrence(OnWeights):
    """The recurrent weights become orthogonal (rows or columns orthonormal where they are not square), times `gain`."""

    def weight(self, weight: Tensor, inputs: int, bias: Tensor | None) -> None:
        """Make one weight orthogonal."""
        if weight.dim() == 2:
            weight.data.copy_(orthogonal(weight.data) * self.number("gain", 1.0))
            self.acted += 1

    def recurrent(self, weight: Tensor, own: bool) -> None:
        """Make each gate's block of the hidden-to-hidden weights orthogonal."""
        rows, columns = weight.shape
        if own and rows % columns == 0:
            for block in torch.split(weight.data, columns):
                block.copy_(orthogonal(block) * self.number("gain", 1.0))
            self.acted += 1


class OpenGates(OnWeights):
    """The gates that keep the state of an LSTM or GRU start open: their biases get `bias` in sum (3 if not given).

    The gate that keeps is the second block of each bias: the forget gate of an LSTM, the update gate of a GRU.
    """

    def before(self, call: Call) -> None:
        """Open the gates of a ready-made layer or cell that stands at a place."""
        if call.name not in GATED or not torch.is_grad_enabled() or not self.here(call):
            return
        gates = 4 if call.name.startswith("lstm") else 3
        for bias in (w for w in flat_weights(call) if w.dim() == 1 and w.numel() % gates == 0):
            if self.first(bias):
                size = bias.numel() // gates
                bias.data[size : 2 * size] = self.number("bias", OPEN) / 2  # input's and state's bias are added up
                self.acted += 1


def orthogonal(t: Tensor) -> Tensor:
    """Return the orthogonal matrix that the QR decomposition of a matrix gives; of a fresh one where that is singular.

    Example:
        >>> q = orthogonal(torch.tensor([[2.0, 1.0], [0.0, 3.0]]))
        >>> bool(torch.allclose(q @ q.T, torch.eye(2), atol=1e-6))
        True
    """
    tall = t.shape[0] >= t.shape[1]
    work = (t if tall else t.T).double()
    for attempt in range(2):
        q, r = torch.linalg.qr(work)
        pivots = r.diagonal()
        if bool(torch.isfinite(q).all()) and float(pivots.abs().min()) > SINGULAR * float(pivots.abs().max()):
            break
        work = drawn(work, attempt)
    q = q * torch.where(pivots < 0, -1.0, 1.0)
    found: Tensor = (q if tall else q.T).to(t.dtype)
    return found
