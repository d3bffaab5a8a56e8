"""What a notebook shows of a field: a small still picture and a sentence."""

from __future__ import annotations

import math
import random
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

ACROSS, DOWN = 17, 11  # arrows of a plane
WIDE, TALL = 1.6, 1.0  # half a plane, as parts of how far the start lies from the origin, or of 2


class Field(Protocol):
    """What is drawn of a field; see `fields.base.Field`."""

    name: str
    size: int
    dtype: torch.dtype
    device: torch.device
    potential: bool

    def start(self) -> Tensor | None: ...
    def evaluate(self, theta: Tensor) -> Any: ...
    def parameters(self, theta: Tensor) -> dict[str, Tensor]: ...


def pictures() -> Any:
    """Return `gradientflow.report.still`. Loading it draws no random number of the user's."""
    drawn = random.getstate()  # rich draws one when it is imported
    try:
        return import_module("gradientflow.report.still")
    finally:
        random.setstate(drawn)


def of_field(field: Field) -> str:
    """Return a field as HTML: of two parameters where it leads, of more the gradient of each parameter at its start.

    That takes one evaluation of the field. What cannot be evaluated is told in a sentence alone.
    """
    size = (
        f" of {field.size:,} parameter{'' if field.size == 1 else 's'}" if field.size else ""
    )  # without a start it is not known
    said = f"{field.name}: a {'gradient flow' if field.potential else 'flow'}{size}"
    still = pictures()
    try:
        start = field.start()
        if start is None:
            return str(still.figure("", f"{said}. It names no point to start at."))
        return str(_plane(field, start, said, still) if field.size == 2 else _sizes(field, start, said, still))
    except Exception as problem:  # of the user's own function; a field that cannot be drawn is a field all the same
        return str(still.figure("", f"{said}. It could not be evaluated: {type(problem).__name__}: {problem}"))


def _plane(field: Field, start: Tensor, said: str, still: Any) -> str:
    x0, y0 = (float(x) for x in start)
    far = max(abs(x0), abs(y0)) or 2.0
    xs = torch.linspace(x0 - WIDE * far, x0 + WIDE * far, ACROSS, dtype=field.dtype)
    ys = torch.linspace(y0 - TALL * far, y0 + TALL * far, DOWN, dtype=field.dtype)
    points = torch.cartesian_prod(xs, ys).to(field.device)
    rate = field.evaluate(points).rate.detach().cpu()
    found = [still.Arrow(*map(float, p), *map(float, r)) for p, r in zip(points.cpu(), rate, strict=True)]
    return str(
        still.arrows(
            found, [(x0, y0)], f"{said}; arrows lead where it flows, longer where it is faster; the dot is its start"
        )
    )


def _sizes(field: Field, start: Tensor, said: str, still: Any) -> str:
    at = field.evaluate(start[None])
    loss = "" if at.value is None else f"; loss {float(at.value[0]):.4g} at its start"
    norms = {name: float(part.detach().double().norm()) for name, part in field.parameters(at.rate[0]).items()}
    whole = math.sqrt(sum(n * n for n in norms.values() if math.isfinite(n)))
    more = f", the first {still.MOST} of {len(norms)} parameters" if len(norms) > still.MOST else ""
    return str(still.bars(list(norms.items()), f"{said}{loss}, ‖dθ/dt‖ {whole:.3g}; bars: of each parameter{more}"))
