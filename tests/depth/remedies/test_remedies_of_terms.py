"""Remedies for terms that train nothing and samples that are paired: planned, done to a running script, written."""

from __future__ import annotations

import pytest
import torch

from gradientflow.depth.remedies.planner import Planner
from gradientflow.depth.remedies.table import TABLE
from gradientflow.records import Change, Finding, Place, Verdict
from gradientflow.records.verdict import Budget, Loss, Watch
from tests.depth.remedies.editing import FILE, HEAD, after, at, op, replaced, run
from tests.depth.remedies.live import change, lines_of, live

FORCES = """
net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
x = torch.randn(6, 3, requires_grad=True)
f = torch.autograd.grad(net(x).sum(), x)[0]  # mark: grad
e = torch.autograd.grad(net(x).sum(), x)[0]
alive = f.requires_grad, e.requires_grad
"""


def test_a_derivative_keeps_its_graph_at_the_place_only() -> None:
    scope, (kept,) = live(FORCES, [change("keep-graph", (lines_of(FORCES)["grad"], "grad"))])
    assert scope["alive"] == (True, False)
    assert kept.acted == 1 and kept.problem is None
    assert live(FORCES, [])[0]["alive"] == (False, False)


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("torch.autograd.grad(e.sum(), p)[0]", "torch.autograd.grad(e.sum(), p, create_graph=True)[0]"),
        (
            "torch.autograd.grad(e.sum(), p, retain_graph=True)[0]",
            "torch.autograd.grad(e.sum(), p, create_graph=True)[0]",
        ),
        (
            "torch.autograd.grad(e.sum(), p, create_graph=False)[0]",
            "torch.autograd.grad(e.sum(), p, create_graph=True)[0]",
        ),
    ],
)
def test_the_derivative_is_written_with_its_graph(before: str, wanted: str) -> None:
    source = f"{HEAD}f = -{before}\n"
    assert after(source, Change("keep-graph", "", [at(source, "f = ", "grad")])) == replaced(source, (before, wanted))


def test_what_is_no_derivative_is_not_written() -> None:
    source = f"{HEAD}f = model(p)\n"
    assert after(source, Change("keep-graph", "", [at(source, "f = ", "grad")])) is None


PAIRS = """
p, y = torch.arange(4.0).unsqueeze(1), torch.arange(4.0)
loss = F.mse_loss(p, y)  # mark: loss
by_hand = ((y - p) ** 2).mean()  # mark: sub
same = F.mse_loss(p, p)  # mark: same
"""


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_both_operands_get_one_shape() -> None:
    lines = lines_of(PAIRS)
    places = [(lines["loss"], "mse_loss"), (lines["sub"], "sub"), (lines["same"], "mse_loss")]
    scope, (matched,) = live(PAIRS, [change("match-shapes", *places)])
    assert scope["loss"] == 0.0 and scope["by_hand"] == 0.0
    assert matched.acted == 2 and matched.problem is None
    plain = live(PAIRS, [])[0]
    assert plain["loss"] > 0 and plain["by_hand"] > 0
    assert torch.equal(scope["same"], plain["same"])


@pytest.mark.parametrize(
    ("before", "wanted", "name", "column"),
    [
        ("F.mse_loss(net(x), y)", "F.mse_loss(net(x).squeeze(-1), y)", "mse_loss", "answer"),
        ("F.mse_loss(p, y[:, None])", "F.mse_loss(p, y[:, None].squeeze(-1))", "mse_loss", "target"),
        ("criterion(net(x), y)", "criterion(net(x).squeeze(-1), y)", "mse_loss", "answer"),
        ("((p - y) ** 2).mean()", "((p - y.reshape_as(p)) ** 2).mean()", "sub", "answer"),
    ],
)
def test_the_shapes_are_matched_where_the_line_shows_which(before: str, wanted: str, name: str, column: str) -> None:
    source = f"{HEAD}loss = {before}\n"
    one = Change("match-shapes", "", [at(source, "loss = ", name)], {"column": column})
    if name == "sub":
        assert after(source, one) == replaced(source, (before, wanted))
    else:
        calls = replaced(source, (before, wanted))
        assert after(source, one) == calls


def test_a_difference_of_calls_is_left_to_its_author() -> None:
    source = f"{HEAD}loss = ((net(x) - wanted(y)) ** 2).mean()\n"
    assert after(source, Change("match-shapes", "", [at(source, "loss = ", "sub")])) is None


def planned(cause: str, word: str, place: Place, source: str, **evidence: object) -> list[Change]:
    seen = run(source, ops=[op(0, place.op or "", "activation", place.line or 0, [4, 4])])
    found = Finding("dead", cause, 0.9, place, "", dict(evidence), [])
    verdict = Verdict("", 1, Loss(), "dead", [found], Budget(), Watch())
    plan = TABLE[word].plan
    assert callable(plan)
    return plan(Planner(seen, verdict), found)


def test_plans_act_at_the_findings_line() -> None:
    source = f"{HEAD}h = torch.relu(x)\n"
    grad = planned("disconnected-parameters", "keep-graph", Place(FILE, 5, None, "grad"), source)
    assert [(c.kind, c.places) for c in grad] == [("keep-graph", [Place(FILE, 5, None, "grad")])]
    assert planned("disconnected-parameters", "keep-graph", Place(FILE, 5, None, "item"), source) == []
    (pairs,) = planned("mixed-samples", "match-shapes", Place(FILE, 5, None, "sub"), source, column="target")
    assert pairs.settings == {"column": "target"} and pairs.places[0].op == "sub"
