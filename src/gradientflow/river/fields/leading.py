"""The leading error of gradient descent, carried along the flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation, Field, Linear
from gradientflow.river.fields.wrapped import Wrapped, central_difference


class LeadingError(Wrapped):
    """The flow of a loss together with the first-order error e of gradient descent beside it.

    θ_k − θ(kη) = η e(kη) + O(η²) with ė = −He − ½H∇L, e(0) = 0. With the rate f = −∇L and J = −H this is
    ė = J(e − ½f): one Hessian-vector product per evaluation. The state is (θ, e), shape (B, 2P).

    Args:
        base: a field with a potential, or a loss function.

    Source:
        Hairer, Nørsett & Wanner 1993, II.8 (asymptotic expansion of the global error), for Euler's method.

    Example:
        >>> field = LeadingError(lambda w: 0.5 * (w**2).sum())
        >>> field.evaluate(torch.tensor([[1.0, 0.0]], dtype=torch.float64)).rate
        tensor([[-1.0000, -0.5000]], dtype=torch.float64)
    """

    blocks = 2
    price = (1, 1)

    def __init__(self, base: Field | Callable[[Tensor], Tensor]) -> None:
        super().__init__(base, "leading error of descent")

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        """Return (f, J(e − ½f))."""
        theta, error = self.split(state)
        return torch.cat([rate, self.base.linearize(theta.contiguous())(error - 0.5 * rate)], dim=1)

    def evaluate(self, theta: Tensor) -> Evaluation:
        at = self.base.evaluate(self.position(theta).contiguous())
        return Evaluation(self.combine(theta, at.rate), at.value)

    def linearize(self, theta: Tensor) -> Linear:
        """Return v ↦ Jv of the pair by a difference of rates: J of the second half needs third derivatives."""

        def product(v: Tensor) -> Tensor:
            return central_difference(lambda z: self.evaluate(z).rate, theta, v)

        return product
