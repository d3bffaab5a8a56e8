"""A gradient that came through at first and hardly does later, in a run that gets nowhere: who drove it there?"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.causes import judge
from gradientflow.records import Run
from tests.depth.causes.test_rules_on_live_runs import healthy, here, top
from tests.truth.watching import watched

_NODES, _CLASSES = 200, 4


class GraphNet(nn.Module):
    """Sums over neighbours; `mean` divides by how many there are."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        sizes = [16, 32, 32, 32, 32]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(32, _CLASSES)
        self.mean = mean

    def forward(self, adjacency: Tensor, h: Tensor) -> Tensor:
        if self.mean:
            adjacency = adjacency / adjacency.sum(1, keepdim=True)
        for layer in self.layers:
            h = torch.tanh(adjacency @ layer(h))  # HERE
        return self.out(h)


def neighbours(mean: bool) -> None:
    torch.manual_seed(9)
    label = torch.arange(_NODES) % _CLASSES
    same = label.unsqueeze(0) == label.unsqueeze(1)
    drawn = torch.triu((torch.rand(_NODES, _NODES) < torch.where(same, 0.5, 0.05)).float(), diagonal=1)
    adjacency = drawn + drawn.T + torch.eye(_NODES)
    x = F.one_hot(label, 16).float() + 0.7 * torch.randn(_NODES, 16)
    net = GraphNet(mean)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05 if not mean else 0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(adjacency, x), label).backward()
        optimizer.step()


class Reverse(nn.Module):
    """A post-norm transformer that is to turn a sequence round."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(12, 32)
        self.place = nn.Parameter(0.5 * torch.randn(12, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 12)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.encoder(self.token(ids) + self.place))


def kicked(lr: float) -> None:
    torch.manual_seed(0)
    net = Reverse()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)  # HERE
    for _ in range(45):
        ids = torch.randint(0, 12, (16, 12))
        optimizer.zero_grad()
        F.cross_entropy(net(ids).flatten(0, 1), ids.flip(1).flatten()).backward()
        optimizer.step()


def seen(train: Callable[..., None], *args: object) -> Run:
    with watched(None) as run:
        train(*args)
    return run


def test_what_enters_the_activations_is_too_large_from_the_first_step_on() -> None:
    found = top(judge(seen(neighbours, False)), "vanishing", "saturating-activation", here(GraphNet.forward))
    assert found.evidence["saturated_first"] > 0.5
    healthy(judge(seen(neighbours, True)))


@pytest.fixture(scope="module")
def kicked_run() -> Run:
    return seen(kicked, 0.1)


def test_a_step_as_large_as_the_weights_threw_them_there(kicked_run: Run) -> None:
    found = top(judge(kicked_run), "vanishing", "step-too-large")
    assert found.place is not None and found.place.op == "Adam"
    assert found.evidence["relative_update"] > 0.2
    healthy(judge(seen(kicked, 0.002)))


def test_no_collapse_is_told_of_a_run_that_makes_headway_or_of_small_steps(kicked_run: Run) -> None:
    """The negative controls of the rule's two conditions, on the record of the run that has the fault."""
    run = copy.deepcopy(kicked_run)
    learning = [(k, s) for k, s in enumerate(run.steps)]
    for k, step in learning:
        step.loss = 2.5 * 0.9**k
    assert not [f for f in judge(run).findings if "hardly anything reaches" in f.summary]
    for _, step in learning:
        step.loss, step.update = 2.5, 1e-3 * (step.weight or 1.0)
    assert not [f for f in judge(run).findings if "hardly anything reaches" in f.summary]
