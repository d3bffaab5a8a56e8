"""Losses, most of them on the plane: bowls, valleys, saddles, many minima."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.zoo.kinds import Box, ZooField, ZooPotential, points, spread


def quadratic(eigenvalues: Sequence[float] | None = None, *, size: int = 2, condition: float = 100.0) -> ZooField:
    """L = ½ Σ λ_i θ_i²: θ(t) = e^{−λt} θ0, and descent of learning rate η does (1 − ηλ)^k θ0.

    Args:
        eigenvalues: λ; `size` of them between 1 and `condition`, evenly in the logarithm, when left out.
        size: P.
        condition: largest over smallest λ.

    Facts: ``descent(theta0, lr, k)``: θ after k steps; ``leading_error(theta0, t)``: −½λ² t e^{−λt} θ0, to which
    (θ_k − θ(kη))/η tends as η → 0.
    """
    if eigenvalues is None:
        if size < 1 or condition <= 0:
            raise FieldError(
                f"a quadratic needs size ≥ 1 and condition > 0, got size={size} and condition={condition:g}."
            )
        lam = torch.logspace(0.0, math.log10(condition), size, dtype=torch.float64)
    else:
        lam = torch.as_tensor(eigenvalues, dtype=torch.float64).reshape(-1)
        if not len(lam):
            raise FieldError("a quadratic needs at least one eigenvalue, got none.")

    def solution(theta0: Tensor, t: Tensor | float) -> Tensor:
        return torch.exp(-lam.to(theta0) * spread(t, theta0)) * theta0

    def descent(theta0: Tensor, lr: float, k: int) -> Tensor:
        return (1 - lr * lam.to(theta0)) ** k * theta0

    def leading_error(theta0: Tensor, t: float) -> Tensor:
        return -0.5 * lam.to(theta0) ** 2 * t * solution(theta0, t)

    n = len(lam)
    start, box = torch.ones(n, dtype=torch.float64), [(-1.5, 1.5)] * n
    field = ZooPotential(lambda w: 0.5 * (lam.to(w) * w * w).sum(-1), start=start, name="quadratic", box=box)
    convex = bool((lam > 0).all())
    zero = torch.zeros(1, n, dtype=torch.float64)
    none = torch.empty(0, n, dtype=torch.float64)
    return ZooField(
        "quadratic", "½ Σ λ_i θ_i², exponential decay at the rates λ", field, box, start, 5.0, solution,
        minima=zero if convex else none, saddles=zero if bool((lam < 0).any() and (lam > 0).any()) else none,
        facts={"descent": descent, "leading_error": leading_error},
    )  # fmt: skip


def saddle() -> ZooField:
    """L = ½(x² − y²): (x0 e^{−t}, y0 e^{t}); drops on y = 0 come to rest, all others leave."""
    inner = quadratic([1.0, -1.0])
    box = [(-1.5, 1.5), (-1.5, 1.5)]
    field = ZooPotential(lambda w: 0.5 * (w[..., 0] ** 2 - w[..., 1] ** 2), start=[1.0, 0.01], name="saddle", box=box)
    return ZooField(
        "saddle", "½(x² − y²): towards the origin along x, away from it along y", field, box, points([1.0, 0.01])[0],
        5.0, inner.solution, saddles=points([0.0, 0.0]),
    )  # fmt: skip


def w1w2(target: float = 1.0) -> ZooField:
    """Two-layer linear net with one unit each: L = ½(w₁w₂ − s)², s > 0; w₁² − w₂² is conserved.

    With c = |w₁² − w₂²| and 2 w₁w₂ = c sinh φ: φ̇ = 2s − c sinh φ, a Riccati equation for e^φ, hence the closed form.

    Facts: ``final_sharpness(theta0)`` = √((w₁² − w₂²)² + 4s²), λmax of the Hessian where the flow ends.
    """
    if target <= 0:
        raise FieldError(f"w1w2 needs a target > 0, got {target:g}. Flip the sign of one weight for a negative one.")
    s = target

    def balance(w: Tensor) -> Tensor:
        return (w[..., :1] - w[..., 1:]) * (w[..., :1] + w[..., 1:])

    def solution(theta0: Tensor, t: Tensor | float) -> Tensor:
        time, c = spread(t, theta0), balance(theta0)
        a, b = theta0[..., :1], theta0[..., 1:]
        swap = c < 0
        big, small = torch.where(swap, b, a), torch.where(swap, a, b)
        size = torch.where(c == 0, torch.ones_like(c), c.abs())
        # Unbalanced: big = ±√c cosh(φ/2), small = ±√c sinh(φ/2), with the sign of big, which it keeps.
        w0 = torch.exp(torch.asinh(2 * a * b / size))
        rate = torch.sqrt(4 * s * s + size * size)
        plus = (2 * s + rate) / size
        minus = -1 / plus
        q = (w0 - plus) / (w0 - minus) * torch.exp(-rate * time)
        half = 0.5 * torch.log((plus - minus * q) / (1 - q))
        sign = torch.where(big < 0, -1.0, 1.0)
        big_t, small_t = sign * size.sqrt() * torch.cosh(half), sign * size.sqrt() * torch.sinh(half)
        # Balanced: w₂ = ±w₁, and the product u obeys u̇ = 2|u|(s − u).
        u0 = a * b
        safe = torch.where(u0 == 0, torch.ones_like(u0), u0.abs())
        # Written with e^{−2st}, which does not overflow.
        fade = torch.exp(-2 * s * time)
        up, down = s / (1 - fade + s / safe * fade), s * fade / (s / safe + 1 - fade)
        length = torch.where(u0 > 0, up, down).sqrt()
        even = c == 0
        big_t = torch.where(even, torch.where(u0 == 0, big, big.sign() * length), big_t)
        small_t = torch.where(even, torch.where(u0 == 0, small, small.sign() * length), small_t)
        return torch.cat([torch.where(swap, small_t, big_t), torch.where(swap, big_t, small_t)], dim=-1)

    def final_sharpness(theta0: Tensor) -> Tensor:
        return torch.sqrt(balance(theta0)[..., 0] ** 2 + 4 * s * s)

    r = math.sqrt(s)
    reach = 2 * max(1.0, r)
    box = [(-reach, reach), (-reach, reach)]
    field = ZooPotential(
        lambda w: 0.5 * (w[..., 0] * w[..., 1] - s) ** 2, start=[1.9, -1.2], name="w1w2", box=box,
        conserved={"balance w₁² − w₂²": balance},
    )  # fmt: skip
    return ZooField(
        "w1w2", "½(w₁w₂ − s)²: the smallest deep net; a curve of minima, a saddle at 0, balance conserved", field, box,
        points([1.9, -1.2])[0], 20.0, solution, minima=points([r, r], [-r, -r]), saddles=points([0.0, 0.0]),
        facts={"final_sharpness": final_sharpness},
    )  # fmt: skip


def rosenbrock(a: float = 1.0, b: float = 100.0) -> ZooField:
    """L = (a − x)² + b(y − x²)²: a bent valley, stiff across (about 2b) and slow along; minimum (a, a²)."""
    box = [(-2.0, 2.0), (-1.0, 3.0)]
    field = ZooPotential(
        lambda w: (a - w[..., 0]) ** 2 + b * (w[..., 1] - w[..., 0] ** 2) ** 2,
        start=[-1.2, 1.0],
        name="rosenbrock",
        box=box,
    )
    return ZooField(
        "rosenbrock", "(1 − x)² + 100(y − x²)²: a bent valley, stiff across and slow along", field, box,
        points([-1.2, 1.0])[0], 20.0, minima=points([a, a * a]),
    )  # fmt: skip


def himmelblau() -> ZooField:
    """L = (x² + y − 11)² + (x + y² − 7)²: four minima of loss 0, four saddles, one maximum."""
    box = [(-6.0, 6.0), (-6.0, 6.0)]
    field = ZooPotential(
        lambda w: (w[..., 0] ** 2 + w[..., 1] - 11) ** 2 + (w[..., 0] + w[..., 1] ** 2 - 7) ** 2,
        start=[0.0, 0.0], name="himmelblau", box=box,
    )  # fmt: skip
    return ZooField(
        "himmelblau", "four minima, four saddles and a maximum", field, box, points([0.0, 0.0])[0], 1.0,
        minima=points(
            [3.0, 2.0], [-2.805118086952745, 3.131312518250573],
            [-3.7793102533777469, -3.2831859912861694], [3.5844283403304917, -1.8481265269644034],
        ),
        saddles=points(
            [0.08667750456, 2.88425470164], [3.3851541836, 0.0738518799], [-0.1279613469, -1.9537149820],
            [-3.0730257508, -0.0813530441],
        ),
        facts={"largest": 181.616523},
    )  # fmt: skip


def beale() -> ZooField:
    """L = (1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²: flat plains and one minimum, (3, ½)."""

    def loss(w: Tensor) -> Tensor:
        x, y = w[..., 0], w[..., 1]
        return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2

    box = [(-4.5, 4.5), (-4.5, 4.5)]
    field = ZooPotential(loss, start=[1.0, 1.0], name="beale", box=box)
    return ZooField(
        "beale", "flat plains between steep walls; the minimum is (3, ½)", field, box, points([1.0, 1.0])[0], 100.0,
        minima=points([3.0, 0.5]), saddles=points([0.0, 1.0]),
    )  # fmt: skip


LOW, HIGH, TOP = -2.9035340277711771, 2.7468027709908370, 0.15673125678033995


def styblinski_tang(size: int = 2) -> ZooField:
    """L = ½ Σ (θ_i⁴ − 16 θ_i² + 5 θ_i): every coordinate flows by itself, to −2.9035 (lowest) or 2.7468."""
    if size < 1:
        raise FieldError(f"styblinski-tang needs size ≥ 1, got {size}.")
    box: Box = [(-4.0, 4.0)] * size
    start = torch.tensor([0.5 if i % 2 == 0 else -0.5 for i in range(size)], dtype=torch.float64)
    field = ZooPotential(
        lambda w: 0.5 * (w**4 - 16 * w**2 + 5 * w).sum(-1), start=start, name="styblinski-tang", box=box
    )
    ends = (
        torch.cartesian_prod(*[torch.tensor([LOW, HIGH], dtype=torch.float64)] * size)
        if size <= 8
        else torch.full((1, size), LOW, dtype=torch.float64)
    )
    return ZooField(
        "styblinski-tang", "½ Σ (x⁴ − 16x² + 5x): 2^P minima, the lowest at −2.9035 in every coordinate", field, box,
        start, 1.0, minima=ends.reshape(-1, size),
        saddles=points([LOW, TOP], [HIGH, TOP], [TOP, LOW], [TOP, HIGH]) if size == 2 else torch.empty(0, size, dtype=torch.float64),
    )  # fmt: skip


def double_well() -> ZooField:
    """L = ¼(x² − 1)² + ½y²: minima (±1, 0), Hessian eigenvalues (2, 1); saddle 0, (−1, 1); x = 0 parts the basins."""

    def solution(theta0: Tensor, t: Tensor | float) -> Tensor:
        time = spread(t, theta0)
        x, y = theta0[..., :1], theta0[..., 1:]
        fade = torch.exp(-time)
        # x0/√(x0² + (1 − x0²)e^{−2t}); the root is e^{−t} where x0 = 0, so that x stays 0.
        return torch.cat([x / torch.sqrt(x * x * (1 - fade * fade) + fade * fade), y * fade], dim=-1)

    box = [(-2.0, 2.0), (-1.5, 1.5)]
    field = ZooPotential(
        lambda w: 0.25 * (w[..., 0] ** 2 - 1) ** 2 + 0.5 * w[..., 1] ** 2,
        start=[0.01, 1.0],
        name="double-well",
        box=box,
    )
    return ZooField(
        "double-well", "¼(x² − 1)² + ½y²: two basins, parted by x = 0", field, box, points([0.01, 1.0])[0], 10.0, solution,
        minima=points([-1.0, 0.0], [1.0, 0.0]), saddles=points([0.0, 0.0]),
    )  # fmt: skip
