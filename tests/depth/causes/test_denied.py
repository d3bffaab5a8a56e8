"""A verdict never states what its own record denies: each calm sentence is held against records that contradict it."""

import math
from pathlib import Path

import msgspec
import pytest

from gradientflow.depth.causes import judge
from gradientflow.records import Meta, Optimizer, Run, Step

FIXTURES = Path(__file__).parent / "fixtures"
FINITE = "proven: finite"


def healthy() -> Run:
    return msgspec.json.decode((FIXTURES / "healthy_mlp.json").read_bytes(), type=Run, strict=False)


def empty(**meta: object) -> Run:
    return Run(msgspec.structs.replace(Meta("train.py", [], "", "", "", ""), **meta))


def test_finite_is_said_of_what_was_seen_to_be() -> None:
    verdict = judge(healthy())
    assert verdict.symptom == "healthy" and FINITE in verdict.summary


@pytest.mark.parametrize("field", ["weight", "update"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_finite_is_not_said_where_a_weight_or_an_update_is_not(field: str, value: float) -> None:
    run = healthy()
    run.steps[-1] = msgspec.structs.replace(run.steps[-1], **{field: value})
    assert FINITE not in judge(run).summary


def test_finite_is_not_said_where_a_value_inside_is_not() -> None:
    run = healthy()
    run.probes[0].ops[0].value.inf = 1
    (told,) = [c for c in judge(run).certificates if c.name == "finite"]
    assert "1 intermediate values hold Inf or NaN" in told.why


def test_continuity_is_not_claimed_by_a_record_that_compared_nothing() -> None:
    run = healthy()
    state = {c.name: c.state for c in judge(run).certificates}
    run.meta.compared = 59
    assert (state["continuity"], {c.name: c.state for c in judge(run).certificates}["continuity"]) == (
        "not-measured",
        "held",
    )


def test_finite_is_not_said_where_nothing_was_read() -> None:
    run = healthy()
    run.steps = [msgspec.structs.replace(s, loss=None, grad=None, weight=None, update=None) for s in run.steps]
    assert FINITE not in judge(run).summary


def test_never_called_backward_is_said_only_then() -> None:
    assert "never called backward" in judge(empty()).summary
    assert "never called backward" not in judge(empty(backwards=3)).summary


def test_no_step_is_said_only_where_none_was_taken() -> None:
    assert "no optimizer took a step" in judge(empty(backwards=3)).summary
    for run in (
        empty(backwards=60, steps=60),
        empty(backwards=60, optimizers=[Optimizer(0, "SGD", {}, [], steps=60)]),
        Run(empty(backwards=60).meta, steps=[Step(1, 0.1, 0, 0.1, None, None, None, None)]),
    ):
        assert "no optimizer took a step" not in judge(run).summary
        assert "not in the record" in judge(run).summary


def test_the_compiler_is_blamed_only_where_there_was_one() -> None:
    step = Step(1, 0.1, 0, 0.1, 1.0, 1.0, 1.0, 0.1)
    assert "compile" not in judge(Run(empty(backwards=1, steps=1).meta, steps=[step])).summary
    assert "without torch.compile" in judge(Run(empty(backwards=1, steps=1, compiled=True).meta, steps=[step])).summary


@pytest.mark.parametrize("harm", ["operand", "root", "param", "cycle"])
def test_a_record_that_makes_no_sense_has_a_verdict_that_claims_nothing_of_it(harm: str) -> None:
    run = healthy()
    for probe in run.probes:
        if harm == "operand":
            probe.ops[3].operands[0].op = 10**6
        elif harm == "root":
            probe.root = -7
        elif harm == "param":
            next(o for op in probe.ops for o in op.operands if o.param is not None).param = 10**6
        else:
            probe.ops[1].operands[0].op = len(probe.ops) - 1
    verdict = judge(run)
    assert verdict.symptom in ("not-measured", "healthy")
    assert verdict.symptom == "healthy" or verdict.watch.errors
