"""The tier of every step: gradient, weight and update norms of each parameter, by fused norms and one synchronisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradientflow.records import ABSENT
from gradientflow.torch_internals import copy_all, readable, subtract_all, transformed
from gradientflow.torch_internals import norms as norms_of

MAX_COPIED = 50_000_000  # entries; beyond this the update norm of a step is left out, to spare the memory of a copy


@dataclass
class Norms:
    """Per-parameter norms of one step; ABSENT where there was nothing to measure. `loss` is None where none was seen."""

    grad: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)
    loss: float | None = None
    along: float | None = None  # cosine between the update and −gradient, where it was asked for


class CheapTier:
    """Norms around one optimizer's step. `before` is called ahead of the step, `after` behind it.

    Args:
        params: the optimizer's parameters.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = list(params)
        self._there: list[int] = []  # those that hold numbers, at the step that is under way
        self._copy: list[Tensor] = []
        self._grads: list[tuple[int, Tensor]] = []
        self._kept: list[Tensor | None] = []

    def before(self, direction: bool = False) -> None:
        """Take the gradient norms and a copy of the weights ahead of the step.

        Args:
            direction: keep a copy of the gradient too, to tell whether the update goes down it.
        """
        traced = transformed()
        there = [] if traced else [i for i, p in enumerate(self.params) if readable(p)]
        with torch.no_grad():
            if there != self._there:
                self._there, self._copy = there, []
            self._grads = self._grad_norms()
            self._kept = [_dense(self.params[i].grad) for i in there] if direction else []
            plain = [self.params[i].detach() for i in there]
            if not self._copy and sum(p.numel() for p in plain) <= MAX_COPIED:
                self._copy = [p.clone() for p in plain]
            elif self._copy:
                copy_all(self._copy, plain)

    def given(self, grads: Sequence[Tensor | None]) -> None:
        """Take gradients that were returned to the script, not left in `.grad`, one per parameter."""
        with torch.no_grad():
            given = [(i, g.detach()) for i in self._there if (g := grads[i]) is not None and readable(g)]
            self._grads = list(zip([i for i, _ in given], norms_of([g for _, g in given]), strict=True))
            self._kept = [_dense(grads[i]) for i in self._there] if self._kept else []

    def after(self, loss: Tensor | None, fresh_gradient: bool) -> Norms:
        """Return the norms of the step.

        Args:
            loss: the tensor `backward` was called on, read here together with the norms.
            fresh_gradient: the gradient was computed inside the step (a closure): read it now.
        """
        traced = transformed()
        if traced:  # the step itself is being recorded: what its tensors hold are not the script's numbers
            self._there, self._grads, self._copy = [], [], []
        with torch.no_grad():
            if fresh_gradient and not traced:
                self._grads = self._grad_norms()
            plain = [self.params[i].detach() for i in self._there]
            weights = norms_of(plain)
            updates: list[Tensor] = []
            if self._copy:
                subtract_all(self._copy, plain)
                updates = norms_of(self._copy)
            dots = self._dots() if updates and not fresh_gradient else []
            parts = [n for _, n in self._grads] + weights + updates + dots
            scalar = None
            if loss is not None and Tensor.numel(loss) >= 1 and not traced:
                scalar = Tensor.detach(loss)
                scalar = scalar.reshape(()) if scalar.numel() == 1 else scalar.float().sum()
                parts.append(scalar)
            values = _read(parts)
        n, g = len(weights), len(self._grads)
        absent = [ABSENT] * len(self.params)
        norms = Norms(absent, absent[:], absent[:])
        for (i, _), value in zip(self._grads, values[:g], strict=True):
            norms.grad[i] = value
        for i, value in zip(self._there, values[g : g + n], strict=True):
            norms.weight[i] = value
        for i, value in zip(self._there, values[g + n : g + n + len(updates)], strict=False):
            norms.update[i] = value
        if scalar is not None:
            norms.loss = values[-1]
        if dots:
            lengths = (total(norms.grad) or 0.0) * (total(norms.update) or 0.0)
            dot = math.fsum(values[g + n + len(updates) : g + n + len(updates) + len(dots)])
            norms.along = dot / lengths if lengths > 0 and math.isfinite(lengths) and math.isfinite(dot) else None
        self._grads = []
        return norms

    def _dots(self) -> list[Tensor]:
        """Return ⟨w_before − w_after, gradient⟩ of each parameter that has a gradient (`_copy` holds the difference)."""
        return [(d * g).sum() for d, g in zip(self._copy, self._kept, strict=False) if g is not None]

    def _grad_norms(self) -> list[tuple[int, Tensor]]:
        graded = [(i, g) for i in self._there if (g := self.params[i].grad) is not None and readable(g)]
        dense = [g.coalesce().values() if g.is_sparse else g for _, g in graded]
        return list(zip([i for i, _ in graded], norms_of(dense), strict=True))


def _dense(g: Tensor | None) -> Tensor | None:
    return None if g is None or g.is_sparse or not readable(g) else g.detach().clone()


def _read(parts: list[Tensor]) -> list[float]:
    """Bring 0-dim tensors to the host in one synchronisation per device (one, in the ordinary case)."""
    if not parts:
        return []
    by_device: dict[torch.device, list[int]] = {}
    for i, part in enumerate(parts):
        by_device.setdefault(part.device, []).append(i)
    out = [ABSENT] * len(parts)
    for indices in by_device.values():
        chosen = [_local(parts[i]) for i in indices]
        kinds = {c.dtype for c in chosen}
        if len(kinds) > 1:
            wide = torch.float64 if torch.float64 in kinds and chosen[0].device.type != "mps" else torch.float32
            chosen = [c.to(wide) for c in chosen]
        for i, value in zip(indices, torch.stack(chosen).tolist(), strict=True):
            out[i] = float(value)
    return out


def _local(part: Tensor) -> Tensor:
    """Return a plain tensor for a distributed one: the norm over all shards, not of this one."""
    full = getattr(part, "full_tensor", None)
    return full() if full is not None else part


def direction_wanted(step: int) -> bool:
    """Whether a step's direction is measured: the first steps, and now and then after them (it costs a copy)."""
    return step <= 10 or step % 50 == 0


def total(values: Sequence[float]) -> float | None:
    """Return the norm of all parts together, not finite where one of them is not; None where there is no part."""
    seen = [v for v in values if v != ABSENT]
    return math.hypot(*seen) if seen else None


def norm_of_grads(params: Sequence[Tensor]) -> float:
    """Return the norm of what lies in `.grad` of all parameters together; 0 where there is nothing."""
    grads = [p.grad for p in params if p.grad is not None and not p.grad.is_sparse]
    return math.hypot(*(float(n) for n in norms_of(grads))) if grads else 0.0
