"""What a solver is: one step of one method, for a batch of drops, each with its own step length.

The rules:

1. A solver is stateless. `step` takes where the drops are and returns where they may go; the loop accepts or rejects.
2. Rows are independent: h has shape (B, 1) and row i of the result depends on row i alone.
3. `call(points)` evaluates the field and is counted. A step makes `stages` calls and the last is at the new point
   (first same as last), so that an accepted step hands its rate on.
4. The step also integrates ∫‖dθ/dt‖² over itself, with the method's own quadrature: the energy identity's other side.
5. Arithmetic is in place, in work vectors; `vectors` says how many parameter vectors a step holds, those of the caller
   (θ and its rate) included and the one that the field itself returns excluded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation

Call = Callable[[Tensor], Evaluation]


@dataclass(slots=True)
class Trial:
    """One step tried.

    Attributes:
        theta: the new point, shape (B, P).
        there: rate and loss at it.
        defect: estimate of the local error, shape (B, P); None where the method has none.
        work: ∫‖dθ/dt‖² dt over the step, shape (B,).
    """

    theta: Tensor
    there: Evaluation
    defect: Tensor | None
    work: Tensor


@dataclass(slots=True)
class Past:
    """The step before this one, for two-step methods: the point it began at, shape (B, P), and its length, shape (B, 1)."""

    theta: Tensor
    h: Tensor


class Solver(ABC):
    """One method.

    Attributes:
        name: what users call it.
        order: of the solution.
        error_order: k where the error estimate shrinks as hᵏ.
        stabilized: the number of stages is chosen to reach h·ρ, and costs √(h·ρ) where explicit methods pay h·ρ.
        two_step: the method also uses the point before this one; without it, it takes a step of `starter`.
        vectors: parameter vectors held during a step.
        source: author, year, and where the formulas stand.
    """

    name: str
    order: int
    error_order: int
    stabilized: bool = False
    two_step: bool = False
    vectors: int
    source: str

    @abstractmethod
    def reach(self, stages: int, ratio: float = 1.0) -> float:
        """Return the largest stable h·ρ on the negative real axis; ratio is h₋/h of a two-step method."""

    @abstractmethod
    def stages(self, z: float, ratio: float = 1.0) -> int:
        """Return how many gradient evaluations a step with h·ρ = z takes."""

    @abstractmethod
    def step(
        self, call: Call, theta: Tensor, here: Evaluation, h: Tensor, stages: list[int], past: Past | None = None
    ) -> Trial:
        """Try one step.

        Args:
            call: the field, counted.
            theta: where the drops are, shape (B, P); left as it is.
            here: the field there.
            h: step lengths in flow time, shape (B, 1), in the dtype of θ.
            stages: for each drop how many stages to use.
            past: the step before, for two-step methods.
        """


def squared(x: Tensor) -> Tensor:
    """Return ‖x‖² of each row, (B, P) → (B,), in float64."""
    square: Tensor = torch.linalg.vecdot(x, x)
    return square.double()


def lengths(x: Tensor) -> Tensor:
    """Return ‖x‖ of each row, (…, P) → (…,), float64, on the CPU, where steps are controlled."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norms.double().cpu()


def add(out: Tensor, x: Tensor, factor: float | Tensor) -> Tensor:
    """Add factor·x to out in place; the factor is a number, or one number per row, shape (B, 1)."""
    if isinstance(factor, Tensor):
        return out.addcmul_(x, factor)
    return out.add_(x, alpha=factor)


def scaled(factors: list[float], h: Tensor) -> float | Tensor:
    """Return one factor per row times h: a plain number for a single drop, shape (B, 1) for several."""
    if len(factors) == 1:
        return factors[0] * float(h)
    return torch.tensor(factors, dtype=h.dtype, device=h.device)[:, None] * h


def rowwise(factors: list[float], like: Tensor) -> float | Tensor:
    """Return one factor per row: a plain number for a single drop, shape (B, 1) for several."""
    if len(factors) == 1:
        return factors[0]
    return torch.tensor(factors, dtype=like.dtype, device=like.device)[:, None]
