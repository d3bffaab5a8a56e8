"""The limits of a value that is not finite, each from both sides."""

from __future__ import annotations

import math

import pytest

from gradientflow.depth.causes import birth
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.mends import masked_behind
from gradientflow.records import Finding
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, run, tail, value


def born(name: str, nan: int = 0, inf: int = 0, into: float = 1.0, step: int = 6, **more: object) -> Finding:
    """An operation whose output is not finite at a step, and how large its operand is."""
    made = Row(name, "elementwise", value=value(nan=nan, inf=inf))
    chain = Chain([linear(value=value(max=into)), made, *tail()], step=step, loss=math.nan)
    given = {"losses": [1.0] * (step - 1) + [math.nan]} | more
    return only(birth.not_finite(Case(run(chain, **given))))  # type: ignore[arg-type]


def test_a_quotient_of_values_too_large() -> None:
    assert born("div", nan=1, into=0.9e30).cause == "singular-op"
    assert born("div", nan=1, into=1.1e30).cause == "overflow"


def test_the_exponent_that_overflows() -> None:
    flips(lambda top: "exp overflows" in born("exp", inf=1, into=top).summary, 87.5, 88.5)


@pytest.mark.parametrize(("grown", "confidence"), [(980.0, 0.97), (1020.0, 0.55)])
def test_a_loss_that_had_grown(grown: float, confidence: float) -> None:
    assert born("div", nan=1, losses=[1.0, 1.0, 1.0, 1.0, grown, math.nan]).confidence == confidence


@pytest.mark.parametrize(("update", "confidence"), [(0.89, 0.97), (0.91, 0.55)])
def test_weights_that_were_replaced(update: float, confidence: float) -> None:
    assert born("div", nan=1, updates=[1e-3, 1e-3, update]).confidence == confidence


def test_values_on_their_way_out() -> None:
    def coming(top: float) -> bool:
        chains = [
            Chain([linear(), Row("mul", "elementwise", value=value(min=-1.0, max=absmax)), *tail()], step=step)
            for step, absmax in ((1, 2.0), (11, top))
        ]
        found = causes(birth.not_finite, run(*chains, losses=[1.0] * 60 + [math.nan]))
        return "overflow" in found

    flips(coming, 9.8, 10.2)


def test_how_far_behind_a_value_its_mask_may_stand() -> None:
    def told(between: float) -> bool:
        """Whether the mask of data that holds NaN is seen, with so many operations between the loss and it."""
        mask = Row("mul", "elementwise", value=value(), leaf=value(min=0.0, max=1.0))
        rows = [linear(), *(Row("neg", "elementwise") for _ in range(int(between))), mask, *tail()[1:]]
        graph = Case(run(Chain(rows))).graphs[0]
        return masked_behind(graph, graph.probe.ops[0]) is not None

    flips(lambda near: told(-near), -4, -3)


def test_an_exponential_that_stood_half_way_to_the_largest_number() -> None:
    def blamed(decades: float) -> list[str]:
        rows = [linear(), Row("exp", "elementwise", value=value(max=10**decades)), *tail()]
        seen = run(Chain(rows), losses=[1.0] * 20 + [math.nan])
        return [f.cause for f in birth.not_finite(Case(seen)) if f.cause == "overflow"]

    flips(blamed, 19.2, 19.3)  # of 38.53
