"""The plane of a path's principal directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.river.paths.path import Path
from gradientflow.river.portraits.plane import Plane

STRAIGHT = Limit(
    "second_variance_over_first",
    1e-13,
    "chosen: products of points have lost to rounding what is smaller; below, they lie on a line",
)
STILL = Limit(
    "variance_over_square", 1e-24, "chosen: an extent of 1e-12 of θ, of which double precision tells four digits"
)
POINTS, LEAST = 512, 24  # of a path, evenly, that principal directions are found from; fewer where P is large
ROOM = 1 << 30  # bytes of these points, in double precision
COLUMNS = 1 << 16  # parameters at once, in double precision


def principal(paths: Sequence[Path], seed: int = 0) -> Plane:
    """Return the plane of the leading principal directions of the points that paths kept; see `plane`."""
    kept = [p.theta for p in paths if p.theta is not None]
    if not kept:
        which = f"{paths[0].label} kept none" if paths else "there is no path: pass one, along=path"
        raise UsageError(
            f"principal directions are those of a path's points, and {which}. Solve with keep=gf.Keep(theta=True); for a large "
            "network with keep=gf.Keep(at=[…], theta=True), of which a few dozen times are enough."
        )
    rows, weights = _thinned(kept)
    products, size = _products(rows, weights)
    values, leading = torch.linalg.eigh(products)
    total = float(values.clamp_min(0).sum())
    if total <= STILL * size:
        raise UsageError(
            f"{paths[0].label} stands still: its kept points ({len(rows)}) are one and the same, and have no principal directions."
        )
    flat = float(values[-2]) <= STRAIGHT * float(values[-1])
    found = [_combined(rows, weights, leading[:, -k]) for k in (1, 2)]
    if flat:
        maker = torch.Generator().manual_seed(seed)
        found[1] = torch.randn(rows.shape[1], generator=maker, dtype=torch.float64).to(found[0])
    end = paths[0].final
    made = Plane.spanned(end, *found)
    share = (float(values[-1]) / total, 0.0 if flat else float(values[-2]) / total)
    return replace(
        _faced(made, rows), kind="pca", share=share, about=f"principal directions of {len(rows)} points, through the path's end",
        names=(f"1st principal direction, {_percent(share[0])}", "a random direction" if flat else f"2nd principal direction, {_percent(share[1])}"),
        notes=("the path is a straight line; the second direction is a random one",) if flat else (),
    )  # fmt: skip


def _products(rows: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """Return the inner products of points less their mean, each times the root of its weight, (n, n), and the mean square."""
    products, size = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device), 0.0
    for part in torch.split(rows, COLUMNS, dim=1):
        away = part.double()
        size += float(weights @ away.square().sum(1))
        away = (away - weights @ away) * weights.sqrt()[:, None]
        products += away @ away.T
    return products, size


def _combined(rows: Tensor, weights: Tensor, vector: Tensor) -> Tensor:
    """Return the direction that belongs to an eigenvector of the products, (P,)."""
    each = weights.sqrt() * vector
    each = each - each.sum() * weights  # less the mean
    return torch.cat([each @ part.double() for part in torch.split(rows, COLUMNS, dim=1)])


def _thinned(kept: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return points of paths, (n, P), evenly as many of each as memory allows, and their weights: each path counts alike."""
    most = min(POINTS, max(LEAST, ROOM // (8 * kept[0].shape[1]))) // len(kept)
    rows, weights = [], []
    for points in kept:
        some = points[points.isfinite().all(1)]
        if len(some) > max(most, 2):
            some = some[torch.linspace(0, len(some) - 1, max(most, 2), dtype=torch.float64).round().long()]
        rows.append(some)
        weights.append(torch.full((len(some),), 1 / (len(some) * len(kept)), dtype=torch.float64, device=some.device))
    return torch.cat(rows), torch.cat(weights)


def _faced(made: Plane, rows: Tensor) -> Plane:
    """Return the plane with its axes turned so that the path comes from the left, and bulges upwards."""
    x, y, _ = made.project(rows)
    signs = torch.ones(2, dtype=torch.float64)
    if float(x[0]) > 0:
        signs[0] = -1
    if float(y[y.abs().argmax()]) < 0:
        signs[1] = -1
    return replace(made, axes=made.axes * signs.to(made.axes)[:, None])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 or 0.995 < share < 1 else f"{100 * share:.0f} %"
