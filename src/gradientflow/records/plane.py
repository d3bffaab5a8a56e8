"""A plane of a large parameter space as a portrait tells it: its two directions, and the shadows of paths in it."""

from __future__ import annotations

import msgspec

Point2 = tuple[float, float]


class Plane(msgspec.Struct):
    """Two orthonormal directions through a point of a space of `size` parameters.

    Coordinates in it are distances in θ. kind: pca, sharpest, gradient, random, points, directions.
    """

    kind: str
    names: tuple[str, str]  # what each direction is
    about: str  # which plane this is, in a sentence
    size: int
    share: Point2 | None = None  # of the variance of the path's points along each direction; of kind pca alone
    curvature: tuple[float | None, float | None] | None = None  # vᵀHv along each at the plane's centre, where known
    marks: dict[str, Point2] = {}  # points that have a name


class Shadow(msgspec.Struct):
    """A path seen from above a plane: where it stands in it, and how far from it, at each kept moment."""

    label: str  # "flow", or "SGD lr=0.1"
    kind: str  # "flow", "descent"
    times: list[float]
    points: list[Point2]
    off: list[float]  # distance out of the plane, in the plane's own unit, that of θ
