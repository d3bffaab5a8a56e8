"""The portrait of a field of two parameters: samples on a grid, points at rest, valleys, separatrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.records import FixedPoint, Portrait
from gradientflow.river.fields.base import Field
from gradientflow.river.portraits.box import checked
from gradientflow.river.portraits.lines import separatrices, trace
from gradientflow.river.portraits.rest import Found, candidates, polish, sort_out
from gradientflow.river.portraits.sample import Patch, numbers


def whole(field: Field, box: Sequence[float] | None, n: int, *, structure: bool) -> Portrait:
    """Return the portrait of a field of two parameters; see `portrait`."""
    x0, x1, y0, y1 = checked(box if box is not None else getattr(field, "box", None), field.name)
    patch = Patch(field, (x0, x1, y0, y1))
    grid, notes = patch.grid(n)
    n = round(math.sqrt(len(grid.points)))
    drawn = Portrait(
        name=field.name,
        box=(x0, x1, y0, y1),
        n=n,
        u=grid.rate[:, 0].tolist(),
        v=grid.rate[:, 1].tolist(),
        loss=None if grid.value is None else numbers(grid.value),
        notes=notes,
    )
    if structure:
        try:
            _structure(patch, grid.rate, n, drawn)
        except (RuntimeError, NotImplementedError, FieldError) as problem:
            drawn.notes.append(f"points at rest were not looked for: {type(problem).__name__}: {problem}")
    return drawn


def _structure(patch: Patch, rate: Tensor, n: int, drawn: Portrait) -> None:
    found = polish(patch, candidates(patch, rate, n))
    points, curves = sort_out(patch, found, lambda p: trace(patch, p))
    drawn.fixed = [_fixed(patch, p) for p in points]
    for kind, curve in curves:
        (drawn.valleys if kind == "valley" else drawn.ridges).append(_pairs(curve))
    saddles = [p for p in points if p.kind == "saddle"]
    drawn.separatrices = [_pairs(line) for line in separatrices(patch, saddles)]


def _fixed(patch: Patch, p: Found) -> FixedPoint:
    value = patch.field.value(p.at[None])
    loss = None if value is None or not math.isfinite(float(value[0])) else float(value[0])
    pairs = [(float(z.real), float(z.imag)) for z in p.eigenvalues]
    return FixedPoint(at=(float(p.at[0]), float(p.at[1])), kind=p.kind, eigenvalues=pairs, loss=loss)


def _pairs(line: Tensor) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in line.tolist()]
