"""Paths seen from above a plane: where each stands in it, and how far from it."""

from __future__ import annotations

import torch

from gradientflow import records
from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.river.paths.path import Path
from gradientflow.river.portraits.box import Box
from gradientflow.river.portraits.plane import Plane

NEAR = Limit(
    "distance_over_side", 0.05, "chosen: a twentieth of the shorter side of what is shown; a drop's mark is as wide"
)
MOMENTS = 4000  # of one path that go into a record


def shadow(path: Path, plane: Plane) -> records.Shadow:
    """Return the shadow of a path in a plane, with its distance from it at each kept moment.

    Args:
        path: its points were kept (``keep=gf.Keep(theta=True)``), or what of them the plane tells (``keep=gf.Keep(plane=plane)``,
            three numbers a moment).
        plane: of the same space.

    Raises:
        UsageError: neither was kept, or what was kept belongs to another plane.

    Example:
        >>> from gradientflow.river.paths.keep import Keep
        >>> from gradientflow.river.paths.solve import flow
        >>> flat = Plane.spanned(torch.zeros(3).double(), torch.eye(3).double()[0], torch.eye(3).double()[1])
        >>> path = flow(lambda w: 0.5 * (w**2).sum(), 1.0, start=[1.0, 2.0, 3.0], keep=Keep(at=[0.0, 1.0], theta=True))
        >>> seen = shadow(path, flat)
        >>> seen.points[0], seen.off[0]
        ((1.0, 2.0), 3.0)
    """
    if path.theta is not None:
        x, y, off = plane.project(path.theta)
    elif plane.key in path.kept:
        x, y, off = path.kept[plane.key].double().unbind(1)
    else:
        other = any(name.startswith("plane ") for name in path.kept)
        raise UsageError(
            f"{path.label} kept {'its shadow in another plane' if other else 'no points'}, and a shadow needs them: solve it with "
            "keep=gf.Keep(theta=True), or, in many dimensions, with keep=gf.Keep(plane=plane)."
        )
    n = len(x)
    pick = torch.arange(n) if n <= MOMENTS else torch.linspace(0, n - 1, MOMENTS, dtype=torch.float64).round().long()
    pick = pick[(x.isfinite() & y.isfinite() & off.isfinite())[pick]]
    points = list(zip(x[pick].tolist(), y[pick].tolist(), strict=True))
    return records.Shadow(path.label, path.kind, path.times[pick].tolist(), points, off[pick].tolist())


def near(box: Box) -> float:
    """Return the distance from a plane up to which a path counts as in it, for what is shown of it.

    Example:
        >>> near((0.0, 4.0, -1.0, 1.0))
        0.1
    """
    return NEAR * min(box[1] - box[0], box[3] - box[2])
