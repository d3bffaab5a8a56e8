"""The largest Hessian eigenvalues of a loss, measured to a residual: at any point, and from moment to moment of a path."""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.curvature import Leading, leading
from gradientflow.limits import Limit
from gradientflow.river.fields.base import Linear
from gradientflow.river.paths.motion import Motion

TOP = ("sharpness", "sharpness_bound")  # under which the largest few of every kept moment are kept
TOLD = Limit("residual_over_sharpness", 0.01, "chosen: of what is kept along a path; the value errs by far less")
PRODUCTS = 60  # Hessian products for what is kept of one moment, at most
ROOM = 1 << 29  # bytes of basis vectors
LEAST = 8  # products at least: see `leading`
SPREAD = 0.3  # a share of chance in a start vector: an eigenvector that has become the first is not in the last ones
SHARE = Limit("looking_over_gradients_between", 0.05, "chosen: what is measured unasked at moments between two steps")
EACH = 10.0  # gradients of a measurement, about


def largest(
    apply: Linear, start: Tensor, k: int, *, tolerance: float, products: int, seed: int, least: int = 1
) -> Leading:
    """Return the k largest eigenvalues of −J at one point.

    Args:
        apply: v ↦ Jv there, (1, P) → (1, P).
        start: start vector, shape (P,).
        k: how many.
        tolerance, products, seed, least: as for `leading`.
    """
    width = max(k + 4, min(2 * k + 20, ROOM // max(len(start) * start.element_size(), 1)))
    return leading(
        lambda v: apply(v[None])[0].neg(), start, k, tolerance=tolerance, products=products, width=width, seed=seed, least=least,
    )  # fmt: skip


class Gauge:
    """Measures from moment to moment; what was found last is where it begins.

    Args:
        count: so many eigenvalues at every moment; None for the largest, where it is affordable.

    Attributes:
        warm: the eigenvectors found last, summed up, shape (P,); None before.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.warm: Tensor | None = None

    def affordable(self, motion: Motion) -> bool:
        """Whether one more moment of a flow, unasked, stays within the share for that."""
        meter = motion.meter
        return self.count is None and motion.tells and meter.looking + EACH <= SHARE * meter.equivalents

    def measure(self, motion: Motion, theta: Tensor) -> Leading:
        """Measure at one point, shape (1, P), and count what it takes as looking."""
        meter = motion.meter
        before = meter.equivalents
        here = motion.here if theta is motion.theta else meter(theta)
        size = theta.shape[1]
        start = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(theta)
        if self.warm is not None:
            start = self.warm + SPREAD / size**0.5 * start
        found = largest(
            meter.linearize(theta, here), start, min(self.count or 1, size), tolerance=TOLD, products=PRODUCTS, seed=0, least=LEAST
        )  # fmt: skip
        self.warm = found.vectors.sum(0) if found.finite else None
        meter.looking += meter.equivalents - before
        return found
