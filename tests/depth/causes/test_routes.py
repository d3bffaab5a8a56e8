"""The budget where the gradient has many routes: shared weights, repeated modules, several losses, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradientflow.depth.causes import budget
from gradientflow.depth.causes.graph import Graph
from gradientflow.records import Budget
from tests.truth.watching import watched


def graphs_of(loss: Callable[[], Tensor | list[Tensor]], params: list[Tensor], steps: int = 1) -> list[Graph]:
    optimizer = torch.optim.SGD(params, lr=1e-3)
    with watched() as run:
        for _ in range(steps):
            optimizer.zero_grad()
            losses = loss()
            for part in losses if isinstance(losses, list) else [losses]:
                part.backward(retain_graph=True)
            optimizer.step()
    return [Graph(p, run.meta) for p in run.probes]


def kinds(found: Budget) -> dict[str, float]:
    return {row.name: row.decades or 0.0 for row in found.everywhere}


def shrinking(depth: int, activation: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32) for _ in range(depth)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)

    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = activation(layer(x))
        return x

    return [p for layer in layers for p in layer.parameters()], run


def test_on_a_chain_all_routes_are_the_one_path() -> None:
    params, net = shrinking(6, torch.sigmoid)
    x = torch.randn(16, 32)
    (graph,) = graphs_of(lambda: net(x).square().sum(), params)
    found = budget.build(graph)
    along = {row.name: row.decades or 0.0 for row in found.by_kind}
    assert kinds(found)["activation"] == pytest.approx(
        math.fsum(r.decades or 0.0 for r in found.by_op if r.kind == "activation" and r.body), abs=1e-6
    )
    assert set(kinds(found)) <= set(along)
    assert found.everywhere[0].name == "activation"
    assert found.everywhere[0].count == 5  # (the sixth lies behind no layer)
    assert found.worst_op is not None
    assert found.worst_op.name == "sigmoid"


def test_a_thief_off_the_main_path_is_named() -> None:
    torch.manual_seed(0)
    first, side, last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
    x = torch.randn(32, 16)

    def loss() -> Tensor:
        h = first(x)
        return last(h + 1e-3 * torch.tanh(30 * side(h))).square().mean()  # most of it goes by the skip

    (graph,) = graphs_of(loss, [p for m in (first, side, last) for p in m.parameters()])
    found = budget.build(graph)
    assert not [row for row in found.by_op if row.name == "tanh"]
    assert kinds(found)["activation"] < 0 or kinds(found)["elementwise"] < -1.0
    assert found.worst_op is not None
    assert found.worst_op.name == "mul"


def test_chances_sum_to_one_where_routes_part_and_meet() -> None:
    torch.manual_seed(0)
    a, b, c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
    x = torch.randn(16, 8)

    def loss() -> Tensor:
        h = a(x) * 0.1
        return c(h + b(h)).square().sum()

    (graph,) = graphs_of(loss, [p for m in (a, b, c) for p in m.parameters()])
    found = budget.build(graph)
    assert kinds(found)["elementwise"] == pytest.approx(-1.0 + 0.5 * math.log10(2), abs=1e-6)  # ×0.1 for all, one add
    assert found.branched


def test_a_shared_weight_is_one_parameter_with_several_operations() -> None:
    torch.manual_seed(0)
    shared, head = nn.Linear(16, 16), nn.Linear(16, 2)
    x = torch.randn(8, 16)
    (graph,) = graphs_of(
        lambda: head(torch.tanh(shared(torch.tanh(shared(x))))).sum(), [*shared.parameters(), *head.parameters()]
    )
    users = [i for i in graph.layers if shared_index(graph, "(16, 16)") in graph.weights_of(graph.probe.ops[i])]
    assert len(users) == 2
    state = graph.states[shared_index(graph, "(16, 16)")]
    parts = [o.grad for i in users for o in graph.probe.ops[i].operands if o.param == state.param]
    assert state.grad is not None
    assert all(g is not None for g in parts)
    assert state.grad.norm <= math.fsum(g.norm for g in parts if g is not None) * (1 + 1e-5)
    found = budget.build(graph)
    assert found.total_decades is not None
    assert abs(found.residual or 0.0) < 1e-6


def shared_index(graph: Graph, shape: str) -> int:
    return next(p.index for p in graph.params if str(tuple(p.shape)) == shape)


def test_a_module_called_many_times_has_one_row_per_call() -> None:
    torch.manual_seed(0)
    block, head = nn.Sequential(nn.Linear(16, 16), nn.Sigmoid()), nn.Linear(16, 2)

    def loss() -> Tensor:
        x = torch.ones(4, 16)
        for _ in range(5):
            x = block(x)
        return head(x).sum()

    (graph,) = graphs_of(loss, [*block.parameters(), *head.parameters()])
    found = budget.build(graph)
    assert len([row for row in found.by_op if row.name == "sigmoid"]) == 5
    assert next(row for row in found.everywhere if row.name == "activation").count == 5
    assert found.total_decades == pytest.approx(math.fsum(r.decades or 0.0 for r in found.by_op), abs=1e-6)


def test_several_losses_in_one_backward_are_one_graph() -> None:
    torch.manual_seed(0)
    trunk, one, two = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 1)
    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))

    def loss() -> Tensor:
        h = torch.relu(trunk(x))
        return F.cross_entropy(one(h), y) + F.mse_loss(two(h), x[:, :1])

    (graph,) = graphs_of(loss, [p for m in (trunk, one, two) for p in m.parameters()])
    found = budget.build(graph)
    assert found.branched
    assert "mse_loss" in {row.name for row in found.by_op}  # the path goes by the loss that sends most
    assert "cross_entropy" not in {row.name for row in found.by_op}
    assert len(graph.layers) == 3


def test_two_backwards_in_a_step_are_measured_at_the_first_and_counted() -> None:
    torch.manual_seed(0)
    trunk, one, two = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 1)
    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))

    def losses() -> list[Tensor]:
        h = torch.relu(trunk(x))
        return [F.cross_entropy(one(h), y), F.mse_loss(two(h), x[:, :1])]

    params = [p for m in (trunk, one, two) for p in m.parameters()]
    optimizer = torch.optim.SGD(params, lr=1e-3)
    with watched() as run:
        for _ in range(3):
            optimizer.zero_grad()
            for part in losses():
                part.backward(retain_graph=True)
            optimizer.step()
    graph = Graph(run.probes[0], run.meta)
    assert [s.backwards for s in run.steps] == [2, 2, 2]
    assert {graph.probe.ops[i].name for i in graph.reached} >= {"cross_entropy", "linear"}
    assert "mse_loss" not in {graph.probe.ops[i].name for i in graph.reached}
    assert all(p.graded == 3 for p in run.meta.params if p.optimizer is not None)  # no parameter looks cut off


@pytest.mark.parametrize("reentrant", [False])
def test_a_checkpointed_segment_has_the_budget_of_the_plain_one(reentrant: bool) -> None:
    def measured(wrap: bool) -> Budget:
        params, net = shrinking(4, torch.tanh)
        head = nn.Linear(32, 2)
        nn.init.orthogonal_(head.weight)
        x = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))
        first = nn.Linear(32, 32)
        nn.init.orthogonal_(first.weight)
        inner: Callable[[Tensor], Tensor] = (lambda h: checkpoint(net, h, use_reentrant=reentrant)) if wrap else net
        (graph,) = graphs_of(
            lambda: head(inner(first(x))).square().sum(), [*params, *first.parameters(), *head.parameters()]
        )
        return budget.build(graph)

    torch.manual_seed(0)
    plain = measured(False)
    torch.manual_seed(0)
    wrapped = measured(True)
    assert plain.body_decades == pytest.approx(wrapped.body_decades or math.nan, abs=1e-6)
    assert len(plain.by_op) == len(wrapped.by_op)
