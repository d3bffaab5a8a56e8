"""The plane of two random directions, filter by filter as large as θ."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradientflow.river.fields.base import Field
from gradientflow.river.portraits.plane import Plane


def by_filters(field: Field, here: Tensor, seed: int) -> Plane:
    """Return the plane of two Gaussian directions through a point, normalised filter by filter; see `plane`."""
    maker = torch.Generator().manual_seed(seed)
    first, second = (_like_filters(field, here, maker) for _ in range(2))
    unit = float(first.norm())
    return replace(
        Plane.spanned(here, first, second), kind="random", reach=unit, marks={"centre": (0.0, 0.0)},
        names=("a random direction", "another, orthogonal to it"),
        about=f"two random directions, filter by filter as large as θ (seed {seed}); one unit of them is {unit:.3g}",
    )  # fmt: skip


def _like_filters(field: Field, here: Tensor, maker: torch.Generator) -> Tensor:
    """Return a Gaussian direction, each filter of it as long as θ's own; vectors, as biases are, get none."""
    noise = torch.randn(len(here), generator=maker, dtype=torch.float64).to(here)
    own, drawn = field.parameters(here), field.parameters(noise)
    parts = []
    for name, part in own.items():
        if part.dim() < 2:
            parts.append(here.new_zeros(part.numel()))
            continue
        rows, filters = drawn[name].flatten(1), part.flatten(1)
        long = rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
        parts.append((rows * (filters.norm(dim=1, keepdim=True) / long)).reshape(-1).to(here))
    made = torch.cat(parts)
    if len(made) == len(here) and float(made.norm()) > 0:
        return made
    whole: Tensor = noise * ((float(here.norm()) or 1.0) / float(noise.norm()))
    return whole
