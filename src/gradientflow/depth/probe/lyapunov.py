"""How a recurrence stretches small changes of its state: Lyapunov exponents and spectral radii.

Benettin et al. 1980 (QR along the product of Jacobians), for recurrent nets Engelken et al. 2023. The leading exponent is
the mean log of the factor per time step in the direction that grows most: it is below 0 where gradients vanish over time,
above 0 where they explode, and log ρ for a linear map of spectral radius ρ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradientflow.limits import Limit

DENSE = Limit("rows_of_a_matrix", 128, "chosen: up to here a whole spectrum costs less than iterating")
FEWEST = Limit("jacobians", 4, "chosen: fewer say nothing of a rate")
FOLLOWED = 4  # rows of a batch whose Jacobians are multiplied
_TURNING = 20  # steps that only turn the directions, at most


def warmup(steps: int) -> int:
    """Return how many of the steps only turn the directions: a quarter, and not more than twenty."""
    return min(steps // 4, _TURNING)


def exponents(stretch: Sequence[Callable[[Tensor], Tensor]], start: Tensor, warmup: int) -> list[float]:
    """Return the leading Lyapunov exponents per time step, largest first, averaged over rows.

    λ_i = 1/T Σ_t log |R_t,ii|, with Q_t R_t = J_t Q_{t−1}.

    Args:
        stretch: for each time step, the map q ↦ J_t q of directions (rows, state, k).
        start: orthonormal directions at the beginning, (rows, state, k).
        warmup: steps at the beginning that only turn the directions and are not counted.

    Returns:
        k exponents, natural log; −inf where a direction is wiped out.

    Raises:
        ValueError: no step is left to count.

    Source:
        Benettin, Galgani, Giorgilli & Strelcyn 1980, Meccanica 15; Engelken, Wolf & Abbott 2023, Phys. Rev. Research 5.

    Example:
        >>> import torch
        >>> a = torch.diag(torch.tensor([0.9, 0.5, 0.1]))
        >>> [round(x, 4) for x in exponents([lambda q: a @ q] * 200, directions(1, 3, 2, a), 20)]
        [-0.1054, -0.6931]
    """
    if len(stretch) <= warmup:
        raise ValueError(f"Lyapunov exponents need more than {warmup} time steps after the warm-up; got {len(stretch)}")
    q, logs = start, []
    for t, apply in enumerate(stretch):
        q, r = torch.linalg.qr(apply(q))
        if t >= warmup:
            logs.append(torch.diagonal(r, dim1=1, dim2=2).abs().double().log())
    mean: list[float] = torch.stack(logs).mean(dim=0).mean(dim=0).tolist()
    return sorted(mean, reverse=True)


def directions(rows: int, size: int, k: int, like: Tensor) -> Tensor:
    """Return `k` orthonormal directions per row, always the same ones; draws none of the script's random numbers."""
    numbers = torch.Generator(device="cpu").manual_seed(1980)
    q, _ = torch.linalg.qr(torch.randn(size, min(k, size), generator=numbers, dtype=torch.float64))
    same: Tensor = q.to(device=like.device, dtype=like.dtype).expand(rows, -1, -1)
    return same


def spectral_radius(w: Tensor) -> float:
    """Return the largest |eigenvalue| of a square matrix: computed up to 128 rows, iterated to about 1 % beyond.

    Example:
        >>> import torch
        >>> round(spectral_radius(torch.tensor([[0.0, 2.0], [-2.0, 0.0]])), 6)
        2.0
    """
    if not bool(torch.isfinite(w).all()):
        return math.nan
    if w.shape[0] <= DENSE:
        return float(torch.linalg.eigvals(w.double()).abs().max())
    return _grown([lambda q: w @ q] * 300, directions(1, w.shape[0], 2, w), 100)


def largest_singular(w: Tensor) -> float:
    """Return the largest singular value of a matrix: computed up to 128 rows, iterated beyond."""
    if not bool(torch.isfinite(w).all()):
        return math.nan
    if max(w.shape) <= DENSE:
        return float(torch.linalg.matrix_norm(w.double(), ord=2))
    return math.sqrt(_grown([lambda q: w.t() @ (w @ q)] * 60, directions(1, w.shape[1], 2, w), 40))


def _grown(stretch: Sequence[Callable[[Tensor], Tensor]], start: Tensor, warmup: int) -> float:
    return math.exp(exponents(stretch, start, warmup)[0])
