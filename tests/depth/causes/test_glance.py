"""The verdict on one look, from records built by hand: what lasts is confirmed or taken back, and a cut is told."""

from __future__ import annotations

from typing import Any

import pytest

from gradientflow.depth.causes import Later, settle
from gradientflow.depth.causes.cut import cut_off
from gradientflow.records import (
    Budget,
    Finding,
    GradStat,
    Loss,
    Meta,
    Op,
    Operand,
    Param,
    ParamState,
    Probe,
    Run,
    Share,
    Step,
    ValueStat,
    Verdict,
    Watch,
)

VALUE = ValueStat([4, 3], "float32", 0.0, 1.0, -1.0, 1.0, 0.0, 0, 0)
GRAD = GradStat(1.0, 0.1, 0.5, 0.0, 0, 0)


def op(index: int, name: str, *operands: Operand, line: int = 1, value: ValueStat = VALUE) -> Op:
    return Op(index, name, "matmul", "net.py", line, "forward", None, None, list(operands), value, GRAD)


def param(index: int, name: str, requires_grad: bool = True) -> Param:
    return Param(index, name, [3, 4], "float32", requires_grad, True)


def state(index: int, grad: GradStat | None = GRAD, alike: float | None = 0.1) -> ParamState:
    return ParamState(index, 1.0, 0.0, 0.5, 1.0, alike, 0, grad)


def look(cut: bool = False, **more: Any) -> Run:
    """Two layers: the encoder at line 1, the head at line 2; between them a cut, or none."""
    encoder = op(0, "linear", Operand(param=0))
    head = op(1, "linear", Operand(op=None if cut else 0), Operand(param=1), line=2)
    loss = op(2, "cross_entropy", Operand(op=1), line=3)
    meta = Meta("net", [], "", "", "", "", [param(0, "encoder.weight"), param(1, "head.weight")], unit="backward")
    states = [state(0, None if cut else GRAD), state(1)]
    probe = Probe(1, 0.0, "first", 1.0, 2, [encoder, head, loss], states)
    step = Step(1, 0.0, 0, None, 1.0, 1.0, 1.0, None)
    run = Run(meta, [step], [], [probe])
    for name, value in more.items():
        setattr(probe, name, value)
    return run


def verdict(*findings: Finding) -> Verdict:
    return Verdict(
        "net", 1, Loss(1.0, 1.0), findings[0].symptom if findings else "healthy", list(findings), Budget(), Watch()
    )


def lasting(symptom: str, cause: str) -> Finding:
    return Finding(symptom, cause, 0.9, None, f"it is {symptom}", {}, [])


def never() -> Later | None:
    raise AssertionError("nothing that needs a second look was found")


# ── claims about time ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_lasts_is_taken_back_where_a_copy_wakes_up() -> None:
    found = verdict(lasting("dead", "dead-units"))
    found.budget.by_op = [
        Share("relu", "relu", 0.0, 1.0, mark="dead"),
        Share("tanh", "tanh", 0.0, 1.0, mark="vanishing"),
    ]
    settle(found, look(), lambda: Later(look(), {}))
    assert found.findings == [] and found.symptom == "healthy"
    assert [row.mark for row in found.budget.by_op] == [None, "vanishing"]


def test_what_lasts_has_less_confidence_where_no_second_look_is_possible() -> None:
    found = verdict(lasting("dead", "dead-units"))
    settle(found, look(), lambda: None)
    (finding,) = found.findings
    assert finding.confidence == pytest.approx(0.63) and finding.evidence["looked_at_again"] is False


def test_equal_units_stay_a_finding_only_while_their_gradients_are_equal() -> None:
    run = look()
    run.probes[0].params[0].alike = 1.0
    for alike, stays in ((1.0, True), (0.5, False)):
        found = verdict(lasting("crawling", "symmetric-init"))
        settle(found, run, lambda alike=alike: Later(look(), {"encoder.weight": alike}))  # type: ignore[misc]
        assert bool(found.findings) is stays
        if stays:
            assert found.findings[0].evidence["still_there_after_steps"] == 1


def test_what_is_no_claim_about_time_needs_no_second_look() -> None:
    found = verdict(lasting("vanishing", "saturating-activation"))
    settle(found, look(), never)
    assert found.symptom == "vanishing"


# ── cuts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cut_is_told_at_the_last_operation_before_it() -> None:
    found = cut_off(look(cut=True))
    assert found is not None and found.place is not None
    assert (found.symptom, found.place.line, found.evidence["names"]) == ("disconnected", 1, ["encoder.weight"])
    assert found.evidence["share_of_entries"] == 0.5
    assert cut_off(look()) is None


def test_a_spare_head_is_no_cut() -> None:
    run = look()
    run.meta.params.append(param(2, "spare.weight"))
    assert cut_off(run) is None


def test_what_is_frozen_is_no_cut_but_for_the_whole_of_it() -> None:
    run = look(cut=True)
    run.meta.params[0].requires_grad = False
    assert cut_off(run) is None
    run.meta.params[1].requires_grad = False
    found = cut_off(run)
    assert found is not None and "All 2 parameters are frozen" in found.summary


def test_where_nothing_gets_a_gradient_that_comes_first() -> None:
    run = look(cut=True)
    run.probes[0].params[1].grad = None
    found = verdict(lasting("vanishing", "saturating-activation"))
    settle(found, run, never)
    assert [f.symptom for f in found.findings] == ["disconnected", "vanishing"] == [found.symptom, "vanishing"]
    some = verdict(lasting("vanishing", "saturating-activation"))
    settle(some, look(cut=True), never)
    assert [f.symptom for f in some.findings] == ["vanishing", "disconnected"]


def test_use_without_gradients_is_told_as_such() -> None:
    run = look(cut=True, ops=[], root=None, params=[], without_grad=[0, 1])
    found = cut_off(run)
    assert found is not None and "no_grad" in found.summary


# ── what is said of a healthy look ───────────────────────────────────────────────────────────────────────────────────


def test_a_healthy_look_says_what_it_did_not_see() -> None:
    found = verdict()
    settle(found, look(), never)
    assert found.symptom == "healthy"
    assert "all values are finite" in found.summary and "Not looked at" in found.summary


def test_values_that_are_not_finite_are_not_called_finite() -> None:
    run = look()
    masked = op(1, "masked_fill", Operand(op=0), line=2)
    masked.value = ValueStat([4, 3], "float32", 0.0, 1.0, -1.0, 1.0, 0.0, 0, 3)
    run.probes[0].ops[1] = masked
    found = verdict()
    settle(found, run, never)
    assert "all values are finite" not in found.summary and "masked_fill" in found.summary


@pytest.mark.parametrize("change", [{"nonfinite": 1}, {"loss": float("nan")}])
def test_a_step_that_is_not_finite_is_no_healthy_look(change: dict[str, Any]) -> None:
    run = look()
    for name, value in change.items():
        setattr(run.steps[0], name, value)
    found = verdict()
    settle(found, run, never)
    assert found.symptom == "not-finite"


def test_nothing_seen_is_not_called_healthy() -> None:
    run, found = look(), verdict()
    run.steps, found.symptom, found.summary = [], "not-measured", "nothing"
    settle(found, run, never)
    assert (found.symptom, found.summary) == ("not-measured", "nothing")
