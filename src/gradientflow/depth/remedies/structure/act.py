"""Remedies in the build of a network: a way past a block, a normalisation put in, a normalisation taken out."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from gradientflow.depth.remedies.acting.base import quietly
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.acting.leaves import LAYERS, leaf_of, weights_of
from gradientflow.ops import IN_A_BLOCK, NORMALISATIONS, kind_of
from gradientflow.torch_internals import weak

_KEPT = 256  # tensors whose block is remembered before those that are gone are forgotten


class AddSkip(OnCalls):
    """At the places, what entered the block is added to what leaves it, where the shapes are equal.

    A block begins at a layer and goes on through normalisation, activation and dropout. `scale` in the settings is the
    factor on the block's own result: x + scale · block(x).
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._entered: dict[int, tuple[Any, Tensor]] = {}  # by identity of what leaves: what entered

    def wants(self, name: str) -> bool:
        """Whether it is a layer, something that passes on, or a backward call, at which blocks are forgotten."""
        return (
            name in LAYERS
            or name == "add"
            or kind_of(name) in IN_A_BLOCK
            or name == "backward"
            or any(p.op == name for p in self.change.places)
        )

    def before(self, call: Call) -> None:
        """Remember what enters."""
        if call.name == "backward":
            self._entered.clear()
            return
        if call.name in LAYERS:
            weights = {id(w) for w, _, _ in weights_of(call)}
            x = next((t for t in call.tensors() if t.requires_grad and t.dim() > 1 and not _is(t, weights)), None)
        else:
            x = self._passed_on(call)
        if x is not None:
            call.notes[self] = x

    def after(self, call: Call, out: Any) -> Any:
        """Add it at the place; else pass on what entered."""
        x = call.notes.get(self)
        if x is None or not isinstance(out, Tensor):
            return out
        if self.here(call) and out.shape == x.shape and out.dtype == x.dtype:
            self.acted += 1
            scale = self.number("scale", 1.0)
            return x + (out if scale == 1.0 else out * scale)
        with quietly():
            self._entered[id(out)] = (weak(out), x)
            if len(self._entered) > _KEPT:
                self._entered = {k: v for k, v in self._entered.items() if not v[0].expired()}
        return out

    def _passed_on(self, call: Call) -> Tensor | None:
        first, second = call.argument(0, "input", "self"), call.argument(1, "other")
        if call.name == "add":  # a bias, written by hand, belongs to its layer
            if leaf_of(second) is None and leaf_of(first) is None:
                return None
            return self._known(first) if leaf_of(second) is not None else self._known(second)
        return self._known(first)

    def _known(self, t: Any) -> Tensor | None:
        found = self._entered.get(id(t))
        return found[1] if found is not None and not found[0].expired() else None


def _is(t: Tensor, weights: set[int]) -> bool:
    found = leaf_of(t)
    return found is not None and id(found[0]) in weights


class AddNorm(OnCalls):
    """A normalisation without parameters: of what enters the activation at a place, or of what leaves the layer there.

    Each sample is normalised by itself (over all channels and pixels behind a convolution, over the features otherwise).
    Where a place is a product of queries and keys, `length` in the settings is the length that each of them gets.
    """

    def wants(self, name: str) -> bool:
        """Whether a place names it."""
        return any(p.op in (None, name) for p in self.change.places)

    def before(self, call: Call) -> None:
        """Normalise what enters an activation, or the queries and keys of a product."""
        length = self.number("length", 0.0)
        if call.name in LAYERS | {"scaled_dot_product_attention"}:
            if length > 0 and self.here(call):
                self._pair(call, length)
            return
        x = call.argument(0, "input", "self")
        if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1 and self.here(call):
            call.put(normalised(x), 0, "input", "self")
            self.acted += 1

    def after(self, call: Call, out: Any) -> Any:
        """Normalise what leaves a layer."""
        if call.name not in LAYERS or self.number("length", 0.0) > 0 or not isinstance(out, Tensor) or out.dim() < 2:
            return out
        if not self.here(call):
            return out
        self.acted += 1
        return normalised(out)

    def _pair(self, call: Call, length: float) -> None:
        queries, keys = call.argument(0, "input", "query"), call.argument(1, "mat2", "other", "key")
        if not isinstance(queries, Tensor) or not isinstance(keys, Tensor) or call.name in ("linear", "einsum"):
            return
        across = -1 if call.name == "scaled_dot_product_attention" else -2
        call.put(F.normalize(queries, dim=-1) * length, 0, "input", "query")
        call.put(F.normalize(keys, dim=across) * length, 1, "mat2", "other", "key")
        self.acted += 1


def normalised(x: Tensor) -> Tensor:
    """Return x with each sample at mean 0 and spread 1 (spreads far below that of the whole batch stay below).

    Example:
        >>> import torch
        >>> normalised(torch.tensor([[1e-6, 3e-6]]))
        tensor([[-1.0000,  1.0000]])
    """
    image = x.dim() >= 4 or (x.dim() == 3 and type(x.grad_fn).__name__.startswith(("Convolution", "NativeBatchNorm")))
    with quietly():
        size = float(x.double().var(correction=0)) if x.numel() else 1.0
    shape = x.shape[1:] if image else x.shape[-1:]
    return F.layer_norm(x, shape, eps=max(1e-5 * size, 1e-30) if size == size else 1e-5)


class RemoveNorm(OnCalls):
    """The normalisation at a place hands on what it gets."""

    names = NORMALISATIONS

    def before(self, call: Call) -> None:
        """Leave the normalisation out."""
        x = call.argument(0, "input")
        if isinstance(x, Tensor) and self.here(call):
            call.func, call.args, call.kwargs = _handed_on, (x,), {}
            self.acted += 1


def _handed_on(x: Tensor) -> Tensor:
    return x * 1.0
