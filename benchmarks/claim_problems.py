"""The problems that benchmarks/claims.py holds claims of error against: small, float64, half of them with kinks.

Each function returns (model, loss, (x, y), t_end), rebuilt bit for bit; the global random state is left as it was. `SMOOTH`
and `KINKED` list them. None slides along a kink for good: of that no claim is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.problems import Loss, Problem
from benchmarks.problems import digits as images

D = torch.float64
SMOOTH: dict[str, Callable[[], Problem]] = {}
KINKED: dict[str, Callable[[], Problem]] = {}


def listed(
    where: dict[str, Callable[[], Problem]], seed: int
) -> Callable[[Callable[[], Problem]], Callable[[], Problem]]:
    """Put a problem into a list, drawn from its own seed."""

    def put(make: Callable[[], Problem]) -> Callable[[], Problem]:
        @functools.wraps(make)
        def drawn() -> Problem:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model, loss, data, t = make()
            return model.double(), loss, data, t

        where[make.__name__.replace("_", " ")] = drawn
        return drawn

    return put


def net(*parts: int | nn.Module) -> nn.Sequential:
    """Return a network: numbers are widths, with a linear layer between one and the next; modules stand where they stand."""
    layers: list[nn.Module] = []
    width: int | None = None
    for part in parts:
        if isinstance(part, nn.Module):
            layers.append(part)
        else:
            layers += [] if width is None else [nn.Linear(width, part)]
            width = part
    return nn.Sequential(*layers)


def digits(count: int) -> tuple[Tensor, Tensor]:
    x, y = images(count)
    x = x / 16
    return x - x.mean(), y


def wave(count: int, inputs: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.linspace(-1, 1, count, dtype=D)[:, None] if inputs == 1 else torch.randn(count, inputs, dtype=D)
    return x, (torch.sin(4 * x).sum(1, keepdim=True) if inputs == 1 else x[:, :1] * x[:, 1:2])


class Recurrent(nn.Module):
    """The last state of a recurrent layer, read out."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cells, self.out = nn.RNN(2, 10, nonlinearity=kind, batch_first=True), nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.cells(x)[0][:, -1])
        return out


def sequences() -> tuple[Tensor, Tensor]:
    x = torch.randn(60, 6, 2, dtype=D)
    return x, torch.tanh(0.5 * x[:, :, 0].sum(1, keepdim=True)) * x[:, -1, 1:].sign()


class Product(nn.Module):
    """U·Vᵀ."""

    def __init__(self, n: int, rank: int) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(0.05 * torch.randn(n, rank)), nn.Parameter(0.05 * torch.randn(n, rank))

    def forward(self, _: Tensor) -> Tensor:
        return self.u @ self.v.T


class Attention(nn.Module):
    """One block of attention with layer norm before it, and a mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(6, 8), nn.Parameter(0.1 * torch.randn(5, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.block(self.embed(x) + self.place).mean(1))
        return out


class Bag(nn.Module):
    """The largest answer to any element of a set."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = net(3, 12, nn.Tanh()), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outer(self.inner(x).amax(1))
        return out


