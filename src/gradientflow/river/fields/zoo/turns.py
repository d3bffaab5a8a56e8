"""Fields on the plane that turn: games and a limit cycle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.zoo.kinds import ZooField, ZooGame, ZooVector, points, spread


def bilinear_game() -> ZooField:
    """min over x, max over y of xy: ẋ = −y, ẏ = x turns for ever; simultaneous descent–ascent spirals out.

    Facts: ``growth(lr, k)`` = (1 + η²)^{k/2}, the factor on the distance from 0 after k steps of descent–ascent.
    """

    def solution(z0: Tensor, t: Tensor | float) -> Tensor:
        time = spread(t, z0)
        x, y = z0[..., :1], z0[..., 1:]
        c, s = torch.cos(time), torch.sin(time)
        return torch.cat([c * x - s * y, s * x + c * y], dim=-1)

    def growth(lr: float, k: int) -> Tensor:
        return torch.tensor((1 + lr * lr) ** (k / 2), dtype=torch.float64)

    box = [(-2.0, 2.0), (-2.0, 2.0)]
    field = ZooGame(
        lambda z: z[..., 0] * z[..., 1],
        start=[1.0, 0.0],
        name="bilinear-game",
        box=box,
        conserved={"radius ‖z‖": _radius},
    )
    return ZooField(
        "bilinear-game", "min over x, max over y of xy: the flow turns round the equilibrium for ever", field, box,
        points([1.0, 0.0])[0], 2 * math.pi, solution, facts={"growth": growth},
    )  # fmt: skip


def dirac_gan(penalty: float = 0.0) -> ZooField:
    """The Dirac-GAN: generator θ at a point, discriminator slope ψ, L = f(θψ) + f(0) − (γ/2)ψ², f(t) = −ln(1 + e^{−t}).

    Without penalty θ² + ψ² is conserved and the flow turns for ever; with γ > 0 it spirals into 0 (Mescheder, Geiger &
    Nowozin 2018, "Which training methods for GANs do actually converge?").

    Args:
        penalty: γ, the R₁ gradient penalty on the discriminator.
    """
    if penalty < 0:
        raise FieldError(f"dirac-gan needs a penalty ≥ 0, got {penalty:g}.")

    def loss(z: Tensor) -> Tensor:
        f = -torch.nn.functional.softplus(-z[..., 0] * z[..., 1], threshold=1e9)
        return f - math.log(2.0) - 0.5 * penalty * z[..., 1] ** 2

    box = [(-2.0, 2.0), (-2.0, 2.0)]
    field = ZooGame(
        loss, start=[1.0, 1.0], name="dirac-gan", box=box, conserved={} if penalty else {"radius ‖z‖": _radius}
    )
    return ZooField(
        "dirac-gan", "the smallest GAN: turns round its equilibrium, unless a penalty draws it in", field, box,
        points([1.0, 1.0])[0], 30.0,
    )  # fmt: skip


def van_der_pol(mu: float = 1.0) -> ZooField:
    """ẋ = y, ẏ = μ(1 − x²)y − x: no loss, and one limit cycle that every drop but 0 is drawn to.

    Facts: ``amplitude``: largest |x| on the cycle at μ = 1.
    """
    box = [(-3.0, 3.0), (-4.0, 4.0)]
    field = ZooVector(
        lambda z: torch.stack([z[..., 1], mu * (1 - z[..., 0] ** 2) * z[..., 1] - z[..., 0]], dim=-1),
        start=[0.1, 0.0], name="van-der-pol", box=box,
    )  # fmt: skip
    return ZooField(
        "van-der-pol", "no loss but a limit cycle, which every drop is drawn to", field, box, points([0.1, 0.0])[0], 20.0,
        facts={"amplitude": 2.008619860874843} if mu == 1.0 else {},
    )  # fmt: skip


def _radius(z: Tensor) -> Tensor:
    out: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return out
