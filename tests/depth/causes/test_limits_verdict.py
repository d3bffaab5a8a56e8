"""What a verdict tells, and what a budget gives a row: each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import budget, verdict
from gradientflow.depth.causes.case import Case
from gradientflow.records import Finding, Operand
from tests.depth.causes.by_hand import Chain, flips, grad, linear, run, tail


def test_a_finding_that_is_sure_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(confidence: float) -> list[Finding]:
        finding = Finding("dead", "dead-units", confidence, None, "", {}, [])
        monkeypatch.setattr(verdict, "RULES", ((lambda case: [finding], 0.0),))
        found = verdict.judge(
            run(Chain([linear(), *tail()]))
        ).findings  # (one that stalls is told where there is no other)
        return [f for f in found if f.cause == "dead-units"]

    flips(judged, 0.49, 0.51)


def test_a_merge_that_is_worth_a_row() -> None:
    def row(decades: float) -> bool:
        made = run(Chain([linear(), *tail()]))
        ops = made.probes[0].ops
        ops[-1].operands.append(Operand(op=0, grad=grad(0.01)))  # a way past the last layer
        ops[0].grad = grad(10**decades)
        return budget.build(Case(made).graphs[0]).branched

    flips(row, 0.0049, 0.0051)
