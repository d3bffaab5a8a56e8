"""Numbers that are not finite: born in an optimizer's step, or seen and not explained; such a run is never healthy."""

from __future__ import annotations

import math

import pytest
import torch

from gradientflow.depth.causes import finite
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.verdict import judge
from gradientflow.ops import SMALLEST
from gradientflow.records import Optimizer, Param, Run
from tests.depth.causes.by_hand import causes, flips, run
from tests.depth.causes.test_rules_on_live_runs import verdict_of


def stepped(eps: float = 1e-8, dtype: str = "float16", *, weight: float = math.inf, grown: float = 1.0) -> Run:
    """A run whose weights are not finite behind the third step, whose gradient was."""
    seen = run(losses=[1.0, grown, 1.0, 1.0])
    seen.meta.params = [Param(0, "w", [4, 4], dtype, True, True)]
    seen.meta.optimizers = [Optimizer(0, "Adam", {"lr": 1e-3, "eps": eps}, [0], made_file="t.py", made_line=3)]
    for step in seen.steps[2:]:
        step.weight = step.update = weight
    for step in seen.steps[3:]:
        step.loss = step.grad = math.nan
    return seen


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_an_eps_that_the_format_does_not_hold(dtype: str) -> None:
    half = SMALLEST[dtype] / 2
    assert float(torch.tensor(half * 0.999, dtype=torch.float64).to(getattr(torch, dtype))) == 0.0  # as PyTorch rounds
    assert float(torch.tensor(half * 1.001, dtype=torch.float64).to(getattr(torch, dtype))) > 0.0

    def told(eps: float) -> list[str]:
        (found,) = judge(stepped(eps, dtype)).findings
        assert (found.symptom, found.cause) == ("not-finite", "overflow")
        assert found.place is not None and found.place.line == 3
        return ["eps"] if "eps" in found.evidence else []

    assert told(half * 0.999) == ["eps"]
    assert told(half * 1.001) == []


def test_a_step_that_makes_what_is_not_finite_and_a_run_that_diverged_before() -> None:
    assert causes(finite.born_in_a_step, stepped()) == ["overflow"]
    assert (
        causes(finite.born_in_a_step, stepped(weight=1.0)) == []
    )  # control: the weights stay finite, the loss does not
    flips(lambda grown: causes(finite.born_in_a_step, stepped(grown=grown)), 1001, 999)


def test_a_run_that_ends_with_what_is_not_finite_is_not_healthy() -> None:
    seen = run(losses=[1.0, 0.9, 0.8, 0.7])
    assert judge(seen).findings == []
    seen.steps[-1].weight = math.nan
    seen.steps[-1].grad = None  # no rule has a gradient to go by
    seen.meta.optimizers = []
    verdict = judge(seen)
    assert verdict.symptom == "not-finite"
    assert verdict.findings


def test_what_no_rule_explains_is_told_as_that() -> None:
    seen = run(losses=[1.0, 0.9, math.inf, 0.8, 0.7])
    by = finite.unexplained(Case(seen))
    assert by is not None and "the run went on" in by.summary and by.evidence["step"] == 3
    assert finite.unexplained(Case(run(losses=[1.0, 0.9, 0.8, 0.7]))) is None
    seen.steps[-1].loss = math.nan
    found = finite.unexplained(Case(seen))
    assert found is not None
    assert (found.symptom, found.cause, found.evidence["step"]) == (
        "not-finite",
        "unexplained",
        5,
    )  # not 3: that went by


def half_precision(eps: float) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)).half()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=eps)
    x = torch.randn(64, 8).half()
    x[:, 0] = 0.0  # a column that is always zero: the gradient of its weights is exactly zero
    for _ in range(8):
        optimizer.zero_grad()
        (model(x).float() - x.sum(1, keepdim=True).float()).pow(2).mean().backward()
        optimizer.step()


def test_adam_in_half_precision() -> None:
    verdict = verdict_of(lambda: half_precision(1e-8))
    assert (verdict.symptom, verdict.findings[0].cause) == ("not-finite", "overflow")
    assert verdict.findings[0].evidence["dtype"] == "float16"
    assert "eps = 1e-08 is 0 in float16" in verdict.findings[0].summary
    assert verdict_of(lambda: half_precision(1e-4)).symptom != "not-finite"  # control: one that the format holds


def test_a_run_with_a_number_that_is_not_finite_on_the_way_is_not_healthy() -> None:
    assert judge(run(losses=[1.0, 0.9, 0.95, 0.8, 0.7])).findings == []
    verdict = judge(run(losses=[1.0, 0.9, math.inf, 0.8, 0.7]))
    assert verdict.symptom == "not-finite"
