"""The spectrum of −J along a path: one warm-started Lanczos iteration per drop.

For a gradient flow −J = H is symmetric. Its largest eigenvalue (the sharpness) says how many stages a step needs; the
smallest says how fast neighbouring paths part. The iteration starts from the last outer Ritz vectors, summed into one,
so that a refresh costs two or three products; it is taken anew on a rejected step, and otherwise as rarely as the
sharpness has been seen to move. Negative curvature is growth, not stiffness: it never enters the number of stages.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.curvature import lanczos
from gradientflow.river.fields.base import Linear
from gradientflow.river.solvers.base import lengths

WIDTH = 3  # basis vectors held: with θ, its rate and the work vector no more than a step needs
SAFETY = 1.05  # of the largest Ritz value, which approaches the eigenvalue from below
DRIFT = 0.05  # a relative growth of the sharpness that asks for a refresh
EASING = 0.2  # a relative fall that does: a ρ that is too large costs stages, not stability
WITHOUT_REFRESH = 10  # steps without a refresh at most
WIDE = 8  # basis vectors of a look that is told: one Krylov space of so many finds an eigenvector that has overtaken the first
ROOM = 1 << 26  # bytes of these; where they take more, a look that is told is no wider than others, but longer
IDLE = 4  # times as rarely where the number only says whether a flow is stiff
NORM_STEPS = 8  # of the power iteration on a J that is not symmetric


class Spectrum:
    """Outer eigenvalues of a symmetric operator, followed along the paths of B drops.

    Attributes:
        top: largest eigenvalue of −J as last measured, shape (B,), float64; NaN before the first measurement.
        bottom: smallest Ritz value, shape (B,): an upper estimate of the smallest eigenvalue.
        bound: error bound of `top` from the residual (Parlett 1980, §13.2), shape (B,).
        width: basis vectors held at most.
        warm: sum of the outer Ritz vectors, shape (B, P).
    """

    def __init__(self, drops: int, size: int, like: Tensor, *, seed: int = 0, width: int = WIDTH) -> None:
        self.width = width
        nan = torch.full((drops,), float("nan"), dtype=torch.float64)
        self.top, self.bottom, self.bound = nan.clone(), nan.clone(), nan.clone()
        self.growth = torch.zeros(drops, dtype=torch.float64)  # relative change per step; half of it where falling
        self.age = torch.zeros(drops, dtype=torch.int64)
        self.wait = torch.ones(drops, dtype=torch.int64)
        maker = torch.Generator().manual_seed(seed)
        row = torch.randn(size, generator=maker, dtype=torch.float64)
        self.warm = row.to(like)[None].expand(drops, -1).clone()

    def due(self, rows: Tensor, *, idle: bool = False) -> Tensor:
        """Return which of these drops want a measurement, as row numbers; `idle`: no step's stability rests on it."""
        wait = (self.wait[rows] * IDLE).clamp(4, 2 * WITHOUT_REFRESH) if idle else self.wait[rows]
        old = self.top[rows].isnan() | (self.age[rows] >= wait)
        return rows[old]

    def fell(self, rows: Tensor) -> Tensor:
        """Return where the sharpness was last seen to fall, is not distrusted, and was measured less than twice its wait ago."""
        return (
            (self.growth[rows] < 0)
            & (self.wait[rows] > 0)
            & (self.age[rows] < (2 * self.wait[rows]).clamp_max(WITHOUT_REFRESH))
        )

    def tick(self, rows: Tensor) -> None:
        """Count a step."""
        self.age[rows] += 1

    def distrust(self, rows: Tensor) -> None:
        """Ask for a measurement before the next step: the last one was rejected."""
        stale = rows[self.age[rows] > 0]
        self.wait[stale] = 0

    def rho(self, rows: Tensor) -> Tensor:
        """Return what a step has to be stable for: the top with its error, its drift since, and a margin; at least 0."""
        grown = 1.0 + self.growth[rows].clamp(-0.1, 0.2) * (self.age[rows] + 1)
        return ((self.top[rows] + self.bound[rows]) * SAFETY * grown.clamp_min(0.5)).clamp_min(0.0)

    def look(self, apply: Linear) -> tuple[float, float, float]:
        """Return top, bottom and bound of a single drop by a closer look, of which the spectrum itself learns nothing."""
        warm = self.warm.clone()
        wide = WIDE * warm.numel() * warm.element_size() <= ROOM
        rounds, width, least = (
            (1, WIDE, WIDE) if wide else (4, max(self.width - 1, 2), 2)
        )  # its own start is a vector too
        while True:
            found = lanczos(lambda v: apply(v).neg(), warm, width=width, tolerance=0.02, least=least)
            rounds -= 1
            if not rounds:
                return float(found.top), float(found.bottom), float(found.bound)
            warm = found.ritz(top=1.0, bottom=0.0)
            del found  # (its basis would be held beside the next one)

    def measure(self, apply: Linear, rows: Tensor) -> int:
        """Measure at the points the operator was built for; return the products used (per drop).

        Args:
            apply: v ↦ Jv at these drops, (b, P) → (b, P).
            rows: which drops they are, shape (b,).
        """
        old = self.top[rows]
        cold = bool(old.isnan().any())
        warm = self.warm if len(rows) == len(self.age) else self.warm[rows]
        products = 0
        for _ in range(max(1, (12 if cold else 6) // self.width)):
            found = lanczos(lambda v: apply(v).neg(), warm, width=self.width, tolerance=0.1 if cold else 0.02)
            products += found.products
            top, bottom, bound = found.top, found.bottom, found.bound
            warm = found.ritz(top=1.0, bottom=0.5 if found.products > 1 else 0.0)  # one vector holds both ends
            del found  # and the others go before the next look makes theirs
            if bool((bound <= (0.1 if cold else 0.05) * top.abs().clamp_min(1e-300)).all()):
                break
        sure = self.bound[rows] <= 0.06 * old.abs()  # a rough first look that is corrected is no drift
        known = ~old.isnan() & (old.abs() > 0) & sure
        age = self.age[rows].clamp_min(1)
        change = torch.where(known, (top / old - 1.0).abs(), torch.full_like(top, DRIFT))
        rate = change / age
        self.growth[rows] = torch.where(known, torch.where(top > old, rate, -0.5 * rate), torch.zeros_like(rate))
        room = torch.where(top >= old, DRIFT, EASING)
        self.wait[rows] = (room / rate.clamp_min(1e-9)).clamp(1, WITHOUT_REFRESH).minimum(4.0 * age).to(torch.int64)
        self.top[rows], self.bottom[rows], self.bound[rows] = top, bottom, bound
        if warm is not self.warm:
            self.warm[rows] = warm
        self.age[rows] = 0
        return products

    def measure_norm(self, apply: Linear, rows: Tensor) -> int:
        """Measure a bound of the spectral radius of a J that is not symmetric: ‖J‖ along a few power iterations."""
        v = self.warm[rows]
        size = torch.zeros(len(rows), dtype=torch.float64)
        for _ in range(NORM_STEPS):
            v = v / v.norm(dim=1, keepdim=True).clamp_min(1e-300)
            v = apply(v)
            size = torch.maximum(size, lengths(v))
        self.warm[rows] = v
        self.top[rows] = 1.2 * size
        self.bottom[rows] = float("nan")
        self.bound[rows] = 0.0
        self.growth[rows], self.age[rows], self.wait[rows] = 0.0, 0, 5
        return NORM_STEPS
