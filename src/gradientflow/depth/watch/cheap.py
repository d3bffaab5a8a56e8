"""The tier of every step: gradient, weight and update norms of the parameters, by fused norms and one synchronisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from gradientflow.depth.probe.shards import is_shared_out, local
from gradientflow.depth.watch.rotation import TENSORS, Piece, Rotation
from gradientflow.depth.watch.vectors import wide
from gradientflow.limits import Limit
from gradientflow.records import ABSENT, ParamNorms
from gradientflow.torch_internals import copy_all, readable, subtract_all, transformed
from gradientflow.torch_internals import norms as norms_of

DIRECTIONS = Limit("steps", 10, "chosen: the first ones, in which most goes wrong")
_DIRECTION_EVERY = 50  # steps after them
_SMALL = 1 << 14  # entries; gradients of fewer are put together, where there are too many for a call each


@dataclass
class Norms:
    """The norms of one step: of all parameters together, and of each that was looked at by itself.

    `grad`, `weight` and `update` have an entry for each parameter, ABSENT where nothing was measured.
    """

    grad: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)
    graded: list[int] = field(default_factory=list)  # places of the parameters that had a gradient
    all_grad: float | None = None
    all_weight: float | None = None
    all_update: float | None = None
    loss: float | None = None  # None where none was seen
    along: float | None = None  # cosine between the update and −gradient, where it was asked for

    @property
    def nonfinite(self) -> int:
        """Number of parameters whose gradient is not finite."""
        return sum(not math.isfinite(g) for g in self.grad)

    def record(self, step: int, optimizer: int, params: Sequence[int]) -> ParamNorms:
        """Return what goes on record; of very many parameters those that were looked at.

        Args:
            step: its number.
            optimizer: which took it.
            params: the index of each parameter.
        """
        rows = list(zip(params, self.grad, self.weight, self.update, strict=True))
        if len(rows) > TENSORS:
            rows = [row for row in rows if row[1:] != (ABSENT,) * 3]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
        return ParamNorms(step, optimizer, *columns)


class CheapTier:
    """Norms around one optimizer's step. `before` is called ahead of the step, `after` behind it.

    Of a large model the update is known by a part that moves from step to step (`rotation`); the gradient's norm is always
    that of all of it.

    Args:
        params: the optimizer's parameters.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = list(params)
        self._shared_out = any(map(is_shared_out, self.params))
        self._there: list[int] = []  # those that hold numbers, at the step that is under way
        self._rotation = Rotation([])
        self._pieces: list[Piece] = []
        self._copy: list[Tensor] = []
        self._grads: list[tuple[int, Tensor]] = []  # norms of gradients, by place
        self._rest: list[Tensor] = []  # norms of gradients whose place is not kept
        self._graded: list[int] = []
        self._kept: list[Tensor | None] = []
        self._weights: dict[int, float] = {}  # as last seen

    def before(self, direction: bool = False) -> None:
        """Take the gradient norms and a copy of the weights ahead of the step.

        Args:
            direction: keep a copy of the gradient too, to tell whether the update goes down it.
        """
        traced = transformed()
        there = [] if traced else [i for i, p in enumerate(self.params) if readable(p) and _measurable(p.dtype)]
        with torch.no_grad():
            if there != self._there:
                self._there, self._copy, self._weights = there, [], {}
                self._rotation = Rotation([self._own(i) for i in there])
            self._pieces = self._rotation.next()
            self._see_gradients()
            self._kept = [self._gradient(piece) for piece in self._pieces] if direction else []
            plain = self._plain()
            if self._copy and self._rotation.whole and [c.shape for c in self._copy] == [p.shape for p in plain]:
                copy_all(self._copy, plain)
            else:
                self._copy = [p.clone() for p in plain]

    def given(self, grads: Sequence[Tensor | None]) -> None:
        """Take gradients that were returned to the script, not left in `.grad`, one per parameter."""
        with torch.no_grad():
            given = [(i, local(g.detach())) for i in self._there if (g := grads[i]) is not None and readable(g)]
            self._graded, self._rest = [i for i, _ in given], []
            self._grads = list(zip(self._graded, norms_of([g for _, g in given]), strict=True))
            if self._kept:
                self._kept = [_part(grads[self._there[piece.index]], piece) for piece in self._pieces]

    def after(self, loss: Tensor | None, fresh_gradient: bool) -> Norms:
        """Return the norms of the step.

        Args:
            loss: the tensor `backward` was called on, read here together with the norms.
            fresh_gradient: the gradient was computed inside the step (a closure): read it now.
        """
        traced = transformed()
        if traced:  # the step itself is being recorded: what its tensors hold are not the script's numbers
            self._there, self._pieces, self._copy = [], [], []
            self._grads, self._rest, self._graded = [], [], []
        with torch.no_grad():
            if fresh_gradient and not traced:
                self._see_gradients()
            changed = self._changes()
            known = self._grads
            parts = {
                "grad": [n for _, n in known], "rest": self._rest,
                "weight": norms_of([self._own(i) for i in self._weighed()]),
                "update": norms_of(changed),
                "dots": [] if fresh_gradient else self._dots(changed),
                "loss": [_scalar(loss)] if loss is not None and Tensor.numel(loss) >= 1 and not traced else [],
            }  # fmt: skip
            read = iter(_read([part for kind in parts.values() for part in kind]))
            values = {kind: [next(read) for _ in found] for kind, found in parts.items()}
            if self._rest and not math.isfinite(math.fsum(values["rest"])):  # which of them is it
                known, values["rest"] = self._each_gradient(), []
                values["grad"] = _read([n for _, n in known])
        norms = self._told([i for i, _ in known], values, bool(changed))
        self._grads, self._rest = [], []
        if not self._rotation.whole:
            self._copy, self._kept = [], []
        return norms

    def _told(self, graded: list[int], values: dict[str, list[float]], compared: bool) -> Norms:
        absent = [ABSENT] * len(self.params)
        norms = Norms(absent, absent[:], absent[:], self._graded)
        for i, value in zip(graded, values["grad"], strict=True):
            norms.grad[i] = value
        weighed = self._weighed()
        for i, value in zip(weighed, values["weight"], strict=True):
            self._weights[i] = value
        for i in {*weighed, *(self._there[piece.index] for piece in self._pieces)}:
            norms.weight[i] = self._weights[i]
        for piece, value in zip(self._pieces, values["update"], strict=False):
            norms.update[self._there[piece.index]] = piece.times * value
        norms.all_grad = total([*values["grad"], *values["rest"]])
        norms.all_weight = total(list(self._weights.values()))
        norms.all_update = self._whole_update(norms) if compared else None
        norms.loss = values["loss"][0] if values["loss"] else None
        if values["dots"]:
            norms.along = _cosine(values["dots"])
        return norms

    def _whole_update(self, norms: Norms) -> float | None:
        """Return the norm of the update of all parameters: where not all were looked at, in proportion to the weights."""
        seen = total(norms.update)
        if seen is None or not self._rotation.partial_in_tensors:
            return seen
        part = total([norms.weight[self._there[piece.index]] for piece in self._pieces])
        return seen * (norms.all_weight or 0.0) / part if part else seen

    def _weighed(self) -> list[int]:
        """Return the places of the parameters whose weight norms are taken at this step: all of them at the first."""
        if len(self._weights) < len(self._there) or not self._rotation.partial_in_tensors:
            return self._there
        return [self._there[piece.index] for piece in self._pieces]

    def _own(self, place: int) -> Tensor:
        """Return a parameter; of one that is shared out among processes the part that lies here."""
        return local(self.params[place]) if self._shared_out else self.params[place]

    def _plain(self) -> list[Tensor]:
        return [piece.of(self._own(self._there[piece.index])) for piece in self._pieces]

    def _changes(self) -> list[Tensor]:
        """Return w_before − w_after of each piece, in the place of its copy."""
        plain = self._plain() if self._copy else []
        if not plain or [c.shape for c in self._copy] != [p.shape for p in plain]:
            return []
        subtract_all(self._copy, plain)
        return self._copy

    def _dots(self, changed: list[Tensor]) -> list[Tensor]:
        """Return, three for each piece with a gradient: ⟨w_before − w_after, gradient⟩ and the squares of both, for all of it."""
        found: list[Tensor] = []
        for piece, change, gradient in zip(self._pieces, changed, self._kept, strict=False):
            if gradient is not None and change.shape == gradient.shape:
                d, g = wide(change), wide(gradient)
                found += [piece.times**2 * (a * b).sum() for a, b in ((d, g), (d, d), (g, g))]
        return found

    # ── gradients ────────────────────────────────────────────────────────────────────────────────────────────────

    def _gradient(self, piece: Piece) -> Tensor | None:
        return _part(self.params[self._there[piece.index]].grad, piece)

    def _see_gradients(self) -> None:
        """Take the norms of all gradients: one by one, or, where they are too many, of the small ones all at once."""
        graded = [(i, g) for i in self._there if (g := self.params[i].grad) is not None and readable(g)]
        self._graded = [i for i, _ in graded]
        if len(graded) <= TENSORS:
            self._grads, self._rest = _norms_of_all(graded), []
            return
        looked_at = {self._there[piece.index] for piece in self._pieces}
        self._grads = _norms_of_all([(i, g) for i, g in graded if i in looked_at])
        others = [_dense(g) for i, g in graded if i not in looked_at]
        together: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for g in others:
            if g.numel() <= _SMALL:
                together.setdefault((g.device, g.dtype), []).append(g.reshape(-1))
        joined = [torch.cat(small) for small in together.values()]
        self._rest = norms_of([*(g for g in others if g.numel() > _SMALL), *joined])

    def _each_gradient(self) -> list[tuple[int, Tensor]]:
        return _norms_of_all([(i, g) for i in self._graded if (g := self.params[i].grad) is not None and readable(g)])


