"""Networks small or linear enough that their gradient flow is known: deep linear and diagonal nets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.zoo.kinds import Law, ZooField, ZooPotential, spread


class _Linear:
    """Matrices W_1 … W_N in one vector θ, and what is known of their flow from an aligned start.

    Args:
        sizes: units of each layer, the input's first.
        bases: of the singular vectors in each layer.
        s: singular values of the target.
    """

    def __init__(self, sizes: Sequence[int], bases: Sequence[Tensor], s: Tensor) -> None:
        self.shapes = list(itertools.pairwise(sizes))
        self.bases, self.s = bases, s

    def matrices(self, theta: Tensor) -> list[Tensor]:
        parts = torch.split(theta, [a * b for a, b in self.shapes], dim=-1)
        return [p.reshape(*theta.shape[:-1], b, a) for p, (a, b) in zip(parts, self.shapes, strict=True)]

    def through(self, theta: Tensor) -> Tensor:
        first, *others = self.matrices(theta)
        for w in others:
            first = w @ first
        return first

    def modes(self, theta: Tensor) -> Tensor:
        last, first = self.bases[-1].to(theta), self.bases[0].to(theta)
        return torch.einsum("ai,...ab,bi->...i", last, self.through(theta), first)

    def mode_rate(self, u: Tensor, s: Tensor) -> Tensor:
        n = len(self.shapes)
        return n * u ** (2 - 2 / n) * (s - u)

    def mode(self, u0: Tensor, s: Tensor, t: Tensor | float) -> Tensor:
        if len(self.shapes) == 1:
            return s + (u0 - s) * torch.exp(-torch.as_tensor(t))
        fade = torch.exp(-2 * s * t)
        return s / (1 - fade + s / u0 * fade)  # s e^{2st}/(e^{2st} − 1 + s/u0), without overflow

    def solution(self, start: Tensor, t: Tensor | float) -> Tensor:
        u0 = self.modes(start)
        grown = (self.mode(u0, self.s.to(start), spread(t, start)) / u0) ** (1 / len(self.shapes))
        out = []
        for w, a in zip(self.matrices(start), self.bases, strict=False):
            along = torch.einsum("ai,...i,bi->...ab", a.to(start), grown - 1, a.to(start))
            out.append((w + w @ along).flatten(-2))
        return torch.cat(out, dim=-1)

    def balance(self, layer: int, theta: Tensor) -> Tensor:
        below, above = self.matrices(theta)[layer : layer + 2]
        return (above.mT @ above - below @ below.mT).flatten(-2)


def linear_net(
    depth: int = 2,
    *,
    width: int = 3,
    widths: Sequence[int] | None = None,
    singular_values: Sequence[float] = (3.0, 1.5),
    product: float = 1e-3,
    balanced: bool = True,
    seed: int = 0,
) -> ZooField:
    """Deep linear net on whitened data: L = ½‖W_N ⋯ W_1 − A‖²; W_{l+1}ᵀW_{l+1} − W_lW_lᵀ is conserved for every l.

    Balanced, it starts aligned with A = U diag(s) Vᵀ, every singular value of the product at `product`; then each of them
    goes by itself, u̇ = N u^{2−2/N} (s − u) (Saxe, McClelland & Ganguli 2013), and small s are learnt late: the
    loss falls in steps. The solution is in closed form for N = 1 and N = 2 from such a start.
    Not balanced, it starts at Gaussian weights.

    Args:
        depth: N, number of weight matrices.
        width: number of units in every layer, input and output included.
        widths: all N + 1 of them, input first; then `width` and `depth` are not used.
        singular_values: s of A, at most as many as the narrowest layer has units; the rest of A is zero.
        product: balanced, singular values of W_N ⋯ W_1 at the start; else standard deviation of the weights.
        balanced: see above.
        seed: of U, V, the bases between the layers, and the Gaussian weights.

    Facts: ``matrix``: A; ``modes(theta)``: u_i = (Uᵀ W_N ⋯ W_1 V)_ii, (B, r); ``mode(u0, s, t)``: u(t) for N = 1, 2;
    ``mode_rate(u, s)``: N u^{2−2/N}(s − u).
    """
    sizes = [width] * (depth + 1) if widths is None else list(widths)
    n, r = len(sizes) - 1, len(singular_values)
    if n < 1 or min(sizes) < 1:
        raise FieldError(f"linear-net needs one matrix at least and units in every layer, got widths {sizes}.")
    if not 1 <= r <= min(sizes):
        raise FieldError(
            f"linear-net: {r} singular values do not fit through widths {sizes}; expected 1 to {min(sizes)} of them."
        )
    if product <= 0:
        raise FieldError(f"linear-net needs product > 0, got {product:g}: at 0 the flow stays at a saddle.")
    made = torch.Generator().manual_seed(seed)
    s = torch.tensor(singular_values, dtype=torch.float64)
    bases = [_orthonormal(d, r, made) for d in sizes]
    target = bases[-1] @ torch.diag(s) @ bases[0].mT
    if balanced:
        start = [product ** (1 / n) * b @ a.mT for a, b in itertools.pairwise(bases)]
    else:
        start = [product * torch.randn(b, a, generator=made, dtype=torch.float64) for a, b in itertools.pairwise(sizes)]
    theta0 = torch.cat([w.reshape(-1) for w in start])

    net = _Linear(sizes, bases, s)

    def loss(theta: Tensor) -> Tensor:
        return 0.5 * ((net.through(theta) - target.to(theta)) ** 2).sum((-2, -1))

    box = [(-2.0, 2.0)] * len(theta0)
    field = ZooPotential(
        loss, start=theta0, name="linear-net", box=box,
        conserved={f"balance of layers {i + 1} and {i + 2}": partial(net.balance, i) for i in range(n - 1)},
    )  # fmt: skip
    closed = {"mode": net.mode} if n <= 2 else {}
    # The last mode to be learnt, from u0 to half of s: about ln(s/u0)/2s for two layers, a power of 1/u0 for more.
    low = float(s.min())
    slow = math.log(low / product + 1) / (2 * low) if n <= 2 else product ** (2 / n - 1) / (low * (n - 2))
    return ZooField(
        "linear-net", "deep linear net on whitened data: modes learnt one by one, layers stay balanced", field, box,
        theta0, max(10.0, 2 * slow) if balanced else 50.0, net.solution if balanced and n <= 2 else None,
        facts={"matrix": lambda: target, "modes": net.modes, "mode_rate": net.mode_rate, **closed},
    )  # fmt: skip


def diagonal_net(
    samples: int = 3, features: int = 6, *, alpha: float = 0.1, nonzero: int = 1, seed: int = 0
) -> ZooField:
    """Diagonal linear net: L = ½‖X(u² − v²) − y‖², θ = (u, v), from u = v = α; u_i v_i is conserved.

    β(t) = u² − v² = 2α² sinh(−4 Xᵀ∫r dt), r = Xβ − y, so arcsinh(β/2α²) stays in the row space of X: conserved from any
    start is the part of ln|u/v| outside it. Small α leads to β of least ‖·‖₁ (Woodworth et al. 2020,
    "Kernel and rich regimes in overparametrized models").

    Args:
        samples: rows of X, fewer than `features` for the bias to show.
        features: entries of β.
        alpha: α.
        nonzero: entries of the true β that are 1; the rest are 0, and y = Xβ.
        seed: of X, Gaussian entries/√samples.

    Facts: ``X``, ``y``, ``truth``: tensors without arguments; ``beta(theta)``: u² − v².
    """
    if min(samples, features, nonzero) < 1 or nonzero > features or alpha <= 0:
        raise FieldError(
            f"diagonal-net needs samples, features, nonzero ≥ 1, nonzero ≤ features and alpha > 0, got samples={samples}, "
            f"features={features}, nonzero={nonzero}, alpha={alpha:g}."
        )
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, features, generator=made, dtype=torch.float64) / math.sqrt(samples)
    truth = torch.zeros(features, dtype=torch.float64)
    truth[:nonzero] = 1.0
    y = x @ truth
    null = torch.linalg.qr(x.mT, mode="complete")[0][:, min(samples, features) :]

    def halves(theta: Tensor) -> tuple[Tensor, Tensor]:
        return theta[..., :features], theta[..., features:]

    def beta(theta: Tensor) -> Tensor:
        u, v = halves(theta)
        return u * u - v * v

    def loss(theta: Tensor) -> Tensor:
        return 0.5 * ((beta(theta) @ x.to(theta).mT - y.to(theta)) ** 2).sum(-1)

    def product(theta: Tensor) -> Tensor:
        u, v = halves(theta)
        return u * v

    def outside(theta: Tensor) -> Tensor:
        u, v = halves(theta)
        out: Tensor = torch.log((u / v).abs()) @ null.to(theta)
        return out

    laws: dict[str, Law] = {"product u v": product}
    if null.shape[1]:
        laws["ln|u/v| outside the rows of X"] = outside
    start = torch.full((2 * features,), alpha, dtype=torch.float64)
    box = [(-1.5, 1.5)] * (2 * features)
    field = ZooPotential(loss, start=start, name="diagonal-net", box=box, conserved=laws)
    facts: dict[str, Callable[..., Tensor] | float] = {
        "X": lambda: x, "y": lambda: y, "truth": lambda: truth, "beta": beta
    }  # fmt: skip
    return ZooField(
        "diagonal-net", "β = u² − v²: small starts lead to sparse answers, and α² = u v is conserved", field, box, start,
        100.0, facts=facts,
    )  # fmt: skip


def _orthonormal(rows: int, columns: int, made: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(rows, columns, generator=made, dtype=torch.float64))
    out: Tensor = q * torch.sign(torch.diagonal(r))
    return out
