"""The plane moves with the drop: the water around where a path is, at a moment of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from gradientflow.records import Portrait
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.path import Path
from gradientflow.river.portraits.axes import Chosen, field_of, moment
from gradientflow.river.portraits.axes import plane as made
from gradientflow.river.portraits.box import Box, checked
from gradientflow.river.portraits.plane import Plane
from gradientflow.river.portraits.portrait import finest, sounded, suited
from gradientflow.river.portraits.sampling import Progress
from gradientflow.river.portraits.shadow import shadow

SIDE = 17  # samples along each side when nobody says: 289 gradients a picture
HERE = "here"


def ride(
    path: Path, t: float, plane: Chosen = "pca", box: Sequence[float] | None = None, n: int | None = SIDE, *,
    field: Field | Callable[[Tensor], Tensor] | None = None, along: Sequence[Path] = (), seconds: float | None = None,
    progress: Progress | None = None,
) -> Portrait:  # fmt: skip
    """Sample the field in a plane that passes through θ(t), where a path is at time t.

    A `Plane` (and "pca") is moved parallel to itself: coordinates stay what they were, and the path's shadow too, but the
    water is that at θ(t), true where the drop is. "gradient" and "sharpest" are taken anew at θ(t): the plane also turns, and
    the drop stands at its origin.

    Args:
        path: kept its points.
        t: the nearest kept moment is taken.
        plane: which one; make it once (``gf.plane``) where many moments are asked for.
        box: which part; None: as wide as suits the plane, with the drop in its middle.
        n: samples along each side; n² gradients.
        field: where the path does not know its own.
        along: further paths to draw.
        seconds, progress: as for `portrait`.

    Returns:
        A portrait whose plane has the mark "here".

    Example:
        >>> from gradientflow.river.paths.solve import flow
        >>> path = flow(lambda w: 0.5 * (w[0] ** 2 + 4 * w[1] ** 2 + 9 * w[2] ** 2), 3.0, start=[1.0, 1.0, 1.0])
        >>> drawn = ride(path, 0.5, n=5)
        >>> drawn.n, list(drawn.plane.marks)
        (5, ['here'])
    """
    whose = field_of(path if field is None else field)
    _, here = moment(path, t)
    found = aboard(whose, path, here, plane, along)
    shadows = [shadow(p, found) for p in (path, *along)]
    frame = checked(box, whose.name) if box is not None else _around(found, path, along)
    return finest(sounded(whose, found, frame, n, seconds, shadows, progress))


def aboard(field: Field, path: Path, here: Tensor, kind: Chosen, along: Sequence[Path] = ()) -> Plane:
    """Return the plane through a point of a path: one that is known moved there, a kind that belongs to a point made there."""
    if isinstance(kind, str) and kind in ("gradient", "sharpest", "random"):
        found = made(field, kind, at=here)
        return replace(found, marks={HERE: (0.0, 0.0)})
    found = made(field, kind, along=(path, *along)).moved(here)
    x, y, _ = found.project(here)
    return replace(found, marks={HERE: (float(x), float(y))})


def _around(found: Plane, path: Path, along: Sequence[Path]) -> Box:
    """Return the box that suits the plane, with the drop in the middle."""
    x, y = found.marks[HERE]
    seen = [] if found.kind in ("gradient", "sharpest", "random") else [shadow(p, found) for p in (path, *along)]
    x0, x1, y0, y1 = suited(found, seen)
    half = (0.5 * (x1 - x0), 0.5 * (y1 - y0))
    return x - half[0], x + half[0], y - half[1], y + half[1]
