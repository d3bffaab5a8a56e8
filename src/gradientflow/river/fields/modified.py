"""Gradient descent seen as a flow: the fields whose exact flow its steps follow better than −∇L.

Descent θ_{k+1} = θ_k + η f(θ_k) is compared at t = kη with the flow of f̃ = f − (η/2) f′f + η² (⅓ f′f′f + 1/12 f″(f, f)),
the first terms of backward error analysis (Hairer, Lubich & Wanner 2006, §IX.1). With f = −∇L that is
−∇L − (η/2) H∇L − η² (⅓ H²∇L + 1/12 ∇³L(∇L, ∇L)); stopping after n terms leaves a gap of order ηⁿ.

Third derivatives are never asked of PyTorch: they are central differences of first derivatives of the base's rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gradientflow.curvature import top_eigenpair
from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Evaluation, Field, Linear
from gradientflow.river.fields.geometry import DENSE
from gradientflow.river.fields.metric import dense
from gradientflow.river.fields.wrapped import Wrapped, central_difference


class ModifiedFlow(Wrapped):
    """The flow that gradient descent of learning rate η follows to second or third order, on the clock t = kη.

    Order 2 is implicit gradient regularisation: θ̇ = −∇L − (η/2) H∇L, the gradient flow of L + (η/4)‖∇L‖², which is then
    the value. Order 3 adds −η² (⅓ H²∇L + 1/12 ∇³L(∇L, ∇L)); it is not a gradient, and its value is L. A rate costs one
    gradient and one (order 2) or four (order 3) Hessian-vector products.

    Args:
        base: the field that is descended, or a loss function; any field f will do, as Euler's method on it.
        lr: η, in flow time.
        order: 2 or 3.
        trust: go on with order 3 although the base warns of its third derivatives. The differences taken here need only
            its Hessian-vector products, which are right through LayerNorm; hold the result against descent all the same.

    Raises:
        FieldError: order 3 on a model whose third derivatives are known to be wrong (the base says so in
            ``third_derivative_warning``) without `trust`, η negative, or another order.

    Source: Barrett & Dherin (2021), "Implicit gradient regularization" (order 2); Hairer, Lubich & Wanner (2006),
    §IX.1 (order 3).

    Example:
        >>> flow = ModifiedFlow(lambda w: 0.5 * (w**2).sum(), lr=0.2)
        >>> flow.evaluate(torch.tensor([[1.0]]))
        Evaluation(rate=tensor([[-1.1000]]), value=tensor([0.5500]))
    """

    def __init__(
        self, base: Field | Callable[[Tensor], Tensor], lr: float, *, order: int = 2, trust: bool = False
    ) -> None:
        super().__init__(base, f"modified flow of order {order} (η = {lr:g})")
        if order not in (2, 3):
            raise FieldError(
                f"the modified flow is known to orders 2 and 3, got order={order!r}. Order 1 is the base field itself."
            )
        if lr < 0:
            raise FieldError(f"the modified flow needs a learning rate ≥ 0, got {lr:g}.")
        warning = getattr(self.base, "third_derivative_warning", None)
        if order == 3 and warning and not trust:
            raise FieldError(
                f"the modified flow of order 3 needs third derivatives of {self.base.name}, which PyTorch does not give right: {warning} "
                "Use order=2, which needs none; or pass trust=True, to take them from differences of Hessian-vector products."
            )
        self.lr, self.order = lr, order
        self.potential = self.base.potential and order == 2
        self.price = (1, 1) if order == 2 else (1, 4)

    def evaluate(self, theta: Tensor) -> Evaluation:
        at = self.base.evaluate(theta)
        rate = at.rate
        product = self.base.linearize(theta)
        bent = product(rate)  # f′f, for a loss H∇L
        out = rate - 0.5 * self.lr * bent
        if self.order == 3:
            out = out + self.lr**2 * (product(bent) / 3 + _second(self.base, theta, rate, rate) / 12)
        return Evaluation(out, self._value(at))

    def _value(self, at: Evaluation) -> Tensor | None:
        if at.value is None or not self.potential:
            return at.value
        return at.value + 0.25 * self.lr * (at.rate * at.rate).sum(1)

    def value(self, theta: Tensor) -> Tensor | None:
        return self._value(self.base.evaluate(theta)) if self.potential else self.base.value(theta)

    def linearize(self, theta: Tensor) -> Linear:
        if self.order == 3:
            return lambda v: central_difference(lambda at: self.evaluate(at).rate, theta, v)
        rate = self.base.evaluate(theta).rate
        inner = self.base.linearize(theta)

        def product(v: Tensor) -> Tensor:  # d/dθ (f − (η/2) f′f) v = f′v − (η/2) (f′f′v + f″(v, f))
            pushed = inner(v)
            return pushed - 0.5 * self.lr * (inner(pushed) + _second(self.base, theta, v, rate))

        return product

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        return rate - 0.5 * self.lr * self.base.linearize(state)(rate)


def _second(base: Field, theta: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return f″(u, v) = ∂(f′v)/∂θ u, by a central difference of f′v along u."""
    return central_difference(lambda at: base.linearize(at)(v), theta, u)


