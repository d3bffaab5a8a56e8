"""Below which loss and ‖∇L‖ are what the tolerance leaves of them, and no longer the flow's own."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.river.paths.motion import Motion, Piece

SHARE = Limit(
    "slope_over_error",
    2.0,
    "measured on six problems at two tolerances: told values off by two lie below, by up to 1.7",
)


class Floor:
    """Gathers along a single path of an error-controlled flow what it resolves.

    A step may err by δ = rtol·‖θ‖ + atol·√P. Along the way of the step the rate changes by κ = ‖Δ∇L‖/‖Δθ‖ per unit: so ‖∇L‖
    may be off by κδ. Near a minimum that is 0 the loss there is ‖∇L‖²/2κ.
    """

    def __init__(self, motion: Motion) -> None:
        asked = getattr(motion, "tolerance", None)
        self.rtol = self.atol = math.nan
        if asked is not None and asked.whole and getattr(motion, "fixed", None) is None and len(motion.t) == 1:
            self.rtol, self.atol = float(asked.rtol), float(asked.atol)
        self.ends: list[float] = []
        self.slopes: list[float] = []
        self.losses: list[float] = []

    def see(self, piece: Piece) -> None:
        """Take a piece."""
        if math.isnan(self.rtol) or piece.rate0 is None or piece.rate1 is None:
            return
        way = float((piece.theta1 - piece.theta0).norm())
        kappa = float((piece.rate1 - piece.rate0).norm()) / way if way > 0 else 0.0
        error = self.rtol * float(piece.theta1.norm()) + self.atol * math.sqrt(piece.theta1.shape[1])
        self.ends.append(float(piece.t1[0]))
        self.slopes.append(SHARE * kappa * error)
        self.losses.append(0.5 * kappa * (SHARE * error) ** 2)

    def at(self, times: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return what loss and ‖∇L‖ are resolved to at times of the path, (n,) each; None where nothing is known of it."""
        if not self.ends:
            return None
        last = len(self.ends) - 1
        on = [min(bisect_left(self.ends, t), last) for t in times.tolist()]
        pick = torch.tensor(on, dtype=torch.int64)
        return torch.tensor(self.losses, dtype=torch.float64)[pick], torch.tensor(self.slopes, dtype=torch.float64)[
            pick
        ]

    def freeze(self) -> dict[str, Any]:
        """Return all numbers."""
        return dict(vars(self))

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        vars(self).update(state)


def said(times: Tensor, loss: Tensor | None, slope: Tensor, floors: tuple[Tensor, Tensor], rtol: float) -> str | None:
    """Return a note on a path that ends unresolved, from when on; None where it does not."""
    low = slope < floors[1]
    if len(low) == 0 or not bool(low[-1]):
        return None
    first = int((~low).nonzero()[-1]) + 1 if bool((~low).any()) else 0
    both = "loss and ‖∇L‖ are" if loss is not None and bool(loss[-1].abs() < floors[0][-1]) else "‖∇L‖ is"
    limits = (
        f"{float(floors[0][-1]):.1g} and {float(floors[1][-1]):.1g}"
        if "loss" in both
        else f"{float(floors[1][-1]):.1g}"
    )
    return (
        f"from t = {float(times[first]):.4g} on {both} below what rtol {rtol:g} resolves ({limits} at the end): the numbers there "
        "are the solver's noise, not the flow's; a tighter rtol resolves more"
    )
