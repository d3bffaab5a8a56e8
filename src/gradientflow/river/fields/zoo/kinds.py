"""What a member of the zoo is, and the fields it is made of: losses and rates written for whole batches at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradientflow.river.fields.base import Field, Potential, VectorField
from gradientflow.river.fields.games import MinMaxFlow

Box = list[tuple[float, float]]
"""(low, high) of each coordinate."""

Law = Callable[[Tensor], Tensor]
"""A conserved quantity of a batch: (B, P) → (B, k)."""

Solution = Callable[[Tensor, Tensor | float], Tensor]
"""(θ0, t) → θ(t): θ0 of shape (..., P), t a number or of a shape that broadcasts against (...); → (..., P)."""


@dataclasses.dataclass(frozen=True)
class ZooField:
    """A field with known answers.

    Attributes:
        name: as in ``zoo.NAMES``.
        text: one line that says what it shows.
        field: the field itself, to be flowed on; it has ``start()``, ``conserved(theta)`` and ``box``.
        box: (low, high) of each coordinate, for pictures and for scattering drops.
        start: where a drop begins when nobody says, (P,), float64.
        time: flow time by which what it shows has happened.
        solution: the exact θ(t) from θ0, where it is known in closed form; NaN where there is none, or none any more.
        minima: isolated minima, or examples of them, (n, P); empty where there is none.
        saddles: saddle points, or examples of them, (n, P).
        facts: further known answers by name; functions or numbers, each explained in the member's docstring.

    Example:
        >>> from gradientflow.river.fields import zoo
        >>> bowl = zoo.named("quadratic", eigenvalues=[1.0, 3.0])
        >>> bowl.solution(torch.tensor([1.0, 1.0]), 1.0)
        tensor([0.3679, 0.0498])
    """

    name: str
    text: str
    field: Field
    box: Box
    start: Tensor
    time: float
    solution: Solution | None = None
    minima: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, 0, dtype=torch.float64))
    saddles: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, 0, dtype=torch.float64))
    facts: dict[str, Callable[..., Tensor] | float] = dataclasses.field(default_factory=dict)

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        """Return what the exact flow keeps constant, name → (B, k); see the field's own."""
        return self.field.conserved(theta)

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class ZooPotential(Potential):
    """dθ/dt = −∇L(θ) with L written for a batch, (B, P) → (B,), so that 10 000 drops cost one call of it."""

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor],
        *,
        start: Sequence[float] | Tensor,
        name: str,
        box: Box,
        conserved: dict[str, Law] | None = None,
    ) -> None:
        super().__init__(loss, start=start, name=name)
        self._batch_laws = conserved or {}
        self.box = box

    def _values(self, theta: Tensor) -> Tensor:
        return self._loss(theta)

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        return {name: law(theta) for name, law in self._batch_laws.items()}


class ZooVector(VectorField):
    """dθ/dt = f(θ) with f written for a batch, (B, P) → (B, P)."""

    def __init__(
        self,
        f: Callable[[Tensor], Tensor],
        *,
        start: Sequence[float] | Tensor,
        name: str,
        box: Box,
    ) -> None:
        super().__init__(f, start=start, name=name, batched=True)
        self.box = box


class ZooGame(MinMaxFlow):
    """ẋ = −∇ₓL, ẏ = +∇_yL with L written for a batch."""

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor],
        *,
        start: Sequence[float] | Tensor,
        name: str,
        box: Box,
        conserved: dict[str, Law] | None = None,
    ) -> None:
        base = ZooPotential(loss, start=start, name=name, box=box)
        super().__init__(base, ascend=[1], conserved=conserved)
        self.name = name
        self.box = box


def points(*rows: Sequence[float]) -> Tensor:
    """Return points as a tensor (n, P)."""
    return torch.tensor(rows, dtype=torch.float64)


def spread(t: Tensor | float, like: Tensor) -> Tensor:
    """Return times with one more axis, so that they broadcast against points (..., P)."""
    return torch.as_tensor(t, dtype=like.dtype, device=like.device)[..., None]
