"""Which part of a plane is shown: four numbers, given or found from what must be seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from gradientflow.errors import UsageError

Box = tuple[float, float, float, float]
Point = tuple[float, float]

MARGIN = 0.12  # of a side, around what must be seen of a plane
SLIMMEST = 0.6  # the shorter side over the longer one: both are distances in θ and drawn to one scale


def checked(box: Sequence[float] | None, name: str) -> Box:
    """Return the box as four finite numbers in order.

    Raises:
        UsageError: it is missing or empty.
    """
    if box is None:
        raise UsageError(f"{name} does not say which box to draw. Pass box=(θ₁ from, θ₁ to, θ₂ from, θ₂ to).")
    try:
        x0, x1, y0, y1 = (float(x) for x in torch.as_tensor(box, dtype=torch.float64).reshape(-1))
    except (TypeError, ValueError):
        raise UsageError(f"a box is four numbers, θ₁ from, to, θ₂ from, to; got {box!r}.") from None
    if not (math.isfinite(x0 + x1 + y0 + y1) and x0 < x1 and y0 < y1):
        raise UsageError(f"the box {(x0, x1, y0, y1)} is empty; expected θ₁ from < to and θ₂ from < to.")
    return x0, x1, y0, y1


def framed(must: Sequence[Point], may: Sequence[Point] = (), reach: float = 0.0) -> Box:
    """Return a box around points of a plane, with a margin, and not too slim.

    Args:
        must: what must be seen; of points that run to infinity, what most of them span.
        may: what is seen too where it strays by at most half a side: an optimizer that diverges must not shrink the rest.
        reach: the origin is seen with at least so much on each side of it.

    Example:
        >>> tuple(round(x, 6) for x in framed([(0.0, 0.0), (10.0, 0.0)]))
        (-1.2, 11.2, -3.72, 3.72)
    """
    sides = []
    for k in (0, 1):
        low, high = spread([p[k] for p in must]) or (0.0, 0.0)
        if reach > 0:
            low, high = min(low, -reach), max(high, reach)
        stray = 0.5 * (high - low)
        near = [p[k] for p in may if low - stray <= p[k] <= high + stray]
        sides.append((min([low, *near]), max([high, *near])))
    longest = max(high - low for low, high in sides) or 1.0
    out = []
    for low, high in sides:
        room = max(0.5 * (SLIMMEST * longest - (high - low)), 0.0) + MARGIN * max(high - low, SLIMMEST * longest)
        out += [low - room, high + room]
    return out[0], out[1], out[2], out[3]


def spread(xs: Sequence[float]) -> tuple[float, float] | None:
    """Least and largest; of paths that run to infinity, what most of their points span."""
    if not xs:
        return None
    values = torch.tensor(xs, dtype=torch.float64)
    low, middle, high = (
        float(v)
        for v in torch.quantile(values[:: max(len(xs) // 100_000, 1)], torch.tensor([0.05, 0.5, 0.95]).double())
    )
    reach = 20 * max(high - low, 1e-12 * max(abs(middle), 1.0))
    kept = values[(values >= low - reach) & (values <= high + reach)]
    return float(kept.min()), float(kept.max())


def size(points: Iterable[Sequence[float]]) -> float:
    """The longer side of what points span; 1 where they span nothing."""
    spans = [spread([p[k] for p in points]) for k in (0, 1)]
    return max((s[1] - s[0] for s in spans if s is not None), default=1.0) or 1.0
