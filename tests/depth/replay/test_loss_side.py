"""Nothing behind the network's output is changed, unless what was found stands there: another loss is no better training."""

from __future__ import annotations

import msgspec
import pytest

from gradientflow.depth.remedies.planner import Planner, network_of, within_network
from gradientflow.depth.replay import candidates as plan
from gradientflow.records import Place, Run
from tests.depth.replay.test_plan import KINDS, chain, finding, first, lines, verdict
from tests.depth.replay.test_race import watched

NET = (("linear", 16), ("sigmoid", 16), ("linear", 16), ("sigmoid", 16), ("linear", 1))
LOSS = (("sub", 1), ("sigmoid", 1), ("mean", 1))  # a sigmoid of a residual: 106
OUTPUT = 105

PDE = """
import torch
from torch import nn

torch.manual_seed(2)
hidden, out = nn.Linear(2, 8), nn.Linear(8, 1)
squash = nn.Sigmoid()

def net(x):
    return out(torch.tanh(hidden(x)))

optimizer = torch.optim.Adam([*hidden.parameters(), *out.parameters()], lr=1e-3)
for step in range(3):
    x = torch.rand(16, 2, requires_grad=True)
    u = net(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    residual = torch.tanh(du[:, :1] - u)
    gate = torch.sigmoid(du[:, 1:])
    flat = torch.relu(du[:, :1])
    loss = (residual**2).mean() + gate.mean() + flat.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
TANH_OF_NET, TANH, SIGMOID, RELU = 10, 17, 18, 19  # lines


@pytest.fixture(scope="module")
def pde(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return watched(tmp_path_factory.mktemp("pde"), PDE)[0]


def at(line: int, op: str, cause: str, *kinds: str):
    made = finding("vanishing", cause, *kinds, op=op)
    return msgspec.structs.replace(made, place=Place("train.py", line, None, op))


@pytest.mark.parametrize(("line", "op"), [(TANH, "tanh"), (SIGMOID, "sigmoid"), (RELU, "relu")])
@pytest.mark.parametrize("kind", ["swap-activation", "fix-output"])
def test_what_a_residual_is_made_of_is_not_changed(pde: Run, line: int, op: str, kind: str) -> None:
    found = at(line, op, "output-activation", kind)
    changed = [p.line for _, c in plan.candidates(pde, verdict(found)) for p in c.places]
    assert line not in changed
    if kind == "fix-output":
        assert changed == []


def test_what_is_in_the_network_may_be_swapped_in_the_same_script(pde: Run) -> None:
    found = at(TANH_OF_NET, "tanh", "saturating-activation", "swap-activation")
    assert lines(first(pde, found)) == [TANH_OF_NET]


def test_a_refused_remedy_says_so(pde: Run) -> None:
    told = plan.untried(pde, verdict(at(SIGMOID, "sigmoid", "output-activation", "fix-output")))
    assert [kind for _, kind, _ in told] == ["fix-output"] and told[0][2]


def test_a_line_that_network_and_loss_share_is_left_alone() -> None:
    """One function for both: a change of it would be a change of the loss."""
    shared = chain(*NET, *LOSS)
    vanishing = finding("vanishing", "saturating-activation", "swap-activation", line=101, op="sigmoid")
    assert lines(first(shared, vanishing)) == [101, 103]  # control
    shared.probes[0].ops[6].line = 103
    assert lines(first(shared, vanishing)) == [101]


def test_the_loss_has_no_skips_and_no_norms_to_be_changed() -> None:
    kinds = ("add-skip", "add-norm", "remove-norm")
    layers = (("linear", 16), ("batch_norm", 16), ("sigmoid", 16), ("linear", 16), ("sigmoid", 16), ("linear", 16))
    run = chain(*layers, ("batch_norm", 16), ("sigmoid", 16), ("mse_loss", 1))
    found = finding("exploding", "norm-amplification", *kinds, line=101, op="batch_norm")
    changes = {c.kind: lines(c) for _, c in plan.candidates(run, verdict(found))}
    assert changes["remove-norm"] == [101] and set(changes) == set(kinds)
    assert all(line is not None and line < 106 for at in changes.values() for line in at)


def test_a_frozen_network_that_measures_the_loss_is_loss_side() -> None:
    """A perceptual loss: layers that do not learn, behind the output."""
    run = chain(*NET, ("linear", 8), ("sigmoid", 8), ("linear", 8), ("mse_loss", 1))
    vanishing = finding("vanishing", "saturating-activation", "swap-activation", line=101, op="sigmoid")
    assert 106 in lines(first(run, vanishing))  # control: where these learn, they are the network's
    for param in run.meta.params[3:]:
        param.requires_grad = False
    assert lines(first(run, vanishing)) == [101, 103]


def test_without_layers_only_what_repeats_itself_is_the_network() -> None:
    run = chain(*(("sigmoid", 4),) * 10, ("mean", 1))
    for op in run.probes[0].ops[:9]:
        op.line = 100
    planner = Planner(run, verdict())
    graph = planner.case.graphs[0]
    assert network_of(graph) == set(range(9))
    places = [Place("net.py", 100, None, "sigmoid"), Place("net.py", 109, None, "sigmoid")]
    assert within_network(planner, graph, places) == places[:1]


@pytest.mark.parametrize("through", [(), (("mul", 1),)])
def test_an_activation_of_the_output_may_be_fixed_through_plain_arithmetic(
    through: tuple[tuple[str, int], ...],
) -> None:
    KINDS.setdefault("mul", "elementwise")
    run = chain(*NET, *through, ("relu", 1), ("sub", 1), ("pow", 1), ("mean", 1))
    found = finding("crawling", "output-activation", "fix-output", line=OUTPUT + len(through), op="relu")
    assert first(run, found).settings["to"] == "identity"  # (the square of a difference asks for nothing positive)
    difference = chain(*NET, ("sub", 1), ("relu", 1), ("mean", 1))
    found = finding("crawling", "output-activation", "fix-output", line=106, op="relu")
    assert plan.candidates(difference, verdict(found)) == []


def test_the_output_is_found_where_the_same_line_ran_for_an_accuracy_before() -> None:
    run = chain(*NET, ("relu", 1), ("sub", 1), ("pow", 1), ("mean", 1))
    found = finding("crawling", "output-activation", "fix-output", line=OUTPUT, op="relu")
    twice = chain(*NET, ("relu", 1), *NET, ("relu", 1), ("sub", 1), ("pow", 1), ("mean", 1))
    ops = twice.probes[0].ops
    ops[6].operands = ops[0].operands  # (a pass of its own: the loss depends on the second only)
    for op in ops[6:12]:
        op.line = (op.line or 0) - 6
    assert first(twice, found).settings == first(run, found).settings
