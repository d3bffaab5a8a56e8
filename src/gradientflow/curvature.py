"""Curvature of a loss at one point: Hessian-vector products and a warm-started Lanczos iteration.

For a symmetric operator A the Lanczos iteration builds an orthonormal basis in which A is the tridiagonal T; the
eigenvalues of T (Ritz values) approach the outer eigenvalues of A first, and |β_k s_k| bounds the error of a Ritz
value with last eigenvector component s_k (Parlett 1980, §13.2).
"""

from __future__ import annotations

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
    found = lanczos(
        lambda v: apply(v[0])[None], start.detach().clone()[None], width=max_products, tolerance=tolerance, least=1
    )
    if not found.finite:
        return None
    value = float(found.top[0])
    vector = found.ritz(top=1.0, bottom=0.0)[0]
    return TopEigenpair(
        value, vector, float(found.bound[0]) / max(abs(value), 1e-30), found.products, float(found.first[0])
    )


@dataclass(frozen=True, slots=True)
class Ritz:
    """What a short Lanczos iteration found out about B symmetric operators side by side.

    Attributes:
        top, bottom: largest and smallest Ritz value, shape (B,), float64, on the CPU.
        bound: error bound of `top`, |β_k s_k|, shape (B,).
        first: Rayleigh quotient of each start vector, shape (B,).
        products: operator applications, each of all B rows.
        finite: no product had a NaN or Inf.
    """

    top: Tensor
    bottom: Tensor
    bound: Tensor
    first: Tensor
    products: int
    finite: bool
    _basis: list[Tensor]
    _weights: Tensor  # eigenvectors of the tridiagonal, (B, k, k)

    def ritz(self, top: float, bottom: float) -> Tensor:
        """Return top·(top Ritz vector) + bottom·(bottom Ritz vector), shape (B, n). Spends the basis: call it once."""
        weights = (top * self._weights[:, :, -1] + bottom * self._weights[:, :, 0]).to(self._basis[0])
        out = self._basis[0].mul_(weights[:, :1])
        for i, q in enumerate(self._basis[1:], 1):
            out.addcmul_(q, weights[:, i : i + 1])
        return out


def lanczos(apply: Operator, start: Tensor, *, width: int, tolerance: float, least: int = 2) -> Ritz:
    """Run a short Lanczos iteration with full reorthogonalisation on B symmetric operators at once.

    Args:
        apply: row-wise operator, (B, n) → (B, n).
        start: start vectors, shape (B, n), none of them zero; spent: it becomes the first basis vector.
        width: products, and basis vectors held, at most.
        tolerance: stop when every row's bound is below this share of its top Ritz value.
        least: products at least.

    Source: Parlett 1980, §13.2 (bound) and §6.9 (orthogonalising twice is enough).

    Example:
        >>> d = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64)
        >>> found = lanczos(lambda v: d * v, torch.ones(1, 3, dtype=torch.float64), width=3, tolerance=1e-9)
        >>> round(float(found.top), 6), round(float(found.bottom), 6)
        (5.0, 1.0)
    """
    drops, size = start.shape
    basis = [start.div_(start.norm(dim=1, keepdim=True).clamp_min(1e-30))]
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    while True:
        w = apply(basis[-1])
        w = w.clone() if w is basis[-1] else w
        alphas.append(torch.linalg.vecdot(w, basis[-1]).real.double().cpu())
        for _ in range(2):
            for q in basis:
                w.addcmul_(q, torch.linalg.vecdot(w, q)[:, None], value=-1.0)
        length: Tensor = torch.linalg.vector_norm(w, dim=1)
        beta = length.double().cpu()
        k = len(alphas)
        t = torch.zeros(drops, k, k, dtype=torch.float64)
        for i in range(k):
            t[:, i, i] = alphas[i]
            if i + 1 < k:
                t[:, i, i + 1] = t[:, i + 1, i] = betas[i]
        finite = bool(torch.isfinite(t).all())
        values, vectors = torch.linalg.eigh(torch.nan_to_num(t))
        bound = beta * vectors[:, -1, -1].abs()
        exhausted = beta <= 1e-7 * values.abs().amax(1).clamp_min(1e-30)
        close = (bound <= tolerance * values[:, -1].abs()) & (k >= least)
        if not finite or k >= min(width, size) or bool((exhausted | close).all()):
            return Ritz(values[:, -1], values[:, 0], bound, alphas[0], k, finite, basis, vectors)
        betas.append(beta)
        basis.append(w.div_(length.clamp_min(1e-30)[:, None]))


