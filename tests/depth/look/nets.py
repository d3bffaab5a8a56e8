"""Models of every kind for the look at a model: sick ones with their line marked, and a healthy twin of each."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

F = nn.functional


class Stack(nn.Module):
    """Equal layers with one activation behind each."""

    def __init__(self, activation: str, depth: int = 12, width: int = 32, classes: int = 5) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x = torch.sigmoid(x) if self.activation == "sigmoid" else torch.relu(x)  # the activation
        return self.out(x)


class Root(nn.Module):
    """A square root of a sum of squares: of the distance of each row to another, or to itself, which is exactly zero."""

    def __init__(self, *, itself: bool) -> None:
        super().__init__()
        self.itself = itself
        self.embed = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.embed(x), self.embed(x if self.itself else x.flip(0))
        square = (a - b).pow(2).sum(1)
        return torch.sqrt(square)  # the root


class Gated(nn.Module):
    """Residual blocks behind a gate that begins at zero (ReZero), or one whose output layer does."""

    def __init__(self, *, skip: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.gate = nn.Parameter(torch.zeros(()))
        self.out = nn.Linear(32, 5)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate * torch.tanh(self.inner(x))
        return self.out(x + h if self.skip else h)


class Cut(nn.Module):
    """An encoder whose result is detached, or not; a spare head that is never used."""

    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.encoder = nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)
        self.spare = nn.Linear(32, 5)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.encoder(x))  # the cut
        return self.head(h.detach() if self.cut else h)


def ready_made(activation: type[nn.Module]) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 32), activation(),
        nn.Linear(32, 5),
    )  # fmt: skip
    return net


def small_weights(std: float | None) -> nn.Sequential:
    net = nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(32, 32), nn.Tanh())], nn.Linear(32, 5))
    for p in net.parameters() if std is not None else ():
        nn.init.normal_(p, std=std)  # the init
    return net


def batch(seed: int = 0, rows: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 32, generator=generator), torch.randint(5, (rows,), generator=generator)


def line_of(text: str, file: str = __file__) -> int:
    """Return the number of the one line of a file that holds a text (not counting calls of this function)."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    (found,) = [n for n, line in enumerate(lines, 1) if text in line and "line_of" not in line]
    return found
