"""Mirror flow: descent in a geometry of one's own, ∇²ψ(θ) θ̇ = −∇L(θ)."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.wrapped import Wrapped

Map = Callable[[Tensor, Tensor, float], Tensor]
"""(θ, rate of the base, the map's number) → [∇²ψ(θ)]⁻¹ rate."""

ROUND_OFF = 1e-6  # how far below zero a solver's stage may put a coordinate that the exact flow keeps positive


def _entropy(theta: Tensor, rate: Tensor, _: float) -> Tensor:
    return _inside(theta) * rate


def _simplex(theta: Tensor, rate: Tensor, _: float) -> Tensor:
    return _inside(theta) * (rate - (theta * rate).sum(-1, keepdim=True))


def _hyperbolic(theta: Tensor, rate: Tensor, beta: float) -> Tensor:
    return torch.sqrt(theta * theta + beta * beta) * rate


def _power(theta: Tensor, rate: Tensor, p: float) -> Tensor:
    return theta.abs() ** (2 - p) * rate / (p - 1)


def _inside(theta: Tensor) -> Tensor:
    return torch.where(theta > -ROUND_OFF, theta, torch.nan)


MAPS: dict[str, tuple[Map, float | None]] = {
    "entropy": (_entropy, None),
    "simplex": (_simplex, None),
    "hyperbolic": (_hyperbolic, 1.0),
    "p-norm": (_power, 1.5),
}
"""The named mirror maps, and the default of their number where they have one."""


class MirrorFlow(Wrapped):
    """Gradient flow in the metric of a convex function ψ: ∇²ψ(θ) θ̇ = −∇L(θ), that is d/dt ∇ψ(θ) = −∇L.

    | name | ψ(θ) | θ̇ with g = ∇L | domain |
    |---|---|---|---|
    | "entropy" | Σ θ ln θ − θ | −θ g | θ > 0 |
    | "simplex" | Σ θ ln θ on Σθ = 1 | −θ (g − ⟨θ, g⟩), replicator | θ > 0, Σθ = 1 |
    | "hyperbolic" | Σ θ arcsinh(θ/β) − √(θ² + β²) | −√(θ² + β²) g | all |
    | "p-norm" | Σ |θ|ᵖ / p, 1 < p ≤ 2 | −|θ|^{2−p} g / (p − 1) | all |

    Args:
        base: the field whose rate is −∇L, or a loss function.
        psi: a name from the table, or your own strictly convex ψ: one point, (P,), to a scalar. The latter's Hessian is
            built and solved with, P × P numbers per drop.
        number: β of "hyperbolic" (default 1) or p of "p-norm" (default 1.5).

    Raises:
        FieldError: the name or the number is not one that the table knows, or the base's start lies outside the domain.

    Source: Nemirovski & Yudin (1983); Gunasekar, Woodworth & Srebro (2021), "Mirrorless mirror descent". A diagonal
    network β = u² − v² from u = v = α follows the hyperbolic map with β = 2α², four times as fast (Woodworth et al. 2020,
    "Kernel and rich regimes in overparametrized models").

    Example:
        >>> flow = MirrorFlow(lambda w: (w**2).sum(), "entropy")
        >>> flow.evaluate(torch.tensor([[0.5, 2.0]])).rate
        tensor([[-0.5000, -8.0000]])
    """

    def __init__(
        self,
        base: Field | Callable[[Tensor], Tensor],
        psi: str | Callable[[Tensor], Tensor],
        *,
        number: float | None = None,
    ) -> None:
        super().__init__(base, f"mirror flow ({psi})" if isinstance(psi, str) else "mirror flow")
        self._map: Map | None = None
        self.number = 0.0
        self.psi = psi
        if isinstance(psi, str):
            if psi not in MAPS:
                near = difflib.get_close_matches(psi, MAPS, n=2, cutoff=0.4)
                raise FieldError(
                    f"there is no mirror map {psi!r}; "
                    + (f"did you mean {' or '.join(map(repr, near))}? " if near else "")
                    + f"Expected one of {', '.join(map(repr, MAPS))}, or a strictly convex function ψ(θ)."
                )
            self._map, default = MAPS[psi]
            if number is not None and default is None:
                raise FieldError(f"the mirror map {psi!r} has no number, got number={number:g}. Leave it out.")
            self.number = (default or 0.0) if number is None else number
            if psi == "hyperbolic" and self.number <= 0:
                raise FieldError(f"the hyperbolic map needs β > 0, got number={self.number:g}.")
            if psi == "p-norm" and not 1 < self.number <= 2:
                raise FieldError(
                    f"the p-norm map needs 1 < p ≤ 2, got number={self.number:g}; above 2 its metric is zero at θ = 0."
                )
        elif number is not None:
            raise FieldError(f"number={number:g} belongs to a named mirror map; put it into your ψ.")

    def lift(self, theta: Tensor) -> Tensor:
        if self.psi in ("entropy", "simplex") and bool((theta <= 0).any()):
            raise FieldError(
                f"{self.name} lives on θ > 0 and got a start with smallest coordinate {float(theta.min()):g}. "
                'Start inside, or use the map "hyperbolic", which takes both signs.'
            )
        if self.psi == "simplex" and bool(((theta.sum(-1) - 1).abs() > 1e-6).any()):
            raise FieldError(
                f"{self.name} lives on Σθ = 1 and got a start with sum {float(theta.sum(-1).flatten()[0]):g}. Divide it by its sum."
            )
        return theta.clone()

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        if self._map is not None:
            return self._map(state, rate, self.number)
        psi = self.psi
        assert callable(psi)
        metric = torch.func.vmap(torch.func.jacrev(torch.func.grad(psi)))(state)
        out: Tensor = torch.linalg.solve(metric, rate[..., None])[..., 0]
        return out

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        return {"sum": theta.sum(1, keepdim=True)} if self.psi == "simplex" else {}
