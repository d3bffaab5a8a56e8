"""A singular operation is told while all is finite still, with its line and its smallest operand; healthy uses are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.depth.causes.test_rules_on_live_runs import healthy, here, top, verdict_of


def rows(tiny: float) -> Tensor:
    """A table of 64 rows of unit size, one of them shrunk."""
    torch.manual_seed(0)
    table = torch.randn(64, 6)
    table[7] *= tiny
    return table


def learn(operation: Callable[[Tensor], Tensor], tiny: float, steps: int = 4) -> None:
    table = nn.Parameter(rows(tiny))
    net = nn.Linear(6, 6, bias=False)
    nn.init.orthogonal_(net.weight)
    target = torch.rand(64, 6)
    optimizer = torch.optim.SGD([table, *net.parameters()], lr=1e-30)  # the state of affairs, held still
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(operation(net(table)), target).backward()
        optimizer.step()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)  # HERE


def _root(x: Tensor) -> Tensor:
    return x.abs().sum(1, keepdim=True).sqrt().expand(-1, 6)  # HERE


def _by_hand(x: Tensor) -> Tensor:
    return x / (x * x).sum(1, keepdim=True).sqrt()  # HERE


def _inverse(x: Tensor) -> Tensor:
    return x.abs().sum(1, keepdim=True).reciprocal().expand(-1, 6)  # HERE


def _log(x: Tensor) -> Tensor:
    return x.abs().sum(1, keepdim=True).log().expand(-1, 6)  # HERE


def _power(x: Tensor) -> Tensor:
    return (x.abs().sum(1, keepdim=True) ** 0.1).expand(-1, 6)  # HERE


@pytest.mark.parametrize("operation", [_unit, _root, _by_hand, _inverse, _log, _power], ids=lambda f: f.__name__)
def test_a_row_next_to_the_singular_point_is_told_before_anything_breaks(operation: Callable[[Tensor], Tensor]) -> None:
    found = top(verdict_of(lambda: learn(operation, 1e-7)), "exploding", "singular-op", here(operation))
    assert found.evidence["smallest_operand"] < 1e-5
    assert found.evidence["excess"] > found.evidence["threshold_excess"]
    assert found.remedies[0].kind == "clamp-op"


@pytest.mark.parametrize("operation", [_unit, _root, _by_hand, _log, _power], ids=lambda f: f.__name__)
def test_rows_away_from_it_are_healthy(operation: Callable[[Tensor], Tensor]) -> None:
    assert not [f for f in verdict_of(lambda: learn(operation, 0.3)).findings if f.cause == "singular-op"]


def _safe_root(x: Tensor) -> Tensor:
    return ((x * x).sum(1, keepdim=True) + 1e-6).sqrt().expand(-1, 6)


def _softmax_log(x: Tensor) -> Tensor:
    return (100 * x).softmax(1).clamp_min(1e-30).log() / 100


def _standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt()


def _own_adam(x: Tensor) -> Tensor:
    return x / ((x.detach() ** 2).mean(0, keepdim=True).sqrt() + 1e-8)


@pytest.mark.parametrize(
    "operation",
    [_safe_root, _softmax_log, _standard, _own_adam, lambda x: F.layer_norm(x, (6,))],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("tiny", [1e-7, 1.0])
def test_healthy_uses_are_silent(operation: Callable[[Tensor], Tensor], tiny: float) -> None:
    assert not [f for f in verdict_of(lambda: learn(operation, tiny)).findings if f.cause == "singular-op"]


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_operand_does_not_matter(unit: float) -> None:
    def scaled(x: Tensor) -> Tensor:
        return _root(unit * x) / unit**0.5

    top(verdict_of(lambda: learn(scaled, 1e-7)), "exploding", "singular-op", here(_root))
    assert not verdict_of(lambda: learn(scaled, 0.3)).findings


def test_a_log_likelihood_written_out_is_healthy() -> None:
    def train() -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
        x = torch.randn(128, 8)
        y = (x[:, :1] > 0).float()
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(40):
            p = torch.sigmoid(net(x))
            optimizer.zero_grad()
            (-(y * p.log() + (1 - y) * (1 - p).log())).mean().backward()
            optimizer.step()

    healthy(verdict_of(train, every=4))
