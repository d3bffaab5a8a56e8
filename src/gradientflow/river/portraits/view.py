"""Which part of a plane to draw: the field's own box, widened so that what was solved on it is seen."""

from __future__ import annotations

from typing import Any

from gradientflow.records import Flow
from gradientflow.river.portraits.box import Box, checked, size, spread

MARGIN = 0.06  # of a side, around what must be seen
STRAY = 0.35  # of a side: how far the box is widened at most for an optimizer's steps that leave it


def view(flow: Flow, box: Any = None) -> Box:
    """Return the box to draw.

    All of the solved paths are in it. Of the optimizers' steps those that stray by at most a third of a side are; one
    that diverges must not shrink everything else to a dot.

    Args:
        flow: what was solved, on a field of two parameters.
        box: the field's own box, four numbers or two pairs; None: it has none.

    Returns:
        θ₁ from, θ₁ to, θ₂ from, θ₂ to.

    Example:
        >>> view(Flow("f", "f", 2, "float64", True, 1.0), [(-2, 2), (-1, 1)])
        (-2.0, 2.0, -1.0, 1.0)
    """
    solved = [
        p for s in flow.stories for p in (*s.flow.points, *([tuple(s.flow.start)] if len(s.flow.start) == 2 else []))
    ]
    if flow.drops is not None:
        solved += [*flow.drops.start, *flow.drops.final]
    steps = [p for s in flow.stories for t in s.descents for p in t.points]
    base = None if box is None else checked(box, flow.field)
    sides = []
    for k in (0, 1):
        must = spread([p[k] for p in solved])
        if base is not None:
            low, high = base[2 * k], base[2 * k + 1]
        elif must is not None:
            low, high = must
            room = max(0.45 * (high - low), 0.2 * size(solved), 1e-9 * max(abs(low), abs(high)), 1e-12)
            low, high = low - room, high + room
        else:
            low, high = -1.0, 1.0
        side = high - low
        if must is not None:
            low = must[0] - MARGIN * side if must[0] < low else low
            high = must[1] + MARGIN * side if must[1] > high else high
        for x in (p[k] for p in steps):
            if low - STRAY * side <= x < low + 0.3 * MARGIN * side:
                low = min(low, x - 0.5 * MARGIN * side)
            elif high - 0.3 * MARGIN * side < x <= high + STRAY * side:
                high = max(high, x + 0.5 * MARGIN * side)
        sides.append((low, high))
    (x0, x1), (y0, y1) = sides
    return x0, x1, y0, y1
