"""Fused calls over many tensors at once, and the same tensor by tensor where PyTorch has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradientflow.torch_internals.wall import Internal, lean_on

_SLOWER = "norms are computed tensor by tensor, which is slower"
_norm = lean_on("torch._foreach_norm", "the norms of many tensors in one call", _SLOWER)
_copy = lean_on("torch._foreach_copy_", "copies many tensors in one call", _SLOWER)
_sub = lean_on("torch._foreach_sub_", "differences of many tensors in one call", _SLOWER)
_add = lean_on("torch._foreach_add_", "sums of many tensors in one call", _SLOWER)


_HALF = (torch.float16, torch.bfloat16)


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the 2-norm of each tensor, as 0-dim tensors; of half precision in float32, as its own ends at 65504."""
    half = [i for i, t in enumerate(tensors) if t.dtype in _HALF]
    if not half:
        return _norms(tensors, None)
    found = dict(zip(half, _norms([tensors[i] for i in half], torch.float32), strict=True))
    others = [i for i in range(len(tensors)) if i not in found]
    found |= zip(others, _norms([tensors[i] for i in others], None), strict=True)
    return [found[i] for i in range(len(tensors))]


def _norms(tensors: Sequence[Tensor], dtype: torch.dtype | None) -> list[Tensor]:
    if not tensors:
        return []
    if _norm.value is None:
        return [torch.linalg.vector_norm(t, dtype=dtype) for t in tensors]
    return list(_norm.value(list(tensors), 2, dtype))


def _pairwise(
    fused: Internal, each: Callable[[Tensor, Tensor], Any], to: Sequence[Tensor], by: Sequence[Tensor]
) -> None:
    if fused.value is not None:
        fused.value(list(to), list(by))
        return
    for a, b in zip(to, by, strict=True):
        each(a, b)


def copy_all(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Write each tensor of `source` into its partner in `to`."""
    _pairwise(_copy, lambda a, b: a.copy_(b), to, source)


def subtract_all(to: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Subtract each tensor of `other` from its partner in `to`, in place."""
    _pairwise(_sub, lambda a, b: a.sub_(b), to, other)


def add_all(to: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Add each tensor of `other` to its partner in `to`, in place."""
    _pairwise(_add, lambda a, b: a.add_(b), to, other)
