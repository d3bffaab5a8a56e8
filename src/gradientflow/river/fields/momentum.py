"""Flows with inertia: heavy ball and Nesterov's equation, written as first-order fields on (θ, θ̇, …)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.wrapped import Wrapped


class HeavyBall(Wrapped):
    """A ball with mass and friction on the loss surface: m θ̈ + γ θ̇ + ∇L(θ) = 0, with state (θ, v = θ̇).

    Args:
        base: the field whose rate is −∇L, or a loss function.
        damping: γ, friction; 1/flow time where m = 1. At γ = 0 the energy ½m‖v‖² + L is conserved.
        mass: m.

    Raises:
        FieldError: γ is negative or m is not positive.

    Source: Polyak (1964), "Some methods of speeding up the convergence of iteration methods".

    Example:
        >>> ball = HeavyBall(lambda w: 0.5 * (w**2).sum(), damping=0.5)
        >>> ball.evaluate(torch.tensor([[1.0, 2.0]])).rate
        tensor([[ 2., -2.]])
    """

    blocks = 2

    def __init__(self, base: Field | Callable[[Tensor], Tensor], damping: float, *, mass: float = 1.0) -> None:
        if damping < 0 or mass <= 0:
            raise FieldError(f"a heavy ball needs damping ≥ 0 and mass > 0, got damping {damping:g} and mass {mass:g}.")
        super().__init__(base, "heavy ball")
        self.damping, self.mass = damping, mass

    @classmethod
    def of_descent(cls, base: Field | Callable[[Tensor], Tensor], lr: float, momentum: float) -> HeavyBall:
        """Return the heavy ball that gradient descent with momentum follows, on the clock t = Σ η.

        From θ_{k+1} = θ_k + β(θ_k − θ_{k−1}) − η∇L(θ_k): m = η(1+β)/2 and γ = 1 − β (Kovachki & Stuart 2021,
        "Continuous time analysis of momentum methods").

        Args:
            base: the field whose rate is −∇L, or a loss function.
            lr: η, flow time per step.
            momentum: β, in [0, 1).

        Example:
            >>> HeavyBall.of_descent(lambda w: (w**2).sum(), lr=0.1, momentum=0.5).damping
            0.5
        """
        return cls(base, 1.0 - momentum, mass=0.5 * lr * (1.0 + momentum))

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        _, v = self.split(state)
        return torch.cat([v, (rate - self.damping * v) / self.mass], dim=-1)

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        if self.damping or not self.base.potential:
            return {}
        point, v = self.split(theta)
        loss = self.base.value(point)
        return {} if loss is None else {"energy": (0.5 * self.mass * (v * v).sum(1) + loss)[:, None]}


class Nesterov(Wrapped):
    """Nesterov's accelerated gradient in the limit of small steps: θ̈ + (r/t) θ̇ + ∇L(θ) = 0, with state (θ, v = θ̇, t).

    Time is carried in the state, so the field is autonomous; it begins at t = 0 with θ̇ = 0, where the equation's limit
    is θ̈(0) = −∇L/(r+1). At t = 0 with θ̇ ≠ 0 there is no solution, and the rate is infinite.

    Args:
        base: the field whose rate is −∇L, or a loss function.
        r: the damping number, 3 in Nesterov's method.

    Raises:
        FieldError: r is not positive.

    Source: Su, Boyd & Candès (2016), "A differential equation for modeling Nesterov's accelerated gradient method",
    eq. 3; one step of step size s advances t by √s.

    Example:
        >>> flow = Nesterov(lambda w: 2.0 * (w**2).sum())
        >>> flow.evaluate(flow.lift(torch.tensor([[1.0]]))).rate
        tensor([[ 0., -1.,  1.]])
    """

    blocks, scalars = 2, 1

    def __init__(self, base: Field | Callable[[Tensor], Tensor], *, r: float = 3.0) -> None:
        if r <= 0:
            raise FieldError(f"Nesterov's flow needs r > 0 (3 in the method), got {r:g}.")
        super().__init__(base, "Nesterov flow")
        self.r = r

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        _, v, t = self.split(state)
        began = t > 0
        later = rate - self.r * v / torch.where(began, t, torch.ones_like(t))
        first = torch.where(v == 0, rate / (self.r + 1), -torch.inf * v.sign())
        return torch.cat([v, torch.where(began, later, first), torch.ones_like(t)], dim=-1)
