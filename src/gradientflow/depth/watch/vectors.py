"""Numbers of several tensors taken together as one vector, in a precision whose products neither vanish nor overflow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gradientflow.depth.probe.shards import local


def wide(t: Tensor) -> Tensor:
    """Return a tensor as real numbers in double precision (single where the device has no other)."""
    found = local(t.detach())
    real = torch.view_as_real(found) if found.is_complex() else found
    return real.float() if real.device.type == "mps" else real.double()


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return ⟨left, right⟩ over all pairs."""
    return math.fsum(float((wide(a) * wide(b)).sum()) for a, b in zip(left, right, strict=True))


def norm(tensors: Iterable[Tensor]) -> float:
    """Return the norm of all together."""
    return math.hypot(*(float(wide(t).norm()) for t in tensors), 0.0)


def factor(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[float | None, float | None]:
    """Return (⟨b, a⟩ / ⟨b, b⟩, cosine of the angle between them); None where there is nothing, or nothing finite, to divide by."""
    square, product, other = dot(before, before), dot(before, after), dot(after, after)
    if not (square > 0 and math.isfinite(square) and math.isfinite(product) and math.isfinite(other)):
        return None, None
    lengths = math.sqrt(square) * math.sqrt(other)
    return product / square, product / lengths if lengths > 0 else None
