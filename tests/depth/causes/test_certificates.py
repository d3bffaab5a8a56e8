"""Certificates by hand: held, broken and not measured, each with what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gradientflow.depth.causes import certificates, judge
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.continuity import continuity
from gradientflow.depth.causes.certificates.finite import finite
from gradientflow.depth.causes.certificates.step import step
from gradientflow.depth.causes.certificates.transmission import transmission
from gradientflow.depth.causes.way import step_budgets
from gradientflow.records import Buffers, Certificate, Finding, GroupStep, Run, Stage, Transit
from tests.depth.causes.by_hand import falling
from tests.depth.causes.transits import back, call, group, passed, seen, way

Check = Callable[[Case, list[Finding]], Certificate]


def of(check: Check, run: Run, *findings: Finding) -> Certificate:
    return check(Case(run), list(findings))


def finding(symptom: str, cause: str) -> Finding:
    return Finding(symptom, cause, 0.9, None, "told", {}, [])


@pytest.mark.parametrize(
    ("check", "symptom", "cause"),
    [(finite, "not-finite", "singular-op"), (transmission, "disconnected", "gradient-altered"),
     (transmission, "diverging", "missing-zero-grad"), (step, "crawling", "rounding"), (step, "crawling", "schedule-ended"),
     (continuity, "crawling", "weights-rewritten")],
)  # fmt: skip
def test_a_finding_of_its_kind_breaks_a_certificate_and_another_does_not(
    check: Check, symptom: str, cause: str
) -> None:
    run = seen([way(groups=[group()])] * 2)
    assert of(check, run, finding(symptom, cause)).state == "broken"
    assert of(check, run, finding("vanishing", "depth-without-skip")).state == "held"


# ── finite ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_finite() -> None:
    assert of(finite, seen([])).state == "held"
    assert of(finite, seen([], losses=())).state == "not-measured"
    for column in ("loss", "grad", "weight", "update"):
        run = seen([])
        setattr(run.steps[20], column, math.inf)
        found = of(finite, run)
        assert (found.state, found.numbers) == ("broken", {"step": 21}), column


def test_finite_of_buffers() -> None:
    run = seen([])
    run.probes[0].buffers = Buffers(3, [])
    assert "all of 3 buffers" in of(finite, run).why
    run.probes[0].buffers = Buffers(3, ["norm.running_var"])
    assert (of(finite, run).state, of(finite, run).why) == ("broken", "the buffer norm.running_var is not finite")


# ── transmission ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_transmission() -> None:
    assert of(transmission, seen([])).state == "not-measured"
    found = of(transmission, seen([way()] * 3))
    assert found.state == "held"
    assert "is the one the optimizer found" in found.why
    changed = of(transmission, seen([way(0.25, call("clip_grad_norm_", 0.25))] * 3))
    assert "changed only by clip_grad_norm_ (train.py:7) ×0.25" in changed.why
    assert "counts twice" in of(transmission, seen([Transit([passed()], again=1)])).why


def test_transmission_that_was_not_measured_says_why_and_one_is_not_many() -> None:
    assert "had its backward call ahead" in of(transmission, seen([])).why
    for delivered, why in ((math.nan, "is not finite"), (0.0, "is zero")):
        dead = of(transmission, seen([Transit([passed(1.0, delivered)])] * 2))
        assert (dead.state, dead.why) == ("not-measured", f"the gradient of every probed step {why}")
    some = of(transmission, seen([Transit([passed(1.0, math.nan), passed(param=1)])]))
    assert some.why == "on no probed step was the whole gradient finite"
    assert of(transmission, seen([way()])).why.startswith("on 1 probed step, for 1 parameter the")
    assert of(transmission, seen([way()] * 2)).why.startswith("on 2 probed steps, for 1 parameter the")


# ── step ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_step() -> None:
    assert of(step, seen([])).state == "not-measured"
    found = of(step, seen([way(groups=[group(lost=0.25, eps_rules=0.5)])] * 2))
    assert found.state == "held"
    assert "25.0% of the updates were lost" in found.why
    assert "eps rules up to 50%" in found.why
    boxed = of(step, seen([way(groups=[group(unexplained=None, boxed=True)])]))
    assert (boxed.state, boxed.why) == ("not-measured", "the rule of SGD is not known: one box")
    still = of(step, seen([way(groups=[group(unexplained=None)])]))
    assert (still.state, still.why) == ("not-measured", "no weight was to move on a probed step")
    lost = [Stage("gradient", math.nan), Stage("rounding", math.nan)]
    bad = of(step, seen([way(groups=[group(unexplained=None, stages=lost)])]))
    assert (bad.state, bad.why) == ("not-measured", "the gradient of every probed step is not finite")


# ── continuity ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_continuity() -> None:
    assert of(continuity, seen([])).state == "held"
    assert of(continuity, seen([], losses=(1.0,))).state == "not-measured"
    assert of(continuity, seen([], optimizer=None)).why == "no optimizer stepped"
    told = of(continuity, seen([], [back(5, 0.25), back(9, 0.25)]))
    assert told.state == "held"
    assert "2 rewrites between steps (the first ahead of step 5, taking back 0.25 of the step before)" in told.why


# ── all together ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_certificate_is_issued_in_order_and_one_that_fails_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = seen([way(groups=[group()])], losses=falling(1.0, 0.1))
    names = ["finite", "transmission", "step", "continuity", "descent", "isolation", "terms"]
    assert [c.name for c in judge(run).certificates] == names

    def fails(case: Case, findings: object) -> Certificate:
        raise RuntimeError("no")

    errors: list[str] = []
    monkeypatch.setattr(certificates, "CHECKS", (fails,))
    (failed,) = certificates.issue(Case(run), [], errors)
    assert (failed.name, failed.state) == ("fails", "not-measured")
    assert errors == ["certificate fails failed: RuntimeError: no"]


# ── the second budget ────────────────────────────────────────────────────────────────────────────────────────────────


def stages(*norms: float) -> GroupStep:
    names = ["gradient", "between", "momentum", "learning rate", "rounding"]
    return group(stages=[Stage(n, x) for n, x in zip(names, norms, strict=False)])


def test_the_parts_of_the_second_budget_add_up() -> None:
    (one,) = step_budgets(Case(seen([way(groups=[stages(2.0, 0.2, 1.0, 0.001, 0.0005)])])))
    assert (one.optimizer, one.group, one.step, one.gradient, one.update) == ("SGD", 0, 1, 2.0, 0.0005)
    assert [f.name for f in one.stages] == ["between", "momentum", "learning rate", "rounding"]
    assert [f.factor for f in one.stages] == pytest.approx([0.1, 5.0, 0.001, 0.5])
    assert sum(f.decades or math.nan for f in one.stages) == pytest.approx(one.total_decades)
    assert one.total_decades == pytest.approx(math.log10(0.0005 / 2))


def test_a_stage_that_takes_all_has_a_factor_and_no_decades() -> None:
    (one,) = step_budgets(Case(seen([way(groups=[stages(2.0, 0.0, 0.0)])])))
    assert [(f.factor, f.decades) for f in one.stages] == [(0.0, None), (None, None)]
    assert one.total_decades is None
    (odd,) = step_budgets(Case(seen([way(groups=[stages(2.0, math.nan, 1.0)])])))
    assert [(f.factor, f.decades) for f in odd.stages] == [(None, None), (None, None)]