@dataclass(frozen=True, slots=True)
class Leading:
    """The largest eigenvalues of a symmetric operator, each with what is left of it.

    Attributes:
        values: Rayleigh quotients, largest first, shape (k,), float64.
        vectors: unit vectors, shape (k, n).
        residuals: ‖Av − λv‖, shape (k,): an eigenvalue lies as near to each value (Parlett 1980, §4.5).
        bottom: smallest Ritz value: an upper estimate of the smallest eigenvalue.
        products: operator applications used.
        finite: no product had a NaN or Inf.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    bottom: float
    products: int
    finite: bool


def leading(
    apply: Operator, start: Tensor, count: int, *, tolerance: float, products: int, width: int, seed: int = 0, least: int = 1,
) -> Leading:  # fmt: skip
    """Return the largest eigenvalues of a symmetric operator by a thick-restart Lanczos iteration.

    A Krylov space holds one vector of each eigenspace. So that an eigenvalue that is there more than once is found as often,
    a random vector joins the space when the values seem to be found, and they have to stand against it.

    Args:
        apply: the operator, (n,) → (n,).
        start: start vector, shape (n,), not zero.
        count: how many eigenvalues, at most n.
        tolerance: residuals at most, over the largest value in size.
        products: operator applications at most; what is not found by then has a larger residual.
        width: basis vectors held, at least count + 2.
        seed: of the random vectors.
        least: operator applications at least: a start near an eigenvector that is not the first any more satisfies the
            tolerance at once.

    Source: Wu & Simon 2000 (thick restart).

    Example:
        >>> d = torch.tensor([1.0, 5.0, 2.0, 5.0], dtype=torch.float64)
        >>> found = leading(lambda v: d * v, torch.ones(4, dtype=torch.float64), 3, tolerance=1e-9, products=50, width=6)
        >>> found.values.round(decimals=6).tolist()
        [5.0, 5.0, 2.0]
    """
    size = len(start)
    width = min(max(width, count + 2), size)
    maker = torch.Generator().manual_seed(seed)
    basis = torch.empty(width, size, dtype=start.dtype, device=start.device)
    basis[0] = start / start.norm()
    inner = torch.zeros(width, width, dtype=torch.float64)
    held, used, stands, finite = 1, 0, count == 1, True
    until, lowest = least, float("inf")
    tiny = 100 * torch.finfo(start.dtype).eps
    while True:
        w = apply(basis[held - 1])
        used += 1
        finite = bool(torch.isfinite(w).all())
        if not finite:
            held -= 1
            break
        along, w = _beside(basis[:held], w)
        inner[:held, held - 1] = inner[held - 1, :held] = along.double().cpu()
        length = float(w.norm())
        values, weights = torch.linalg.eigh(inner[:held, :held])
        scale, lowest = float(values.abs().amax()), min(lowest, float(values[0]))
        left = length * weights[-1, -count:].abs()
        found = held >= count and bool((left <= tolerance * max(scale, 1e-300)).all())
        if held == size or used >= products or (found and stands and used >= until):
            break
        fresh = length <= tiny * scale or (found and not stands)
        if found and not stands:
            stands, until = True, used + max(6, 2 * count)
        if held == width:  # the best vectors stay, as many as leave room for as many new ones
            held = count + (width - count) // 2
            basis[:held] = weights[:, -held:].T.to(basis) @ basis
            inner.zero_()
            inner.diagonal()[:held] = values[-held:]
        if fresh:
            length = 0.0
            while length <= tiny:  # one that is in the space already tells nothing: the start may be of the same seed
                w = torch.randn(size, generator=maker, dtype=torch.float64).to(start)
                w = _beside(basis[:held], w / w.norm())[1]
                length = float(w.norm())
        basis[held] = w / length
        held += 1
    return _told(apply, basis[:held], inner[:held, :held], count, lowest, used, finite)


def _beside(basis: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a vector has along each of the basis, and the rest of it, orthogonalised twice."""
    along = basis @ w
    w = w - basis.T @ along
    return along, w - basis.T @ (basis @ w)


def _told(apply: Operator, basis: Tensor, inner: Tensor, count: int, lowest: float, used: int, finite: bool) -> Leading:
    """Return the best vectors of a space with their quotients and residuals, each by one more product."""
    if len(basis) == 0:
        nan = torch.full((count,), float("nan"), dtype=torch.float64)
        return Leading(nan, basis.new_full((count, basis.shape[1]), float("nan")), nan, float("nan"), used, False)
    _, weights = torch.linalg.eigh(inner)
    vectors = (weights.flip(1)[:, :count].T.to(basis) @ basis).contiguous()
    quotients, residuals = [], []
    for v in vectors:
        w = apply(v)
        quotient = torch.linalg.vecdot(w, v)
        quotients.append(float(quotient))
        residuals.append(float((w - quotient * v).norm()))
    order = sorted(range(len(quotients)), key=lambda i: -quotients[i])
    return Leading(
        torch.tensor(quotients, dtype=torch.float64)[order], vectors[order], torch.tensor(residuals, dtype=torch.float64)[order],
        lowest, used + len(vectors), finite,
    )  # fmt: skip
