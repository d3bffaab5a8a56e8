"""Updates that are not what the optimizer's rule says: broken where the record shows it, held for a constraint, and how the loss took it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gradientflow.depth.causes.beside import beside
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.step import step
from gradientflow.depth.causes.verdict import judge
from gradientflow.records import Certificate, Foreign, Run
from tests.depth.causes.by_hand import falling, flips, only, progressed
from tests.depth.causes.transits import group, seen, way

LINE = {"name": "mul_", "file": "train.py", "line": 12}


def made(parts: Sequence[float], shape: str = "", line: dict[str, Any] | None = None, **more: Any) -> Run:
    """A run with a probed step for each part that the rule does not explain."""
    groups = [
        group(unexplained=part, apart=part, foreign=Foreign(part, [0], shape, **(line or {}) if k else {}) if part else None)
        for k, part in enumerate(parts)
    ]  # fmt: skip
    return seen([way(groups=[g]) for g in groups], **({"losses": falling(1.0, 0.05)} | more))


def certificate(run: Run) -> Certificate:
    case = Case(run)
    return step(case, beside(case))


def test_it_is_told_with_share_parameter_step_and_line() -> None:
    run = made([0.02, 0.3], line=LINE)
    found = only(beside(Case(run)))
    assert (found.cause, found.place and found.place.line) == ("step-altered", 12)
    told = certificate(run)
    assert told.state == "broken"
    assert "at step 2 mul_ (train.py:12) moves m0.weight within the step by 0.3 of the update" in told.why
    assert (told.numbers["step"], told.numbers["unexplained"], told.numbers["names"]) == (2, 0.3, ["m0.weight"])


def test_without_a_line_it_is_where_the_optimizer_was_made() -> None:
    found = only(beside(Case(made([0.3, 0.3]))))
    assert found.place is not None and found.place.line == 5 and "something else moves" in found.summary


def test_a_run_with_it_is_not_healthy() -> None:
    assert judge(made([0.3, 0.3])).symptom == "disconnected"
    assert judge(made([0.0, 0.0])).symptom == "healthy"


def test_a_part_beyond_rounding() -> None:
    flips(lambda part: beside(Case(made([part, part]))) != [], 0.0098, 0.0102)
    assert certificate(made([0.0098, 0.0098])).state == "held"
    assert certificate(made([0.0102, 0.0102])).state == "broken"


def test_once_is_an_accident_where_more_was_looked_at() -> None:
    assert beside(Case(made([0.3, 0.0, 0.0]))) == []
    assert certificate(made([0.3, 0.0, 0.0])).state == "held" and "once" in certificate(made([0.3, 0.0, 0.0])).why
    assert beside(Case(made([0.3, 0.0, 0.3]))) != []
    assert beside(Case(made([0.3]))) != []


@pytest.mark.parametrize("shape", ["clamped", "zeroed", "kept", "rescaled", "decayed", "constrained", "noised"])
def test_a_constraint_breaks_nothing_and_is_said(shape: str) -> None:
    told = certificate(made([0.9, 0.9], shape, LINE))
    assert told.state == "held" and "(train.py:12)" in told.why and told.numbers["shape"] == shape


def test_noise_that_drowns_the_steps_of_a_loss_that_stands_still_is_to_blame() -> None:
    def told(part: float, progress: float = 0.0) -> bool:
        return beside(Case(made([part, part], "noised", losses=progressed(progress)))) != []

    flips(told, 0.49, 0.51)
    assert not told(9.0, progress=0.5)


def test_memory_that_others_write_to_is_not_measured() -> None:
    assert certificate(made([0.9, 0.9], "shared")).state == "not-measured"


def test_a_constraint_that_undoes_the_steps_of_a_loss_that_stands_still_is_to_blame() -> None:
    def told(part: float, progress: float = 0.0) -> bool:
        return beside(Case(made([part, part], "clamped", losses=progressed(progress)))) != []

    flips(told, 0.49, 0.51)
    assert not told(0.51, progress=0.5)
    assert beside(Case(made([0.9, 0.9], "shared", losses=[1.0] * 60))) == []
    several = made([0.9, 0.9], "clamped", losses=[1.0] * 60, optimizers=2)
    assert beside(Case(several)) == []


@pytest.mark.parametrize(
    ("losses", "symptom"),
    [
        ([1.0] * 60, "crawling"),
        ([1.0 + 0.1 * k for k in range(60)], "diverging"),
        ([1.0] * 5 + [9.0] * 5 + [0.1] * 50, "oscillating"),
        (falling(1.0, 0.05), "disconnected"),
    ],
)
def test_the_symptom_is_what_the_loss_does(losses: list[float], symptom: str) -> None:
    assert only(beside(Case(made([0.3, 0.3], losses=losses)))).symptom == symptom


def test_a_loss_that_learns_is_not_called_crawling() -> None:
    flips(lambda p: only(beside(Case(made([0.3, 0.3], losses=progressed(p))))).symptom == "disconnected", 0.29, 0.31)


def test_what_rounding_explains_is_not_measured() -> None:
    def blurred(part: float) -> Certificate:
        return certificate(seen([way(groups=[group(apart=part)])], losses=falling(1.0, 0.05)))

    assert blurred(0.098).state == "held"
    assert blurred(0.102).state == "not-measured" and "rounding" in blurred(0.102).why


def test_an_optimizer_that_is_not_known_is_one_box() -> None:
    told = certificate(seen([way(groups=[group(unexplained=None, boxed=True)])], losses=falling(1.0, 0.05)))
    assert told.state == "not-measured" and "one box" in told.why