@cache  # (asked of every parameter at every step)
def _measurable(dtype: torch.dtype) -> bool:
    """Whether PyTorch computes with numbers of a kind (it does not with those of a byte)."""
    return dtype.is_complex or (dtype.is_floating_point and dtype.itemsize > 1)


def _norms_of_all(graded: Sequence[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
    return list(zip([i for i, _ in graded], norms_of([_dense(g) for _, g in graded]), strict=True))


def _dense(g: Tensor) -> Tensor:
    g = local(g)
    return g.coalesce().values() if g.is_sparse else g


def _part(g: Tensor | None, piece: Piece) -> Tensor | None:
    return None if g is None or g.is_sparse or not readable(g) else piece.of(local(g.detach())).clone()


def _scalar(loss: Tensor) -> Tensor:
    found = local(Tensor.detach(loss))
    return found.reshape(()) if found.numel() == 1 else found.float().sum()


def _cosine(dots: Sequence[float]) -> float | None:
    dot, left, right = (math.fsum(dots[k::3]) if all(map(math.isfinite, dots)) else math.nan for k in range(3))
    lengths = math.sqrt(left) * math.sqrt(right)
    return dot / lengths if lengths > 0 and math.isfinite(lengths) else None


def _read(parts: list[Tensor]) -> list[float]:
    """Bring 0-dim tensors to the host in one synchronisation per device (one, in the ordinary case)."""
    if not parts:
        return []
    kinds = {(type(part), part.dtype, part.device) for part in parts}
    if len(kinds) == 1 and type(parts[0]) is Tensor:  # (as a rule: the short way)
        found: list[float] = torch.stack(parts).tolist()
        return found
    by_device: dict[torch.device, list[int]] = {}
    for i, part in enumerate(parts):
        by_device.setdefault(part.device, []).append(i)
    out = [ABSENT] * len(parts)
    for indices in by_device.values():
        chosen = [parts[i] for i in indices]
        dtypes = {c.dtype for c in chosen}
        if len(dtypes) > 1:
            wide = torch.float64 if torch.float64 in dtypes and chosen[0].device.type != "mps" else torch.float32
            chosen = [c.to(wide) for c in chosen]
        for i, value in zip(indices, torch.stack(chosen).tolist(), strict=True):
            out[i] = float(value)
    return out


def direction_wanted(step: int) -> bool:
    """Whether a step's direction is measured: the first steps, and now and then after them (it costs a copy)."""
    return step <= DIRECTIONS or step % _DIRECTION_EVERY == 0


def total(values: Sequence[float]) -> float | None:
    """Return the norm of all parts together, not finite where one of them is not; None where there is no part."""
    seen = [v for v in values if v != ABSENT]
    return math.hypot(*seen) if seen else None


def norm_of_grads(params: Sequence[Tensor]) -> float:
    """Return the norm of what lies in `.grad` of all parameters together; 0 where there is nothing."""
    grads = [local(p.grad) for p in params if p.grad is not None and not p.grad.is_sparse]
    return math.hypot(*(float(n) for n in norms_of(grads))) if grads else 0.0
