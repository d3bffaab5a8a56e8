"""Networks whose gradients theory knows, for the oracles of depth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from gradientflow.depth.causes.graph import Graph
from tests.truth.watching import probe_of


def per_layer(graph: Graph, skip: int = 4) -> float:
    """Mean factor on ‖δ‖ from one linear layer's output to the next one down, away from both ends, as the probe saw it."""
    layers = [graph.probe.ops[i] for i in graph.layers]
    norms = [op.grad.norm for op in layers if op.grad is not None][skip:-skip]
    return 10 ** fmean(math.log10(a / b) for a, b in itertools.pairwise(norms))


def mean_field(weight: float, bias: float, seed: int, *, width: int = 300, depth: int = 24) -> Graph:
    """A tanh network with weights of variance σ_w²/width and biases of σ_b², fed with data at its own fixed point q*."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width)
        nn.init.normal_(layer.weight, std=math.sqrt(weight / width))
        nn.init.normal_(layer.bias, std=math.sqrt(bias))
        layers += [layer, nn.Tanh()]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    q = 1.0
    for _ in range(500):
        q = weight * float((torch.tanh(math.sqrt(q) * z) ** 2 * density).sum()) + bias
    x = torch.randn(128, width) * math.sqrt((q - bias) / weight)
    target = torch.randn(128, 10)
    return probe_of(lambda: (net(x) * target).sum().backward())


def normalised(
    seed: int, norm: Callable[[int], nn.Module], *, width: int = 256, depth: int = 20, batch: int = 256
) -> Graph:
    """Linear, normalisation, ReLU, again and again."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers += [layer, norm(width), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    x, target = torch.randn(batch, width), torch.randn(batch, 10)
    return probe_of(lambda: (net(x) * target).sum().backward())


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them; variances of the weights: `up`/width and `down`/width."""

    def __init__(self, width: int, up: float, down: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        nn.init.normal_(self.up.weight, std=math.sqrt(up / width))
        nn.init.normal_(self.down.weight, std=math.sqrt(down / width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(torch.relu(self.up(x)))
        return out


def residual(seed: int, down: float, *, width: int = 300, depth: int = 12, batch: int = 128) -> float:
    """Factor on ‖δ‖² of one block x + W₂ relu(W₁ x) with He's W₁, as the probe saw it at the sums."""
    torch.manual_seed(seed)
    blocks = [FeedForward(width, 2.0, down) for _ in range(depth)]
    stem, head = nn.Linear(width, width), nn.Linear(width, 10)
    x, target = torch.randn(batch, width), torch.randn(batch, 10)

    def train() -> None:
        h = stem(x)
        for block in blocks:
            h = h + block(h)
        (head(h) * target).sum().backward()

    graph = probe_of(train)
    squares = [op.grad.norm**2 for op in graph.probe.ops if op.name == "add" and op.grad is not None]
    assert len(squares) == depth
    return (squares[0] / squares[-1]) ** (1 / (depth - 1))


def top_gradient(
    depth: int, seeds: Sequence[int], *, pre: bool, last: bool = True, width: int = 128, batch: int = 16
) -> float:
    """Root mean square of ‖∂L/∂W₂‖ of the block nearest the loss, as the probe saw it, with the norm before or after each block.

    Head and targets are orthogonal, so that the samples' gradients neither help nor hinder each other by chance.

    Args:
        depth: blocks.
        seeds: averaged over.
        pre: x + f(norm(x)), else norm(x + f(x)).
        last: with a final norm before the head (only of a pre-norm network).
        width: entries of the stream; weights have variance 1/width.
        batch: samples.
    """
    return math.sqrt(fmean(_top_gradient(depth, seed, pre, last, width, batch) ** 2 for seed in seeds))


def _top_gradient(depth: int, seed: int, pre: bool, last: bool, width: int, batch: int) -> float:
    torch.manual_seed(seed)
    blocks = [FeedForward(width, 1.0, 1.0) for _ in range(depth)]
    norms = [nn.LayerNorm(width) for _ in range(depth + 1)]
    head = nn.Linear(width, width, bias=False)
    nn.init.orthogonal_(head.weight)
    x, target = torch.randn(batch, width), nn.init.orthogonal_(torch.empty(batch, width))

    def train() -> None:
        h = x
        for block, norm in zip(blocks, norms, strict=False):
            h = h + block(norm(h)) if pre else norm(h + block(h))
        if pre and last:
            h = norms[-1](h)
        (head(h) * target).sum().backward()

    graph = probe_of(train)
    weights = [i for i in graph.layers if graph.weights_of(graph.probe.ops[i])]
    (top,) = graph.weights_of(graph.probe.ops[weights[-2]])  # the last layer but one: the head is the last
    grad = graph.states[top].grad
    assert grad is not None
    return grad.norm
