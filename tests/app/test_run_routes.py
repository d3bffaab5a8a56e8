"""Where routes part, and the gradient over the time of a recurrence, as the app tells them: against PyTorch itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from gradientflow import watch
from gradientflow.app.runs import Seen
from gradientflow.report.branches import branches
from gradientflow.report.view import Moment, routes


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 9), nn.Linear(9, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.tanh(self.up(x)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks, self.head = nn.Linear(4, 6), nn.ModuleList([Block(), Block()]), nn.Linear(6, 1)
        self.kept: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        self.kept = [h]
        for block in self.blocks:
            h = block(h)
            self.kept.append(h)
        return self.head(h)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(3, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def seen(folder: Path, net: nn.Module, x: torch.Tensor) -> Moment:
    """Watch one step of a loop."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with watch(net, out=folder):
        for _ in range(2):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    return Seen(folder).now()


def test_trunk_and_branch_of_each_residual_block(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Residual(), torch.randn(7, 4)
    moment = seen(tmp_path / "run", net, x)
    found = [b for b in branches(moment.probe(0)) if b.residual]
    loss = net(x).square().mean()
    grads = torch.autograd.grad(loss, net.kept)
    assert len(found) == 2
    for block, told in zip((1, 0), found, strict=True):  # the loss side first
        trunk, whole = grads[block + 1], grads[block]  # what arrives where they join goes down the trunk as it is
        side = whole - trunk
        (a, b) = told.routes
        assert a.trunk and not b.trunk and "MLP" in b.name
        assert told.norm == pytest.approx(float(whole.norm()), rel=1e-4)
        assert (a.norm, b.norm) == (
            pytest.approx(float(trunk.norm()), rel=1e-4),
            pytest.approx(float(side.norm()), rel=1e-4),
        )
        assert a.share == pytest.approx(float(trunk.norm() ** 2 / (trunk.norm() ** 2 + side.norm() ** 2)), rel=1e-4)
        assert b.gain == pytest.approx(float(side.norm() / trunk.norm()), rel=1e-4) and a.gain == pytest.approx(
            1, rel=1e-4
        )
        assert told.cosine == pytest.approx(float((trunk * side).sum() / trunk.norm() / side.norm()), abs=1e-3)


def test_a_chain_has_no_branches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    moment = seen(tmp_path / "run", nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)), torch.randn(7, 4))
    assert branches(moment.probe(0)) == []
    assert routes(moment, 0).times == []


def test_a_recurrence_over_its_time(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Recurrent(), torch.randn(7, 12, 3)
    told = routes(seen(tmp_path / "run", net, x), 0)
    (row,) = told.times
    states, h = [], torch.zeros(7, 5)
    for t in range(12):
        rnn = net.rnn
        h = torch.tanh(x[:, t] @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + h @ rnn.weight_hh_l0.T + rnn.bias_hh_l0)
        states.append(h)
    grads = torch.autograd.grad(net.head(h).square().mean(), states)
    assert row.values == [pytest.approx(float(g.norm()), rel=1e-3) for g in grads]
    assert told.maps and told.maps[0].steps == list(range(1, 13))
    assert told.maps[0].low <= math.log10(float(grads[0].norm() / grads[-1].norm()))
