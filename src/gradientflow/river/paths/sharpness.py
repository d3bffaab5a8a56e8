"""The sharpness at a point: the largest eigenvalues of the Hessian, each measured to a residual that is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields.base import Field, as_field, as_point
from gradientflow.river.paths.door import admitted, number
from gradientflow.river.paths.gauge import largest
from gradientflow.river.paths.meter import Counted, Meter
from gradientflow.river.paths.path import Cost


@dataclass(frozen=True)
class Sharpness:
    """The largest Hessian eigenvalues at one point.

    Attributes:
        values: largest first, shape (k,), float64.
        residuals: ‖Hv − λv‖ of each, shape (k,): an eigenvalue is as near as that, mostly far nearer.
        vectors: their unit vectors, shape (k, P).
        cost: what measuring took.
    """

    values: Tensor
    residuals: Tensor
    vectors: Tensor
    cost: Cost

    def __float__(self) -> float:
        return float(self.values[0])

    def __repr__(self) -> str:
        told = ", ".join(
            f"{v:.6g} ± {r:.1g}" for v, r in zip(self.values.tolist(), self.residuals.tolist(), strict=True)
        )
        return f"<sharpness {told}: {self.cost.gradients} gradients, {self.cost.hvps} HVPs>"


def sharpness(
    field: Field | Callable[[Tensor], Tensor], theta: Sequence[float] | Tensor | None = None, k: int = 1, *,
    tolerance: float = 1e-3, max_products: int = 300, seed: int = 0,
) -> Sharpness:  # fmt: skip
    """Return the k largest eigenvalues of a loss's Hessian at any point.

    Gradient descent with learning rate η can follow the flow where the largest is below 2/η.

    Args:
        field: a field with a loss, as for `flow`; a plain function of θ is taken for a loss.
        theta: the point, shape (P,), as ``path.final`` or a row of ``path.theta``; the field's own start when left out.
        k: how many, from 1 to P.
        tolerance: residuals at most, over the eigenvalue that is largest in size.
        max_products: Hessian products at most, about two gradients each; what is not found by then has a larger residual.
        seed: of the start vector.

    Returns:
        a `Sharpness`; ``float`` of it is the largest. ``cost`` says what it took.

    Raises:
        FieldError: field or point are not what they must be.
        UsageError: the field has no loss, or an argument is out of range.

    Source:
        Wu & Simon 2000 (thick-restart Lanczos); Pearlmutter 1994 (products).

    Example:
        >>> found = sharpness(lambda w: 0.5 * (w[0] ** 2 + 10 * w[1] ** 2), [1.0, 1.0], k=2)
        >>> found.values.round(decimals=6).tolist(), found.cost.hvps
        ([10.0, 1.0], 4)
    """
    field = as_field(field)
    if not field.potential:
        raise UsageError(f"{field.name} has no loss: the sharpness is the largest eigenvalue of a loss's Hessian.")
    tolerance = number(tolerance, "tolerance is that of the residuals: expected a number between 0 and 1")
    point = field.start() if theta is None else as_point(theta)
    if point is None:
        raise FieldError(f"{field.name} has no starting point of its own; name one: gf.sharpness(field, theta).")
    if field.size and len(point) != field.size:
        raise FieldError(f"{field.name} has {field.size} parameters; the point has {len(point)}.")
    if not (isinstance(k, int) and 1 <= k <= len(point)):
        raise UsageError(f"k is how many eigenvalues: expected 1 to {len(point)}, got {k!r}.")
    if not 0 < tolerance < 1 or max_products < 1:
        raise UsageError(
            f"expected a tolerance between 0 and 1 and at least one product, got {tolerance} and {max_products}."
        )
    row = (point.to(dtype=field.dtype, device=field.device) if field.size else point)[None]
    meter = Meter(field, row[0])
    admitted(meter(row), row, field.name)
    start = torch.randn(len(point), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(row)
    found = largest(Counted(meter).linearize(row), start, k, tolerance=tolerance, products=max_products, seed=seed)
    meter.looking = meter.equivalents
    return Sharpness(found.values, found.residuals, found.vectors, meter.cost())
