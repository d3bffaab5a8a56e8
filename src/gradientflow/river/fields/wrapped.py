"""Flows made from another field's rate: the state they carry, and how their Jacobian follows from the base's.

A wrapped flow reads the rate r(θ) of its base (−∇L for a loss) and turns it into the rate of its own state
z = (θ, …): ż = combine(z, r(θ)). The chain rule then gives J without any derivative the base does not already offer:
J v = ∂combine/∂z v + ∂combine/∂r (J_base v_θ).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Evaluation, Field, Linear, as_field, push


def central_difference(rate: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor) -> Tensor:
    """Return (∂rate/∂θ) v by a central difference, row by row; its relative error is about u^⅔, u the unit round-off.

    J v ≈ ‖v‖ [rate(θ + δ v/‖v‖) − rate(θ − δ v/‖v‖)] / 2δ, δ = u^⅓ max(1, ‖θ‖).

    Args:
        rate: (B, P) → (B, P), rows apart.
        theta: points, (B, P).
        v: directions, (B, P).

    Returns:
        (B, P); zero where v is zero.

    Example:
        >>> central_difference(lambda z: z**3, torch.tensor([[2.0]]).double(), torch.tensor([[1.0]]).double()).round(decimals=6)
        tensor([[12.]], dtype=torch.float64)
    """
    length = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    unit = torch.where(length > 0, v / torch.where(length > 0, length, torch.ones_like(length)), torch.zeros_like(v))
    reach = torch.linalg.vector_norm(theta, dim=1, keepdim=True).clamp(min=1.0)
    delta = float(torch.finfo(theta.dtype).eps) ** (1 / 3) * reach
    out: Tensor = (rate(theta + delta * unit) - rate(theta - delta * unit)) * (length / (2 * delta))
    return out


class Wrapped(Field):
    """A field made from another field's rate, by `combine`.

    The state is one row: `blocks` vectors as long as θ, the first of which is θ, and then `scalars` numbers.
    """

    blocks: int = 1
    scalars: int = 0

    def __init__(self, base: Field | Callable[[Tensor], Tensor], name: str) -> None:
        self.base = as_field(base)
        self.name = f"{name} on {self.base.name}"
        self.dtype, self.device = self.base.dtype, self.base.device
        self.size = self.blocks * self.base.size + self.scalars if self.base.size else 0

    @property
    def notes(self) -> list[str]:
        """What a reader of results should know of the base."""
        return list(getattr(self.base, "notes", []))

    @abstractmethod
    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        """Return the rate of the state, (B, S), from the state and the base's rate at θ, (B, P), by torch operations."""

    # ── the state ────────────────────────────────────────────────────────────────────────────────────────────────────

    def split(self, state: Tensor) -> tuple[Tensor, ...]:
        """Return the state's parts: `blocks` tensors (B, P) and then `scalars` tensors (B, 1).

        Raises:
            FieldError: the state has another length than this flow's.
        """
        width = state.shape[-1]
        size, left = divmod(width - self.scalars, self.blocks)
        if left or size < 1 or (self.base.size and size != self.base.size):
            expected = f"{self.size}" if self.base.size else f"{self.blocks}·P + {self.scalars}"
            raise FieldError(
                f"{self.name} got a state of {width} numbers, expected {expected} (θ and what it carries along). "
                "Turn a point θ into a state with field.lift(theta)."
            )
        return torch.split(state, [size] * self.blocks + [1] * self.scalars, dim=-1)

    def position(self, theta: Tensor) -> Tensor:
        return self.split(theta)[0]

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        return self.base.parameters(self.position(theta))

    def lift(self, theta: Tensor) -> Tensor:
        """Return the states at which drops at θ begin: θ and, unless the flow says otherwise, zeros.

        Args:
            theta: (B, P), or one point (P,).

        Returns:
            (B, S), or (S,).
        """
        rest = (self.blocks - 1) * theta.shape[-1] + self.scalars
        return torch.cat([theta, theta.new_zeros(*theta.shape[:-1], rest)], dim=-1) if rest else theta.clone()

    def start(self) -> Tensor | None:
        theta = self.base.start()
        return None if theta is None else self.lift(theta)

    # ── the field ────────────────────────────────────────────────────────────────────────────────────────────────────

    def evaluate(self, theta: Tensor) -> Evaluation:
        at = self.base.evaluate(self.position(theta))
        with torch.no_grad():
            return Evaluation(self.combine(theta, at.rate), at.value)

    def value(self, theta: Tensor) -> Tensor | None:
        return self.base.value(self.position(theta))

    def linearize(self, theta: Tensor) -> Linear:
        point = self.position(theta)
        rate = self.base.evaluate(point).rate
        inner = self.base.linearize(point)

        def product(v: Tensor) -> Tensor:
            pushed = inner(self.split(v)[0])
            out: Tensor = push(self.combine, (theta, rate), (v, pushed))[1]
            return out.detach()

        return product
