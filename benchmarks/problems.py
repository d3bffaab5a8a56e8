"""The problems that benchmarks/flow.py measures on: networks on scikit-learn's digits, each rebuilt bit for bit.

Each function returns (model, loss, (x, y), t_end). All networks are tanh nets, so that the flow is smooth.

- A  stiff, long: MLP 64-100-100-10, float64, squared error, 1000 centred images. The sharpness grows from 3 to 26.
- B  stiff, small: MLP 64-30-30-10, float64, squared error, 500 images that are not centred: one Hessian eigenvalue
     belongs to their mean and stands far above the rest from the start.
- C  not stiff: the net of B, cross-entropy, standardised images, t = 3000. The sharpness falls from 1 to below 0.01.
- D  a convolutional net in float32, 1000 images: the one whose seconds are measured.

The global random state and the default dtype are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
Problem = tuple[nn.Module, Loss, tuple[Tensor, Tensor], float]


def half_squared_error(out: Tensor, labels: Tensor) -> Tensor:
    """Return ½‖out − onehot(label)‖², summed over the outputs, averaged over the examples."""
    target = nn.functional.one_hot(labels, out.shape[1]).to(out)
    return 0.5 * (out - target).square().sum(1).mean()


def a(t: float = 1000.0) -> Problem:
    """Return problem A: centred over the whole of digits, then the first 1000; weights drawn in float32."""
    pixels, labels = digits()
    pixels = pixels / 16
    return mlp(100, drawn_in=torch.float32), half_squared_error, ((pixels - pixels.mean(0))[:1000], labels[:1000]), t


def b(t: float = 100.0) -> Problem:
    """Return problem B: the first 500, divided by 8 and not centred; weights drawn in float64."""
    pixels, labels = digits(500)
    return mlp(30, drawn_in=torch.float64), half_squared_error, (pixels / 8, labels), t


def c(t: float = 3000.0) -> Problem:
    """Return problem C: the first 500, each pixel (x − mean)/(deviation + 0.1), cross-entropy."""
    pixels, labels = digits(500)
    pixels = (pixels - pixels.mean(0)) / (pixels.std(0) + 0.1)
    return mlp(30, drawn_in=torch.float64), nn.functional.cross_entropy, (pixels, labels), t


def d(t: float = 500.0) -> Problem:
    """Return problem D: two convolutions of 8 and 16 channels and a linear layer, float32, cross-entropy."""
    pixels, labels = digits(1000)
    pixels = pixels / 16
    images = (pixels - pixels.mean()).float().reshape(-1, 1, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Tanh(),
            nn.Flatten(), nn.Linear(256, 10),
        )  # fmt: skip
    return model, nn.functional.cross_entropy, (images, labels), t


PROBLEMS: dict[str, Callable[..., Problem]] = {"A": a, "B": b, "C": c, "D": d}


def digits(count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the first images of digits, (n, 64), float64, 0 to 16, and their labels, (n,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.data[:count]), torch.from_numpy(bunch.target[:count]).long()


def mlp(width: int, *, drawn_in: torch.dtype, sizes: Sequence[int] = (64, 0, 0, 10)) -> nn.Sequential:
    """Return a tanh MLP in float64, hidden layers (the zeros of `sizes`) of one width, PyTorch's own initial weights.

    The dtype that the weights are drawn in decides which weights they are: the two streams of random numbers differ.
    """
    sizes = [n or width for n in sizes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, dtype=drawn_in), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()
