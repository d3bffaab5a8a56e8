"""Second-order flows: natural, Gauss–Newton and Newton flow, A(θ) θ̇ = −∇L(θ)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field, Linear
from gradientflow.river.fields.metric import Metric, conjugate_gradients, dense, gauss_newton, network_gauss_newton
from gradientflow.river.fields.wrapped import Wrapped, central_difference

if TYPE_CHECKING:
    from gradientflow.river.fields.loss import LossField

DENSE = 256  # up to so many parameters the matrix is built and solved with


class _Preconditioned(Wrapped):
    """A(θ) θ̇ = rate of the base, with A symmetric; J v by a central difference of the rate, two rates per product."""

    damping: float = 0.0
    tolerance: float = 1e-10

    @abstractmethod
    def metric(self, theta: Tensor) -> Linear:
        """Return v ↦ (A(θ) + damping) v."""

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        product = self.metric(state)
        if state.shape[1] <= DENSE:
            return self.solve(dense(product, state), rate)
        return conjugate_gradients(product, rate, tolerance=self.tolerance, who=self.name)

    def solve(self, matrix: Tensor, rate: Tensor) -> Tensor:
        """Return matrix⁻¹ rate; on a singular matrix the solution of least norm."""
        values, vectors = torch.linalg.eigh(matrix)
        floor = torch.finfo(values.dtype).eps * matrix.shape[-1] * values.abs().amax(-1, keepdim=True)
        inverse = torch.where(values.abs() > floor, 1 / values, torch.zeros_like(values))
        along = (vectors * rate[..., None]).sum(-2)
        out: Tensor = (vectors * (inverse * along)[..., None, :]).sum(-1)
        return out

    def linearize(self, theta: Tensor) -> Linear:
        return lambda v: central_difference(lambda at: self.evaluate(at).rate, theta, v)


class NaturalFlow(_Preconditioned):
    """Steepest descent in the metric of the outputs: (F(θ) + μ) θ̇ = −∇L(θ).

    In function space, with F of Gauss–Newton for ½‖outputs − y‖², μ = 0 and independent outputs, the residual decays as
    e^{−t} on every example at the same rate. Up to 256 parameters F is built and inverted on its range; beyond, conjugate
    gradients are used, with one product of F per iteration, to a relative residual of `tolerance`.

    Args:
        base: the field whose rate is −∇L, or a loss function.
        metric: θ ↦ (v ↦ F v), by ``gauss_newton(outputs, loss)`` or your own; None takes the base's own ``gauss_newton``,
            and makes that of the outputs of a ``gf.LossField``.
        damping: μ ≥ 0, in units of F.
        tolerance: of conjugate gradients.

    Raises:
        FieldError: there is no metric, or conjugate gradients do not converge (raised when the rate is evaluated).

    Source: Amari (1998), "Natural gradient works efficiently in learning"; Gauss–Newton as in Martens (2020).

    Example:
        >>> metric = gauss_newton(lambda w: w * torch.tensor([1.0, 10.0]), lambda out: 0.5 * (out**2).sum())
        >>> flow = NaturalFlow(lambda w: 0.5 * (w[0] ** 2 + 100 * w[1] ** 2), metric)
        >>> flow.evaluate(torch.tensor([[2.0, 3.0]])).rate
        tensor([[-2., -3.]])
    """

    def __init__(
        self,
        base: Field | Callable[[Tensor], Tensor],
        metric: Metric | None = None,
        *,
        damping: float = 0.0,
        tolerance: float = 1e-10,
    ) -> None:
        super().__init__(base, "natural flow")
        own = metric or getattr(self.base, "gauss_newton", None)
        if own is None and all(hasattr(self.base, part) for part in ("model", "space", "objective", "batches")):
            own = network_gauss_newton(cast("LossField", self.base))
        if own is None:
            raise FieldError(
                f"{self.base.name} offers no Gauss–Newton product, so the natural flow has no metric. "
                "Pass metric=gauss_newton(outputs, loss), where loss(outputs(θ)) is L(θ)."
            )
        if damping < 0:
            raise FieldError(f"the natural flow needs damping ≥ 0, got {damping:g}.")
        self._metric: Metric = own
        self.damping, self.tolerance = damping, tolerance

    def metric(self, theta: Tensor) -> Linear:
        product = self._metric(theta)
        return lambda v: product(v) + self.damping * v


class NewtonFlow(_Preconditioned):
    """Newton's method in continuous time: (H(θ) + μ) θ̇ = −∇L(θ), H = ∇²L.

    With μ = 0 the gradient keeps its direction, ∇L(t) = e^{−t} ∇L(0), while H is regular; so the flow is drawn to saddles
    and maxima as well as to minima. Up to 256 parameters H is built; beyond, conjugate gradients need H + μ positive.

    Args:
        base: the field whose rate is −∇L, or a loss function.
        damping: μ ≥ 0, in 1/flow time of the base.
        tolerance: relative residual of conjugate gradients.

    Raises:
        FieldError: damping is negative, or conjugate gradients meet negative curvature (raised when the rate is evaluated).

    Source: Smale (1976), "A convergent process of price adjustment and global Newton methods".

    Example:
        >>> flow = NewtonFlow(lambda w: 0.5 * (w[0] ** 2 + 100 * w[1] ** 2))
        >>> flow.evaluate(torch.tensor([[2.0, 3.0]])).rate
        tensor([[-2., -3.]])
    """

    def __init__(
        self, base: Field | Callable[[Tensor], Tensor], *, damping: float = 0.0, tolerance: float = 1e-10
    ) -> None:
        super().__init__(base, "Newton flow")
        if damping < 0:
            raise FieldError(f"Newton's flow needs damping ≥ 0, got {damping:g}.")
        self.damping, self.tolerance = damping, tolerance

    def metric(self, theta: Tensor) -> Linear:
        product = self.base.linearize(theta)
        return lambda v: self.damping * v - product(v)


__all__ = ["DENSE", "NaturalFlow", "NewtonFlow", "gauss_newton", "network_gauss_newton"]