def half(out: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (out - y).square().sum()


def decayed(loss: Loss) -> Loss:
    """Return a loss whose outputs are held small, so that it has a minimum."""

    def sum_of(out: Tensor, y: Tensor) -> Tensor:
        return loss(out, y) + 0.01 * out.square().mean()

    sum_of.__name__ = f"decayed_{getattr(loss, '__name__', 'loss')}"
    return sum_of


# ── smooth ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@listed(SMOOTH, 0)
def tanh_digits() -> Problem:
    return net(64, 16, nn.Tanh(), 16, nn.Tanh(), 10), functional.cross_entropy, digits(150), 30.0


@listed(SMOOTH, 1)
def gelu_norm() -> Problem:
    return net(64, 16, nn.LayerNorm(16), nn.GELU(), 10), functional.cross_entropy, digits(150), 20.0


@listed(SMOOTH, 2)
def attention() -> Problem:
    x = torch.randint(0, 6, (60, 5))
    return Attention(), functional.cross_entropy, (x, x.mode(1).values), 20.0


@listed(SMOOTH, 3)
def matrix_product() -> Problem:
    a, b = (torch.linalg.qr(torch.randn(10, 3, dtype=D))[0] for _ in range(2))
    target = a @ torch.diag(torch.tensor([3.0, 1.5, 0.6], dtype=D)) @ b.T
    return Product(10, 4), half, (torch.zeros(1, dtype=D), target), 15.0


@listed(SMOOTH, 4)
def deep_linear() -> Problem:
    x = torch.randn(50, 6, dtype=D)
    scale = torch.tensor([2.0, 1.2, 0.7, 0.4, 0.0, 0.0], dtype=D)
    return nn.Sequential(*[nn.Linear(6, 6, bias=False) for _ in range(3)]), functional.mse_loss, (x, x * scale), 60.0


@listed(SMOOTH, 5)
def sigmoid_teacher() -> Problem:
    x = torch.randn(300, 2, dtype=D)
    y = torch.sigmoid(x @ torch.randn(2, 4, dtype=D)) @ torch.randn(4, 1, dtype=D)
    return net(2, 5, nn.Sigmoid(), 1), functional.mse_loss, (x, y), 300.0


def separable() -> tuple[Tensor, Tensor]:
    x = torch.randn(60, 4, dtype=D)
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long()
    x[:, 0] += 0.4 * (2 * y - 1)
    return x, y


@listed(SMOOTH, 7)
def logistic_to_1e6() -> Problem:
    return net(4, 2), functional.cross_entropy, separable(), 1e6


@listed(SMOOTH, 8)
def logistic_to_1e3() -> Problem:
    return net(4, 2), functional.cross_entropy, separable(), 1e3


@listed(SMOOTH, 9)
def recurrent_tanh() -> Problem:
    return Recurrent("tanh"), functional.mse_loss, sequences(), 30.0


@listed(SMOOTH, 10)
def softplus_deep() -> Problem:
    return net(5, 12, nn.Softplus(), 12, nn.Softplus(), 1), functional.mse_loss, wave(80, 5), 40.0


@listed(SMOOTH, 11)
def silu_wave() -> Problem:
    return net(1, 20, nn.SiLU(), 20, nn.SiLU(), 1), functional.mse_loss, wave(40), 60.0


@listed(SMOOTH, 12)
def tanh_separates() -> Problem:
    x, y = separable()
    return net(4, 8, nn.Tanh(), 2), functional.cross_entropy, (x, y), 1e4


# ── with kinks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pooled(act: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 5, 3, padding=1), act, nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1), act,
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


@listed(KINKED, 20)
def pooling_and_relu() -> Problem:
    return pooled(nn.ReLU()), functional.cross_entropy, digits(100), 5.0


@listed(KINKED, 21)
def pooling_and_tanh() -> Problem:
    return pooled(nn.Tanh()), functional.cross_entropy, digits(100), 6.0


@listed(KINKED, 22)
def relu_digits() -> Problem:
    return net(64, 16, nn.ReLU(), 16, nn.ReLU(), 10), functional.cross_entropy, digits(150), 20.0


@listed(KINKED, 23)
def relu_wave() -> Problem:
    return net(1, 30, nn.ReLU(), 1), functional.mse_loss, wave(12), 20.0


@listed(KINKED, 24)
def relu_teacher() -> Problem:
    x = torch.randn(300, 4, dtype=D)
    return (
        net(4, 8, nn.ReLU(), 1),
        functional.mse_loss,
        (x, torch.relu(x @ torch.randn(4, 3, dtype=D)).sum(1, True)),
        20.0,
    )


@listed(KINKED, 25)
def relu_deep() -> Problem:
    return net(5, 12, nn.ReLU(), 12, nn.ReLU(), 12, nn.ReLU(), 1), functional.mse_loss, wave(80, 5), 20.0


@listed(KINKED, 26)
def leaky_digits() -> Problem:
    return net(64, 16, nn.LeakyReLU(0.1), 10), functional.cross_entropy, digits(150), 20.0


@listed(KINKED, 27)
def hard_tanh() -> Problem:
    return net(5, 16, nn.Hardtanh(), 16, nn.Hardtanh(), 1), functional.mse_loss, wave(80, 5), 30.0


@listed(KINKED, 28)
def margin() -> Problem:
    return net(64, 10, nn.Tanh(), 10), decayed(functional.multi_margin_loss), digits(150), 10.0


@listed(KINKED, 29)
def recurrent_relu() -> Problem:
    return Recurrent("relu"), functional.mse_loss, sequences(), 15.0


@listed(KINKED, 30)
def largest_of_a_set() -> Problem:
    x = torch.randn(60, 5, 3, dtype=D)
    return Bag(), functional.mse_loss, (x, x[:, :, 0].amax(1, True)), 20.0


@listed(KINKED, 31)
def relu_of_many() -> Problem:
    x = torch.randn(1500, 3, dtype=D)
    return net(3, 10, nn.ReLU(), 1), functional.mse_loss, (x, torch.sin(2 * x[:, :1])), 30.0


@listed(KINKED, 32)
def prelu() -> Problem:
    return net(5, 12, nn.PReLU(), 1), functional.mse_loss, wave(60, 5), 20.0
