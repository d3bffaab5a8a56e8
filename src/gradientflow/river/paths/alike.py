"""Are two fields the same? Two that were made apart are asked at some points: what they answer is all that a path sees."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.path import Cost
from gradientflow.river.solvers.base import lengths

SAME = Limit(
    "gap_over_round_off",
    1e4,
    "chosen: sums of thousands of terms in another order; a millionth of weight decay is more",
)


def unlike(one: Field, other: Field, points: list[Tensor]) -> tuple[str | None, Cost]:
    """Say where two fields differ; None where they are one, or answer alike at every point that is finite.

    Args:
        one, other: the fields.
        points: where to ask, (P,) each; the first is the start.

    Returns:
        A sentence, and what asking cost.
    """
    if one is other:
        return None, Cost()
    spent = 0
    unit = SAME * max(torch.finfo(f.dtype).eps for f in (one, other))
    start = 0.0
    for k, point in enumerate(p for p in points if bool(torch.isfinite(p).all())):
        a, b = (f.evaluate(point[None].to(dtype=f.dtype, device=f.device)) for f in (one, other))
        spent += 2
        where = "at the start" if k == 0 else f"at ‖θ‖ = {float(point.norm()):.4g}"
        fast, far = (float(lengths(x.rate)[0]) for x in (a, b))
        start = start or max(fast, far)
        gap = float(lengths(a.rate.double().cpu() - b.rate.double().cpu())[0])
        if math.isfinite(fast + far) and gap > unit * max(fast, far, start):
            return f"{where} ‖dθ/dt‖ is {fast:.6g} on the one and {far:.6g} on the other, {gap:.2g} apart", Cost(spent)
        if (a.value is None) != (b.value is None):
            return "one has a loss, the other has none", Cost(spent)
        if a.value is not None and b.value is not None:
            low, high = float(a.value[0]), float(b.value[0])
            if math.isfinite(low + high) and abs(low - high) > unit * max(abs(low), abs(high)):
                return f"{where} the loss is {low:.6g} on the one and {high:.6g} on the other", Cost(spent)
    return None, Cost(spent)
