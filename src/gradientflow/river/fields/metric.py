"""Metrics of parameter space as products v ↦ F v, and solving with them: dense for few parameters, iterative for many."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Linear, push

if TYPE_CHECKING:
    from gradientflow.river.fields.loss import LossField

Metric = Callable[[Tensor], Linear]
"""θ, (B, P), ↦ (v ↦ F(θ) v), F symmetric and positive semidefinite."""


def gauss_newton(outputs: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor]) -> Metric:
    """Return the Gauss–Newton metric of L(θ) = loss(outputs(θ)): F(θ) = Jᵀ ∇²loss J, J = ∂outputs/∂θ.

    For cross-entropy, squared error and other losses that are negative log-likelihoods in natural parameters this is the
    Fisher information (Martens 2020, "New insights and perspectives on the natural gradient method"). One product
    costs a forward-mode and a reverse-mode derivative of `outputs`; the matrix is never built here.

    Args:
        outputs: one point, (P,), to what the loss is taken of, any shape.
        loss: that to a scalar, convex.

    Returns:
        θ, (B, P), ↦ (v ↦ F v).

    Example:
        >>> metric = gauss_newton(lambda w: torch.stack([w[0], 3 * w[1]]), lambda out: 0.5 * (out**2).sum())
        >>> metric(torch.ones(1, 2))(torch.ones(1, 2))
        tensor([[1., 9.]])
    """

    def one(w: Tensor, v: Tensor) -> Tensor:
        return _curve(outputs, loss, w, v)

    def at(theta: Tensor) -> Linear:
        def product(v: Tensor) -> Tensor:
            with torch.no_grad():
                if theta.shape[0] == 1:
                    return one(theta[0], v[0])[None]
                out: Tensor = torch.func.vmap(one)(theta, v)
                return out

        return product

    return at


def network_gauss_newton(field: LossField) -> Metric:
    """Return the Gauss–Newton metric of a network's loss: Σ_b c_b J_bᵀ ∇²loss_b J_b / Σ_b c_b + λ, batch by batch.

    c_b and λ are the field's own: examples of a mean (1 for a sum), and weight decay.

    Args:
        field: a ``gf.LossField``.

    Returns:
        θ, (B, P), ↦ (v ↦ F v); one pass over the data per product and drop.
    """

    def one(row: Tensor, v: Tensor) -> Tensor:
        total, amounts = torch.zeros_like(v), 0.0
        for x, y, n in field.batches:
            amount = 1.0 if field.batches.number == 1 else field.objective.amount(y, n)
            if not amount:
                continue

            def outputs(w: Tensor, x: Any = x) -> Any:
                return field.model(field.space.split(w), x)

            def loss(out: Any, y: Any = y) -> Tensor:
                return field.objective(out, y)

            with field.model.twice():
                total.add_(_curve(outputs, loss, row, v).to(total), alpha=amount)
            amounts += amount
        if field.objective.reduction == "mean":
            total.div_(amounts)
        return total.add_(v, alpha=field.weight_decay)

    def at(theta: Tensor) -> Linear:
        def product(v: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.stack([one(row, along) for row, along in zip(theta, v, strict=True)])

        return product

    return at


def _curve(outputs: Callable[[Tensor], Any], loss: Callable[[Any], Tensor], w: Tensor, v: Tensor) -> Tensor:
    """Return Jᵀ ∇²loss J v at one point."""
    out, pushed = push(outputs, (w,), (v,))
    _, curved = push(torch.func.grad(loss), (out,), (pushed,))
    back: Tensor = torch.func.vjp(outputs, w)[1](curved)[0]
    return back


def dense(product: Linear, theta: Tensor) -> Tensor:
    """Return the symmetric matrix of v ↦ A v at each point, (B, P, P), by P products."""
    columns = []
    for i in range(theta.shape[1]):
        unit = torch.zeros_like(theta)
        unit[:, i] = 1.0
        columns.append(product(unit))
    matrix = torch.stack(columns, dim=-1)
    return 0.5 * (matrix + matrix.mT)


def conjugate_gradients(
    product: Linear, right: Tensor, *, tolerance: float, who: str = "the flow", most: int | None = None
) -> Tensor:
    """Solve A x = b for every row, from x = 0, A symmetric positive semidefinite (Hestenes & Stiefel 1952, §3).

    Args:
        product: v ↦ A v, (B, P) → (B, P).
        right: b, (B, P); where A is singular, in its range.
        tolerance: of ‖b − A x‖ / ‖b‖, row by row.
        who: the name that an error begins with.
        most: products at most; 10 P + 100 where None, but not above 2000.

    Returns:
        x, (B, P).

    Raises:
        FieldError: A has negative curvature along a search direction, or the tolerance is not reached.

    Example:
        >>> d = torch.tensor([[1.0, 4.0]])
        >>> conjugate_gradients(lambda v: d * v, torch.tensor([[2.0, 2.0]]), tolerance=1e-6)
        tensor([[2.0000, 0.5000]])
    """
    most = min(10 * right.shape[1] + 100, 2000) if most is None else most
    x, residual = torch.zeros_like(right), right.clone()
    direction = residual.clone()
    rr = (residual * residual).sum(1)
    goal = tolerance**2 * rr
    for _ in range(most):
        open_ = rr > goal
        if not bool(open_.any()):
            return x
        pushed = product(direction)
        curvature = (direction * pushed).sum(1)
        if bool((open_ & (curvature <= 0)).any()):
            raise FieldError(
                f"{who}: the matrix of this flow has curvature {float(curvature[open_].min()):.3g} ≤ 0 along a search direction, "
                "and conjugate gradients need it positive. Add damping above minus its smallest eigenvalue."
            )
        step = torch.where(open_, rr / torch.where(open_, curvature, torch.ones_like(rr)), torch.zeros_like(rr))
        x = x + step[:, None] * direction
        residual = residual - step[:, None] * pushed
        fresh = (residual * residual).sum(1)
        direction = (
            residual
            + torch.where(open_, fresh / torch.where(open_, rr, torch.ones_like(rr)), torch.zeros_like(rr))[:, None]
            * direction
        )
        rr = torch.where(open_, fresh, rr)
    if bool((rr > goal).any()):
        worst = float((rr / goal.clamp(min=1e-300)).max()) ** 0.5 * tolerance
        raise FieldError(
            f"{who}: conjugate gradients stopped after {most} products at a relative residual of {worst:.2g}, expected "
            f"{tolerance:.2g}. Add damping (it bounds the condition number), or allow a larger tolerance."
        )
    return x
