"""Flows of the adaptive optimisers: Adam, RMSProp, and their bare limits, the sign flow and the normalised flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.wrapped import Wrapped


class AdamFlow(Wrapped):
    """Adam in the limit of small steps with fixed memory times, with state (θ, m, ν, t).

    θ̇ = −m̂/(√ν̂ + ε) − λθ, τ_m ṁ = g − m, τ_ν ν̇ = g² − ν, g = ∇L, with bias correction m̂ = m/(1 − e^{−t/τ_m}),
    ν̂ = ν/(1 − e^{−t/τ_ν}). It begins at t = 0, m = ν = 0, where the limits are m̂ = g and ν̂ = g².

    Args:
        base: the field whose rate is −g, or a loss function.
        memory: (τ_m, τ_ν) in flow time.
        eps: ε, in units of the gradient.
        weight_decay: λ of AdamW, 1/flow time; decoupled, so it is not part of the loss.
        bias_correction: False leaves m and ν as they are; the flow then starts like RMSProp's, with ν(0) = g² and m(0) = g.

    Raises:
        FieldError: a memory time or ε is not positive.

    Source: Barakat & Bianchi (2021), "Convergence and dynamical behavior of the Adam algorithm".

    Example:
        >>> flow = AdamFlow(lambda w: 0.5 * (w**2).sum(), memory=(0.1, 1.0))
        >>> flow.evaluate(flow.lift(torch.tensor([[3.0]]))).rate
        tensor([[-1., 30.,  9.,  1.]])
    """

    blocks, scalars = 3, 1

    def __init__(
        self,
        base: Field | Callable[[Tensor], Tensor],
        memory: tuple[float, float],
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
    ) -> None:
        if min(*memory, eps) <= 0:
            raise FieldError(f"Adam's flow needs memory times and eps > 0, got memory {memory} and eps {eps:g}.")
        super().__init__(base, "Adam flow")
        self.memory, self.eps, self.weight_decay, self.bias_correction = memory, eps, weight_decay, bias_correction

    @classmethod
    def of_descent(
        cls,
        base: Field | Callable[[Tensor], Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        *,
        eps: float = 1e-8,
    ) -> AdamFlow:
        """Return the flow on the clock t = Σ η of ``torch.optim.Adam(lr=lr, betas=betas)``: τ = η/(1 − β).

        Example:
            >>> AdamFlow.of_descent(lambda w: (w**2).sum(), lr=0.01, betas=(0.5, 0.75)).memory
            (0.02, 0.04)
        """
        return cls(base, (lr / (1 - betas[0]), lr / (1 - betas[1])), eps=eps)

    def lift(self, theta: Tensor) -> Tensor:
        if self.bias_correction:
            return super().lift(theta)
        g = _gradient(self.base, theta)
        return torch.cat([theta, g, g * g, torch.zeros_like(theta[..., :1])], dim=-1)

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        theta, m, nu, t = self.split(state)
        g = -rate
        m_hat, nu_hat = m, nu
        if self.bias_correction:
            m_hat, nu_hat = _unbiased(m, t, self.memory[0], g), _unbiased(nu, t, self.memory[1], g * g)
        speed = -m_hat / (_root(nu_hat) + self.eps) - self.weight_decay * theta
        return torch.cat([speed, (g - m) / self.memory[0], (g * g - nu) / self.memory[1], torch.ones_like(t)], dim=-1)


class RMSPropFlow(Wrapped):
    """RMSProp in the limit of small steps with fixed memory time: θ̇ = −g/(√ν + ε), τ ν̇ = g² − ν, with state (θ, ν).

    It begins at ν = g², so that the first rate is −sign(g). (At ν = 0, where ``torch.optim.RMSprop`` begins, the rate
    would be −g/ε and then fall like t^{−1/2}; pass such a state yourself if that is what you want.)

    Args:
        base: the field whose rate is −g, or a loss function.
        memory: τ in flow time; for decay β and learning rate η it is η/(1 − β).
        eps: ε, in units of the gradient.

    Raises:
        FieldError: τ or ε is not positive.

    Source: Ma, Wu & E (2022), "A qualitative study of the dynamic behavior for adaptive gradient algorithms".

    Example:
        >>> flow = RMSPropFlow(lambda w: 0.5 * (w**2).sum(), memory=1.0)
        >>> flow.evaluate(flow.lift(torch.tensor([[3.0]]))).rate
        tensor([[-1.,  0.]])
    """

    blocks = 2

    def __init__(self, base: Field | Callable[[Tensor], Tensor], memory: float, *, eps: float = 1e-8) -> None:
        if min(memory, eps) <= 0:
            raise FieldError(f"RMSProp's flow needs a memory time and eps > 0, got memory {memory:g} and eps {eps:g}.")
        super().__init__(base, "RMSProp flow")
        self.memory, self.eps = memory, eps

    def lift(self, theta: Tensor) -> Tensor:
        return torch.cat([theta, _gradient(self.base, theta) ** 2], dim=-1)

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        _, nu = self.split(state)
        return torch.cat([rate / (_root(nu) + self.eps), (rate * rate - nu) / self.memory], dim=-1)


class SignFlow(Wrapped):
    """Every coordinate moves at unit speed downhill: θ̇ = −sign(∇L), or −g/√(g² + s²) with softness s.

    At s = 0 the rate jumps where a gradient component changes its sign, and the exact flow slides along there; a solver
    that follows it to such a place needs tiny steps. A softness well below the gradients of interest rounds the jump off.

    Args:
        base: the field whose rate is −g, or a loss function.
        softness: s, in units of the gradient.

    Raises:
        FieldError: s is negative.

    Source: Ma, Wu & E (2022), the limit of Adam at vanishing memory.

    Example:
        >>> SignFlow(lambda w: (w**2).sum()).evaluate(torch.tensor([[3.0, -0.1]])).rate
        tensor([[-1.,  1.]])
    """

    def __init__(self, base: Field | Callable[[Tensor], Tensor], *, softness: float = 0.0) -> None:
        if softness < 0:
            raise FieldError(f"the sign flow needs softness ≥ 0, got {softness:g}.")
        super().__init__(base, "sign flow")
        self.softness = softness

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        return rate / torch.sqrt(rate * rate + self.softness**2) if self.softness else torch.sign(rate)


class NormalisedFlow(Wrapped):
    """θ moves at unit speed straight downhill: θ̇ = −g/‖g‖, or −g/√(‖g‖² + s²) with softness s.

    It runs along the same curve as the gradient flow, with arc length for time; at s = 0 it reaches a minimum in finite
    time, where the rate is not defined and zero is returned.

    Args:
        base: the field whose rate is −g, or a loss function.
        softness: s, in units of the gradient.

    Raises:
        FieldError: s is negative.

    Source: Cortés (2006), "Finite-time convergent gradient flows with applications to network consensus".

    Example:
        >>> NormalisedFlow(lambda w: 0.5 * (w**2).sum()).evaluate(torch.tensor([[3.0, -4.0]])).rate
        tensor([[-0.6000,  0.8000]])
    """

    def __init__(self, base: Field | Callable[[Tensor], Tensor], *, softness: float = 0.0) -> None:
        if softness < 0:
            raise FieldError(f"the normalised flow needs softness ≥ 0, got {softness:g}.")
        super().__init__(base, "normalised flow")
        self.softness = softness

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        speed = _root((rate * rate).sum(-1, keepdim=True) + self.softness**2)
        return torch.where(
            speed > 0, rate / torch.where(speed > 0, speed, torch.ones_like(speed)), torch.zeros_like(rate)
        )


def _root(x: Tensor) -> Tensor:
    """Return √x, and 0 with slope 0 where x ≤ 0: a stage of a solver may put ν a hair below zero."""
    return torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, torch.ones_like(x))), torch.zeros_like(x))


def _unbiased(average: Tensor, t: Tensor, memory: float, limit: Tensor) -> Tensor:
    """Return average/(1 − e^{−t/τ}), and its limit at t = 0."""
    began = t > 0
    weight = -torch.expm1(-torch.where(began, t, torch.ones_like(t)) / memory)
    return torch.where(began, average / weight, limit)


def _gradient(base: Field, theta: Tensor) -> Tensor:
    rows = theta if theta.dim() == 2 else theta[None]
    return base.evaluate(rows).rate.neg().reshape(theta.shape)
