"""Curvature of a loss at one point: Hessian-vector products and a warm-started Lanczos iteration.

For a symmetric operator A the Lanczos iteration builds an orthonormal basis in which A is the tridiagonal T; the
eigenvalues of T (Ritz values) approach the outer eigenvalues of A first, and |β_k s_k| bounds the error of a Ritz
value with last eigenvector component s_k (Parlett 1980, §13.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class TopEigenpair:
    """Largest eigenvalue (by value, not by magnitude) of a symmetric operator.

    Attributes:
        value: the Ritz value.
        vector: its Ritz vector, unit norm, shape (n,); a warm start for a nearby operator.
        residual: bound on |value − nearest eigenvalue|, relative to |value|.
        products: operator applications used.
        first: Rayleigh quotient vᵀAv of the start vector.
    """

    value: float
    vector: Tensor
    residual: float
    products: int
    first: float


def flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """Return tensors as one vector; None stands for zeros of the shape in `like`."""
    return torch.cat(
        [(torch.zeros_like(p) if t is None else t).reshape(-1) for t, p in zip(tensors, like, strict=True)]
    )


def hessian_operator(gradient: Tensor, params: Sequence[Tensor]) -> Operator:
    """Return v ↦ Hv for the loss whose gradient was built with ``create_graph=True``.

    H v = ∂(gᵀv)/∂θ (Pearlmutter 1994, eq. 8).

    Args:
        gradient: flat gradient, shape (n,), with its graph.
        params: the parameters it was taken at.

    Returns:
        A function from a vector of shape (n,) to a vector of shape (n,).

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> g = torch.autograd.grad((w[0] ** 2 + 3 * w[1] ** 2), [w], create_graph=True)[0]
        >>> hessian_operator(g, [w])(torch.tensor([1.0, 1.0]))
        tensor([2., 6.])
    """

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:  # linear loss: no curvature
            return torch.zeros_like(v)
        parts = torch.autograd.grad(gradient, params, grad_outputs=v, retain_graph=True, allow_unused=True)
        return flat(parts, params).detach()

    return product


def top_eigenpair(
    apply: Operator, start: Tensor, *, max_products: int = 12, tolerance: float = 0.02
) -> TopEigenpair | None:
    """Return the largest eigenvalue of a symmetric operator by Lanczos with full reorthogonalisation.

    Args:
        apply: the operator, (n,) → (n,).
        start: start vector, shape (n,), any norm but zero; the closer to the eigenvector the fewer products.
        max_products: operator applications at most.
        tolerance: stop when the relative residual bound is below this.

    Returns:
        The eigenpair, or None where the start vector is zero or a product is not finite.

    Example:
        >>> d = torch.tensor([1.0, 2.0, 5.0])
        >>> round(top_eigenpair(lambda v: d * v, torch.ones(3)).value, 4)
        5.0
    """
    norm = start.norm()
    if not torch.isfinite(norm) or float(norm) == 0.0:
        return None
    basis = [start.detach() / norm]
    alphas: list[float] = []
    betas: list[float] = []
    value, residual, s = 0.0, float("inf"), torch.ones(1)
    for _ in range(min(max_products, start.numel())):
        w = apply(basis[-1])
        alpha = float(torch.dot(w, basis[-1]))
        if not math.isfinite(alpha):
            return None
        alphas.append(alpha)
        for _ in range(2):  # twice is enough (Kahan, in Parlett 1980, §6.9)
            for q in basis:
                w = w - torch.dot(w, q) * q
        beta = float(w.norm())
        values, vectors = torch.linalg.eigh(_tridiagonal(alphas, betas))
        value, s = float(values[-1]), vectors[:, -1]
        residual = beta * abs(float(s[-1])) / max(abs(value), 1e-30)
        if residual <= tolerance or beta <= 1e-7 * max(abs(value), 1e-30):
            break
        betas.append(beta)
        basis.append(w / beta)
    return TopEigenpair(value, _combine(basis[: len(alphas)], s), residual, len(alphas), alphas[0])


def _tridiagonal(alphas: list[float], betas: list[float]) -> Tensor:
    t = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    for i, beta in enumerate(betas[: len(alphas) - 1]):
        t[i, i + 1] = t[i + 1, i] = beta
    return t


def _combine(basis: list[Tensor], s: Tensor) -> Tensor:
    out = torch.zeros_like(basis[0])
    for q, c in zip(basis, s.tolist(), strict=True):
        out.add_(q, alpha=c)
    return out
