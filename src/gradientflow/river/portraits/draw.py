"""The portrait of a field of two parameters: samples on a grid, points at rest, valleys, separatrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.records import FixedPoint, Portrait
from gradientflow.river.fields.base import Field
from gradientflow.river.portraits.lines import separatrices, trace
from gradientflow.river.portraits.rest import Found, candidates, polish, sort_out
from gradientflow.river.portraits.sample import Plane

Box = tuple[float, float, float, float]


def portrait(field: Field, box: Sequence[float] | None = None, n: int = 192, *, structure: bool = True) -> Portrait:
    """Sample a field of two parameters over a box and find what orders it.

    Points at rest, f(θ) = 0, are looked for from the slowest samples by damped Newton steps (Levenberg–Marquardt) and
    typed by the eigenvalues of ∂f/∂θ; where one eigenvalue is zero the curve of such points is followed. Separatrices
    are the stable lines of the saddles, followed backwards in time. A point at rest between the samples can be missed.

    Args:
        field: dθ/dt = f(θ) with two parameters.
        box: θ₁ from, θ₁ to, θ₂ from, θ₂ to; None: the field's own ``box``, where it has one.
        n: samples along each side.
        structure: look for points at rest, valleys and separatrices; otherwise only sample.

    Returns:
        A record of plain numbers.

    Raises:
        FieldError: the field has not two parameters.
        UsageError: the box is missing or empty.

    Source: Strogatz, Nonlinear Dynamics and Chaos (1994), chapters 5 and 6; Nocedal & Wright, Numerical Optimization
    (2006), section 10.3, for the damped steps.

    Example:
        >>> from gradientflow.river.fields.base import Potential
        >>> two = Potential(lambda w: 0.25 * (w[0] ** 2 - 1) ** 2 + 0.5 * w[1] ** 2, start=[0.5, 0.5])
        >>> drawn = portrait(two, (-2, 2, -1, 1), 64)
        >>> sorted((round(p.at[0]), p.kind) for p in drawn.fixed)
        [(-1, 'sink'), (0, 'saddle'), (1, 'sink')]
    """
    if field.size not in (0, 2):
        raise FieldError(f"{field.name} has {field.size} parameters; a portrait needs a field of two.")
    x0, x1, y0, y1 = checked(box if box is not None else getattr(field, "box", None), field.name)
    plane = Plane(field, (x0, x1, y0, y1))
    grid, notes = plane.grid(n)
    n = round(math.sqrt(len(grid.points)))
    drawn = Portrait(
        name=field.name,
        box=(x0, x1, y0, y1),
        n=n,
        u=grid.rate[:, 0].tolist(),
        v=grid.rate[:, 1].tolist(),
        loss=None if grid.value is None else [x if math.isfinite(x) else None for x in grid.value.tolist()],
        notes=notes,
    )
    if structure:
        try:
            _structure(plane, grid.rate, n, drawn)
        except (RuntimeError, NotImplementedError, FieldError) as problem:
            drawn.notes.append(f"points at rest were not looked for: {type(problem).__name__}: {problem}")
    return drawn


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


def _structure(plane: Plane, rate: Tensor, n: int, drawn: Portrait) -> None:
    found = polish(plane, candidates(plane, rate, n))
    points, curves = sort_out(plane, found, lambda p: trace(plane, p))
    drawn.fixed = [_fixed(plane, p) for p in points]
    for kind, curve in curves:
        (drawn.valleys if kind == "valley" else drawn.ridges).append(_pairs(curve))
    saddles = [p for p in points if p.kind == "saddle"]
    drawn.separatrices = [_pairs(line) for line in separatrices(plane, saddles)]


def _fixed(plane: Plane, p: Found) -> FixedPoint:
    value = plane.field.value(p.at[None])
    loss = None if value is None or not math.isfinite(float(value[0])) else float(value[0])
    pairs = [(float(z.real), float(z.imag)) for z in p.eigenvalues]
    return FixedPoint(at=(float(p.at[0]), float(p.at[1])), kind=p.kind, eigenvalues=pairs, loss=loss)


def _pairs(line: Tensor) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in line.tolist()]
