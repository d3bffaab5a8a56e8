"""What theory says a gradient does on its way back, against what a probe measures; each within 3 % over several seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from statistics import fmean

import pytest
import torch
from torch import nn

from gradientflow.depth.causes import budget
from gradientflow.depth.causes.graph import Graph
from tests.truth.watching import probe_of

SEEDS = range(5)
WIDTH, DEPTH = 256, 24
TOLERANCE = 0.03


def stack(init: Callable[[torch.Tensor], object] | None, activation: type[nn.Module], seed: int) -> Graph:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for _ in range(DEPTH):
        layer = nn.Linear(WIDTH, WIDTH)
        if init is not None:
            init(layer.weight)
            nn.init.zeros_(layer.bias)
        modules += [layer, activation()]
    net = nn.Sequential(*modules, nn.Linear(WIDTH, 10))
    x = torch.randn(128, WIDTH)

    def train() -> None:
        nn.functional.cross_entropy(net(x), torch.arange(128) % 10).backward()

    return probe_of(train)


def per_layer(graph: Graph) -> float:
    """Mean factor on ‖δ‖ from one linear layer's output to the next one down, away from both ends."""
    layers = [graph.probe.ops[i] for i in graph.layers]
    assert len(layers) == DEPTH + 1
    norms = [op.grad.norm for op in layers if op.grad is not None]
    middle = norms[4:-4]
    return 10 ** fmean(math.log10(a / b) for a, b in itertools.pairwise(middle))


def uniform(bound: float) -> Callable[[torch.Tensor], object]:
    return lambda w: nn.init.uniform_(w, -bound, bound)


ORACLES = [
    pytest.param(None, nn.ReLU, math.sqrt(1 / 6), id="default init, ReLU: sqrt(1/6)"),
    pytest.param(nn.init.xavier_normal_, nn.ReLU, math.sqrt(1 / 2), id="Glorot, ReLU: sqrt(1/2)"),
    pytest.param(lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), nn.ReLU, 1.0, id="He, ReLU: 1"),
    pytest.param(lambda w: nn.init.normal_(w, std=1 / math.sqrt(WIDTH)), nn.Sigmoid, 0.2361, id="sigmoid, var 1"),
    pytest.param(nn.init.orthogonal_, nn.Identity, 1.0, id="orthogonal, linear: 1"),
]


@pytest.mark.parametrize(("init", "activation", "expected"), ORACLES)
def test_gain_per_layer_is_what_theory_says(
    init: Callable[[torch.Tensor], object] | None, activation: type[nn.Module], expected: float
) -> None:
    measured = fmean(per_layer(stack(init, activation, seed)) for seed in SEEDS)
    assert measured == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(("init", "activation", "expected"), ORACLES)
def test_the_oracle_refuses_weights_five_percent_too_large(
    init: Callable[[torch.Tensor], object] | None, activation: type[nn.Module], expected: float
) -> None:
    """Negative control: the same check must fail on weights that are wrong by little more than the tolerance."""

    def wrong(w: torch.Tensor) -> None:
        if init is None:
            nn.init.kaiming_uniform_(w, a=math.sqrt(5))
        else:
            init(w)
        with torch.no_grad():
            w.mul_(1.05)

    measured = fmean(per_layer(stack(wrong, activation, seed)) for seed in SEEDS)
    assert measured != pytest.approx(expected, rel=TOLERANCE)


def recurrent(rho: float, steps: int, seed: int) -> Graph:
    torch.manual_seed(seed)
    cell = nn.Linear(64, 64, bias=False)
    nn.init.orthogonal_(cell.weight, gain=rho)
    start = torch.randn(32, 64, requires_grad=True)
    target = torch.randn(32, 64)

    def train() -> None:
        h = start
        for _ in range(steps):
            h = cell(h)
        (h * target).sum().backward()

    return probe_of(train)


@pytest.mark.parametrize("rho", [0.9, 1.0, 1.1])
def test_linear_orthogonal_recurrence_is_rho_to_the_t(rho: float) -> None:
    steps = 100
    for seed in range(3):
        graph = recurrent(rho, steps, seed)
        (calls,) = graph.recurrences()
        assert len(calls) == steps
        norms = [op.grad.norm for i in calls if (op := graph.probe.ops[i]).grad is not None]
        assert norms[0] / norms[-1] == pytest.approx(rho ** (steps - 1), rel=TOLERANCE)
        assert norms[0] / norms[-1] != pytest.approx((rho + 0.001) ** (steps - 1), rel=TOLERANCE)  # negative control


def test_parts_of_the_budget_sum_to_the_measured_total() -> None:
    graph = stack(None, nn.ReLU, 0)
    found = budget.build(graph)
    first = graph.probe.ops[graph.layers[0]].grad
    assert first is not None
    assert found.total_decades == pytest.approx(math.log10(first.norm), abs=1e-6)
    assert found.residual == pytest.approx(0.0, abs=1e-9)
    for parts in (found.by_op, found.by_kind, found.by_module):
        assert math.fsum(p.decades for p in parts if p.decades is not None) == pytest.approx(found.total_decades)
    assert not found.branched
    assert [row.name for row in found.by_op[:3]] == ["cross_entropy", "linear", "relu"]


def test_a_row_left_out_of_the_budget_shows_in_the_residual() -> None:
    """Negative control: the sum notices when an operation is lost."""
    graph = stack(None, nn.ReLU, 0)
    total = budget.build(graph)
    missing = [row.decades for row in total.by_op if row.decades is not None and row.name != "relu"]
    assert math.fsum(missing) != pytest.approx(total.total_decades, abs=1e-3)


def test_a_residual_stack_doubles_the_squared_gradient_per_block_and_says_that_it_branches() -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.ModuleList([nn.Linear(256, 256), nn.Linear(256, 256)]) for _ in range(12))
    for a, b in blocks:  # type: ignore[misc]
        nn.init.kaiming_normal_(a.weight, nonlinearity="relu")
        nn.init.normal_(b.weight, std=1 / 16)
        nn.init.zeros_(a.bias)
    stem, head = nn.Linear(256, 256), nn.Linear(256, 10)
    x = torch.randn(256, 256)

    def train() -> None:
        h = stem(x)
        for a, b in blocks:  # type: ignore[misc]
            h = h + b(torch.relu(a(h)))
        nn.functional.cross_entropy(head(h), torch.arange(256) % 10).backward()

    graph = probe_of(train)
    found = budget.build(graph)
    assert found.branched
    assert "do not add" in found.note or "not in decades" in found.note
    assert found.residual == pytest.approx(0.0, abs=1e-9)
    shares = [row for row in found.by_op if row.kind == "branch"]
    assert len(shares) == 12
    assert all(row.share is not None and 0.3 < row.share < 0.7 for row in shares)
    adds = [op.grad.norm**2 for op in graph.probe.ops if op.name == "add" and op.grad is not None]
    growth = (adds[0] / adds[-1]) ** (1 / (len(adds) - 1))
    assert growth == pytest.approx(2.0, rel=0.05)
