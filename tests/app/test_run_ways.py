"""The way back at other steps than the verdict's: its own budget, and the marks that still hold there."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gradientflow import depth
from gradientflow.errors import UsageError
from gradientflow.records import Budget, Loss, Probe, Run, Trained, Verdict, Watch
from gradientflow.report.view import Moment, op_seen, view, way
from tests.app.run_records import meta, probe


def verdict_on(run: Run, at: int = 0) -> Verdict:
    empty = Verdict("net.py", 10, Loss(), "vanishing", [], Budget(), Watch())
    empty.budget = depth.way_at(run, empty, run.probes[at])
    return empty


def marks(budget: Budget) -> set[tuple[str, str | None]]:
    return {(row.name, row.mark) for row in budget.by_op if row.mark}


def run_of(*probes: Probe) -> Run:
    return Run(meta(4), probes=list(probes))


def test_the_verdicts_own_step_is_the_verdicts_own_budget() -> None:
    run = run_of(probe(0, 4), probe(5, 4, gain=0.4))
    verdict = verdict_on(run)
    assert depth.way_at(run, verdict, run.probes[0]) is verdict.budget
    other = depth.way_at(run, verdict, run.probes[1])
    assert other.step == 5 and other.total_decades != verdict.budget.total_decades


def test_a_line_that_is_blamed_keeps_its_mark_as_long_as_it_does_what_it_is_blamed_for() -> None:
    run = run_of(probe(0, 4, gain=0.5), probe(5, 4, gain=0.9), probe(9, 4, gain=1.2))
    verdict = verdict_on(run)
    for row in verdict.budget.by_op:
        if row.name == "sigmoid":
            row.mark = "vanishing"
    assert marks(depth.way_at(run, verdict, run.probes[1])) == {("sigmoid", "vanishing")}
    assert marks(depth.way_at(run, verdict, run.probes[2])) == set()  # there it adds
    for row in verdict.budget.by_op:
        row.mark = "exploding" if row.name == "sigmoid" else None
    assert marks(depth.way_at(run, verdict, run.probes[1])) == set()
    assert marks(depth.way_at(run, verdict, run.probes[2])) == {("sigmoid", "exploding")}
    for row in verdict.budget.by_op:
        row.mark = "dead" if row.name == "sigmoid" else None
    assert marks(depth.way_at(run, verdict, run.probes[1])) == set()  # it lets something through


def test_what_is_not_finite_is_marked_wherever_it_is() -> None:
    run = run_of(probe(0, 4), probe(5, 4, norm=math.nan))
    told = depth.way_at(run, verdict_on(run), run.probes[1])
    assert {mark for _, mark in marks(told)} == {"not-finite"}
    assert told.total_decades is None


def test_of_two_optimizers_at_one_step_the_budgets_own_is_looked_at() -> None:
    def of(optimizer: int, gain: float, **more: Any) -> Probe:
        made = probe(3, 4, gain=gain, **more)
        made.optimizer = optimizer
        return made

    run = run_of(of(0, 0.5), of(1, 0.25))
    verdict = verdict_on(run, at=1)
    verdict.optimizers = [
        Trained("SGD", 5, Loss(), index=0),
        Trained("Adam", 5, Loss(), index=1, budget=verdict.budget),
    ]
    assert depth.looked_at(run, verdict) is run.probes[1]
    assert depth.way_at(run, verdict, run.probes[0]).total_decades != verdict.budget.total_decades
    verdict.optimizers = []
    assert depth.looked_at(run, verdict) is run.probes[0]  # with one optimizer the first at that step


def test_of_two_optimizers_that_step_after_one_backward_pass_each_has_its_own_way() -> None:
    run = run_of(probe(0, 4))
    verdict = verdict_on(run)
    mine, other = (Trained(name, 10, Loss(), index=k, trains=name) for k, name in enumerate(("front", "back")))
    mine.budget, other.budget = (
        verdict.budget,
        depth.way_at(run_of(probe(0, 4, gain=0.3)), verdict_on(run_of(probe(0, 4, gain=0.3))), probe(0, 4, gain=0.3)),
    )
    other.budget.step = 0
    verdict.optimizers = [mine, other]
    moment = Moment(run, verdict, depth.way_at, run.probes[0])
    one, two = view("r", moment).own
    assert (one.probe, one.way, two.probe, two.way) == (0, None, 0, 1)  # (the probe is the first one's)
    assert way(moment, 0).budget.total_decades == verdict.budget.total_decades
    assert way(moment, 0, 1).budget is other.budget
    assert op_seen(moment, 0, 2, 1).groups != op_seen(moment, 0, 2).groups
    with pytest.raises(UsageError, match="optimizer 2"):
        way(moment, 0, 2)