class PrincipalFlow(Wrapped):
    """The flow of gradient descent that is exact on quadratics, along the k leading eigenvectors of the Hessian.

    θ̇ = Σ_i [ln(1 − ηλ_i)/(ηλ_i)] (∇L·u_i) u_i over the k eigenpairs of largest λ, and −∇L − (η/2) H∇L on what is left.
    For ηλ > 1 the factor is complex and its real part ln|1 − ηλ|/(ηλ) is taken: the envelope of the zigzag, which shrinks
    for ηλ < 2 and grows beyond. At ηλ = 1 descent lands in one step and the rate is infinite.

    Up to 256 parameters the Hessian is built at every point; beyond, the eigenpairs come from Lanczos with deflation,
    about 20 Hessian-vector products each at every point.

    Args:
        base: the loss field, or a loss function.
        lr: η, in flow time.
        k: eigenpairs, at least 1; more than there are parameters means all.
        eigenpairs: your own, θ (B, P) ↦ (values (B, k), orthonormal vectors (B, k, P)); k is then not used.

    Raises:
        FieldError: the base has no potential, η is not positive or k is below 1.

    Source: Rosca, Wu, Qin & Dherin (2023), "On a continuous time model of gradient descent dynamics and instability in
    deep learning".

    Example:
        >>> flow = PrincipalFlow(lambda w: 0.5 * (w**2).sum(), lr=0.5, k=1)
        >>> flow.evaluate(torch.tensor([[1.0]])).rate
        tensor([[-1.3863]])
    """

    def __init__(
        self,
        base: Field | Callable[[Tensor], Tensor],
        lr: float,
        k: int = 1,
        *,
        eigenpairs: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__(base, f"principal flow (η = {lr:g}, k = {k})")
        if not self.base.potential:
            raise FieldError(
                f"the principal flow needs a loss: {self.base.name} has no symmetric Hessian. Use ModifiedFlow(field, lr)."
            )
        if lr <= 0 or k < 1:
            raise FieldError(f"the principal flow needs a learning rate > 0 and k ≥ 1, got lr={lr:g} and k={k}.")
        self.lr, self.k = lr, k
        self._eigenpairs = eigenpairs or (lambda theta: leading(self.base, theta, self.k))

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        values, vectors = self._eigenpairs(state)
        x = self.lr * values
        # The bracket beyond the two terms that the whole space already gets from −∇L − (η/2) H∇L.
        beyond = _log_factor(x) + 1 + 0.5 * x
        along = torch.einsum("bkp,bp->bk", vectors, rate)
        igr = rate - 0.5 * self.lr * self.base.linearize(state)(rate)
        return igr - torch.einsum("bk,bkp->bp", beyond * along, vectors)

    def linearize(self, theta: Tensor) -> Linear:
        return lambda v: central_difference(lambda at: self.evaluate(at).rate, theta, v)


def _log_factor(x: Tensor) -> Tensor:
    """Return ln|1 − x|/x, −1 − x/2 near 0."""
    near = x.abs() < 1e-4
    safe = torch.where(near, torch.full_like(x, 0.5), x)
    far = (
        torch.where(
            safe < 1, torch.log1p(-torch.where(safe < 1, safe, torch.zeros_like(x))), torch.log((1 - safe).abs())
        )
        / safe
    )
    far = torch.where(safe == 1, torch.full_like(x, -math.inf), far)
    return torch.where(near, -1 - x / 2 - x * x / 3 - x**3 / 4, far)


def leading(base: Field, theta: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest eigenvalues of the Hessian, (B, k), and their eigenvectors, (B, k, P), largest first.

    Example:
        >>> from gradientflow.river.fields.wrapped import as_field
        >>> bowl = as_field(lambda w: 0.5 * (w[0] ** 2 + 3 * w[1] ** 2))
        >>> leading(bowl, torch.tensor([[1.0, 1.0]]), 1)[0]
        tensor([[3.]])
    """
    size = theta.shape[1]
    k = min(k, size)
    if size <= DENSE:
        inner = base.linearize(theta)
        values, vectors = torch.linalg.eigh(dense(lambda v: -inner(v), theta))
        return values.flip(-1)[:, :k], vectors.mT.flip(1)[:, :k]
    rows = [_by_lanczos(base, row[None], k) for row in theta]
    return torch.stack([values for values, _ in rows]), torch.stack([vectors for _, vectors in rows])


def _by_lanczos(base: Field, row: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k leading eigenpairs at one point; every Lanczos run starts from the same numbers, so that a point has one rate."""
    inner = base.linearize(row)
    made = torch.Generator().manual_seed(0)
    values: list[float] = []
    vectors: list[Tensor] = []
    for _ in range(k):

        def deflated(v: Tensor) -> Tensor:
            out = -inner(v[None])[0]
            for value, u in zip(values, vectors, strict=True):  # found ones go to −|λ₁|, below what is looked for
                out = out - (value + abs(values[0])) * torch.dot(u, v) * u
            return out

        start = torch.randn(row.shape[1], generator=made, dtype=torch.float64).to(row)
        for u in vectors:
            start = start - torch.dot(u, start) * u
        pair = top_eigenpair(deflated, start, max_products=80, tolerance=1e-7)
        if pair is None:
            raise FieldError(
                f"{base.name}: the Hessian at this point has products that are not finite; there is no principal flow here."
            )
        values.append(pair.value)
        vectors.append(pair.vector)
    return row.new_tensor([values]).reshape(k), torch.stack(vectors)
