"""The plan of what to try, dry: records built by hand, no torch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import pytest

from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.remedies.planner import named
from gradientflow.depth.remedies.table import TABLE
from gradientflow.depth.remedies.wiring.plan import cuts
from gradientflow.depth.replay import candidates as plan
from gradientflow.records import (
    Budget,
    Change,
    Finding,
    GradStat,
    Loss,
    Meta,
    Op,
    Operand,
    Optimizer,
    Param,
    ParamState,
    Place,
    Probe,
    Run,
    Sharpness,
    Step,
    ValueStat,
    Verdict,
    Watch,
)

KINDS = {"linear": "linear", "sigmoid": "activation", "relu": "activation", "tanh": "activation", "mse_loss": "loss", "sub": "elementwise",
         "pow": "singular", "mean": "reduce", "abs": "elementwise", "softmax": "softmax", "cross_entropy": "loss", "log": "singular",
         "binary_cross_entropy": "loss", "batch_norm": "norm", "nll_loss": "loss", "div": "singular", "sqrt": "singular"}  # fmt: skip


def value(width: int, std: float = 1.0) -> ValueStat:
    return ValueStat([8, width], "float32", 0.0, std, -2.0, 2.0, 0.0, 0, 0)


def chain(*steps: tuple[str, int], lr: float = 0.1, grads: float = 1.0, entering: float = 1.0) -> Run:
    """A run of one probe: (operation, width) one after another, each on its own line; data of width 4 enters the first."""
    ops: list[Op] = []
    params: list[Param] = []
    states: list[ParamState] = []
    width = 4
    for index, (name, wide) in enumerate(steps):
        operands = [Operand(op=index - 1)] if index else [Operand(value=value(4, entering))]
        if name == "linear":
            operands.append(Operand(param=len(params)))
            params.append(Param(len(params), f"w{index}", [wide, width], "float32", True, True, 0, in_graph=True))
            states.append(ParamState(len(states), math.sqrt(wide), 0.0, 1.0, 1.0, 0.0, 0, None))
        if name in ("sub", "mse_loss", "binary_cross_entropy"):
            operands.append(Operand(value=value(wide, 500.0)))
        for o in operands:
            o.grad = GradStat(1.0, 1.0, 1.0, 0.0, 0, 0)
        grad = GradStat(1.0, 1.0, 1.0, 0.0, 0, 0)
        line = 100 + index
        ops.append(Op(index, name, KINDS[name], "net.py", line, "forward", None, None, operands, value(wide), grad))
        width = wide
    optimizer = Optimizer(0, "SGD", {"lr": lr}, list(range(len(params))), "net.py", 9, "net.py", 5, steps=40)
    meta = Meta("net.py", ["net.py"], ".", "", "", "", params=params, optimizers=[optimizer], steps=40)
    steps_seen = [Step(n, 0.0, 0, lr, 1.0, grads * (1 + n), 1.0, 0.1) for n in range(1, 41)]
    return Run(meta, steps_seen, [], [Probe(1, 0.0, "first", 1.0, len(ops) - 1, ops, states, optimizer=0, batch=8)])


def finding(symptom: str, cause: str, *kinds: str, line: int = 5, op: str | None = None, **evidence: Any) -> Finding:
    return Finding(symptom, cause, 0.9, Place("net.py", line, None, op), "", evidence, remedies(*kinds))


def verdict(*findings: Finding) -> Verdict:
    return Verdict(
        "net.py", 40, Loss(1.0, 1.0), findings[0].symptom if findings else "healthy", list(findings), Budget(), Watch()
    )


def first(run: Run, found: Finding) -> Change:
    return plan.candidates(run, verdict(found))[0][1]


MLP = (("linear", 16), ("sigmoid", 16), ("linear", 16), ("sigmoid", 16), ("linear", 1), ("sigmoid", 1), ("mse_loss", 1))


def lines(change: Change) -> list[int | None]:
    return sorted(p.line or 0 for p in change.places)


def test_activations_of_the_body_are_swapped_and_that_on_the_output_is_not() -> None:
    found = finding("vanishing", "saturating-activation", "swap-activation", line=101, op="sigmoid")
    changes = [c for _, c in plan.candidates(chain(*MLP), verdict(found))]
    assert [(c.kind, c.settings["to"]) for c in changes] == [("swap-activation", "relu"), ("swap-activation", "tanh")]
    assert lines(changes[0]) == [101, 103]
    assert changes[0].text == "relu instead of sigmoid at net.py:103, net.py:101"
    head = finding("vanishing", "saturating-activation", "swap-activation", line=105, op="sigmoid")
    assert 105 in lines(first(chain(*MLP), head))  # (unless the finding itself is there)


@pytest.mark.parametrize(("name", "gain"), [("relu", math.sqrt(2)), ("tanh", 5 / 3), ("sigmoid", 1.0)])
def test_the_gain_is_that_of_the_activation(name: str, gain: float) -> None:
    layers = tuple((name if op == "sigmoid" else op, w) for op, w in MLP)
    change = first(chain(*layers), finding("vanishing", "init-too-small", "rescale-init", line=100))
    assert change.settings["gain"] == pytest.approx(gain, rel=1e-3)
    assert 100 in lines(change) and 102 in lines(change)
    assert not any(p.op != "linear" for p in change.places)


def test_dead_units_get_their_biases_reset_and_norms_too() -> None:
    layers = (
        ("linear", 16),
        ("batch_norm", 16),
        ("relu", 16),
        ("linear", 16),
        ("batch_norm", 16),
        ("relu", 16),
        ("linear", 1),
        ("mse_loss", 1),
    )
    change = first(chain(*layers), finding("dead", "dead-units", "rescale-init", line=105, op="relu"))
    assert change.settings["bias"] == 0.0
    assert {101, 104} <= set(lines(change))
    alive = first(chain(*layers), finding("vanishing", "init-too-small", "rescale-init", line=100))
    assert "bias" not in alive.settings and 101 not in lines(alive)


def test_a_measured_sharpness_gives_the_step() -> None:
    found = finding("diverging", "step-too-large", "lower-step", learning_rate=0.1, stable_below=0.02)
    assert [c.settings["factor"] for _, c in plan.candidates(chain(*MLP), verdict(found))] == pytest.approx([0.1, 0.01])
    far = finding("diverging", "step-too-large", "lower-step", learning_rate=0.1, stable_below=1e-4)
    assert [c.settings["factor"] for _, c in plan.candidates(chain(*MLP), verdict(far))] == pytest.approx([5e-4, 0.1])
    blind = finding("diverging", "step-too-large", "lower-step", learning_rate=0.1)
    assert [c.settings["factor"] for _, c in plan.candidates(chain(*MLP), verdict(blind))] == [0.1, 0.01]
    above = finding(
        "diverging", "step-too-large", "lower-step", learning_rate=0.1, stable_below=0.5
    )  # no reason to lower it so
    assert first(chain(*MLP), above).settings["factor"] == 0.1


def test_the_sharpness_of_a_blow_up_is_not_what_the_step_is_made_for() -> None:
    found = finding("diverging", "step-too-large", "lower-step", learning_rate=0.1, stable_below=1e-18)
    run = chain(*MLP)
    later = msgspec.convert(msgspec.to_builtins(run.probes[0]), Probe)
    run.probes[0].sharpness = Sharpness(200.0, 1.0, 0.0, 5)
    later.step, later.loss, later.sharpness = 2, 1e9, Sharpness(2e18, 1.0, 0.0, 5)
    run.probes.append(later)
    assert first(run, found).settings["factor"] == pytest.approx(0.5 * (2 / 200.0) / 0.1)
    run.probes[0].batch = 1  # one sample's sharpness is not that of the others
    assert first(run, found).settings["factor"] == pytest.approx(0.1 * 0.5 * (2 / 200.0) / 0.1)
    run.probes[0].batch = 8
    run.meta.optimizers[0].name = "Adam"
    assert first(run, found).settings["factor"] == 0.1
    run.meta.optimizers[0].name = "SGD"
    later.loss = 1.5  # as sharp, but the loss had not risen: then it counts
    assert first(run, found).settings["factor"] == pytest.approx(0.5 * (2 / 2e18) / 0.1)


def test_a_schedule_that_lets_the_step_fall_is_held() -> None:
    run = chain(*MLP)
    assert first(run, finding("crawling", "step-too-small", "raise-step")).settings == {"factor": 10.0}
    for n, step in enumerate(run.steps):
        step.lr = 0.1 * 0.5**n
    assert first(run, finding("crawling", "step-too-small", "raise-step")).settings == {"least": 0.1}


def test_clipping_is_at_the_usual_norm_or_at_one() -> None:
    small = chain(*MLP, grads=0.01)  # 0.02 to 0.41, half of them below 0.215
    clipped = finding("exploding", "bad-batch", "clip-gradient")
    assert first(small, clipped).settings["max_norm"] == pytest.approx(0.215, abs=0.01)
    assert first(chain(*MLP, grads=100.0), clipped).settings["max_norm"] == 1.0


def test_the_best_supported_come_first_and_others_are_heard() -> None:
    top = finding("diverging", "step-too-large", "lower-step", "warmup", "clip-gradient", learning_rate=0.1)
    other = finding("crawling", "unscaled-input", "scale-input", "lower-step")
    told = plan.candidates(chain(*MLP, entering=100.0), verdict(top, other))
    assert [(i, c.kind) for i, c in told] == [(0, "lower-step"), (0, "warmup"), (1, "scale-input"), (0, "lower-step")]
    alone = plan.candidates(chain(*MLP), verdict(top), most=9)
    assert [c.kind for _, c in alone] == ["lower-step", "warmup", "lower-step", "clip-gradient"]
    assert len(plan.candidates(chain(*MLP), verdict(top), most=2)) == 2


def test_a_healthy_run_has_nothing_to_try() -> None:
    assert plan.candidates(chain(*MLP), verdict()) == []
    assert plan.untried(chain(*MLP), verdict()) == []


def test_what_cannot_be_tried_is_said() -> None:
    found = finding("vanishing", "recurrence", "gated-cell", "add-skip", "swap-activation", line=100, op="linear")
    narrowing = chain(("linear", 16), ("sigmoid", 16), ("linear", 8), ("sigmoid", 8), ("linear", 1), ("mse_loss", 1))
    said = {kind: why for _, kind, why in plan.untried(narrowing, verdict(found))}
    assert "edit of the model" in said["gated-cell"]
    assert "no block" in said["add-skip"]
    assert "swap-activation" not in said
    assert all(c.kind not in said for _, c in plan.candidates(narrowing, verdict(found), most=9))
    run = chain(*MLP)
    run.meta.optimizers = []
    for step in run.steps:
        step.optimizer = 0
    by_hand = finding("diverging", "step-too-large", "lower-step")
    assert plan.candidates(run, verdict(by_hand)) == []
    assert "by hand" in plan.untried(run, verdict(by_hand))[0][2]


def test_a_plan_that_fails_takes_no_other_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(planner: Any, found: Any) -> list[Change]:
        raise KeyError("w")

    monkeypatch.setitem(TABLE, "lower-step", dataclasses.replace(TABLE["lower-step"], plan=broken))
    top = finding("diverging", "step-too-large", "lower-step", "warmup", learning_rate=0.1)
    assert [c.kind for _, c in plan.candidates(chain(*MLP), verdict(top))] == ["warmup"]
    assert plan.untried(chain(*MLP), verdict(top)) == [(0, "lower-step", "planning it failed: KeyError: 'w'")]


def test_a_skip_goes_around_blocks_that_are_as_wide_out_as_in() -> None:
    found = finding("vanishing", "depth-without-skip", "add-skip", line=100)
    layers = (
        ("linear", 16),
        *(("linear", 16), ("relu", 16)) * 4,
        ("linear", 8),
        ("relu", 8),
        ("linear", 1),
        ("mse_loss", 1),
    )
    change = first(chain(*layers), found)
    assert lines(change) == [102, 104, 106, 108]
    assert change.settings["scale"] == 0.5


@pytest.mark.parametrize(
    ("after", "op", "to"),
    [
        ((("softmax", 3), ("cross_entropy", 1)), "softmax", "identity"),
        ((("softmax", 3), ("nll_loss", 1)), "softmax", "log_softmax"),
        ((("softmax", 1), ("mse_loss", 1)), "softmax", "sigmoid"),
        ((("sigmoid", 1), ("binary_cross_entropy", 1)), "sigmoid", "identity"),
        ((("sigmoid", 1), ("mse_loss", 1)), "sigmoid", "identity"),
        ((("relu", 3), ("log", 3), ("mean", 1)), "relu", "softplus"),
    ],
)  # fmt: skip
def test_the_output_is_what_the_loss_wants(after: tuple[tuple[str, int], ...], op: str, to: str) -> None:
    run = chain(("linear", 8), ("relu", 8), ("linear", after[0][1]), *after)
    change = first(run, finding("crawling", "output-activation", "fix-output", line=103, op=op))
    assert change.settings == {"to": to}
    assert change.places == [Place("net.py", 103, None, op)]


@pytest.mark.parametrize(
    ("loss", "power", "line"),
    [
        ((("mse_loss", 1),), 2.0, 103),
        ((("sub", 1), ("pow", 1), ("mean", 1)), 2.0, 103),
        ((("sub", 1), ("abs", 1), ("mean", 1)), 1.0, 103),
        ((("sub", 1), ("pow", 1), ("mean", 1), ("sqrt", 1)), 1.0, 103),
    ],
)
def test_targets_are_scaled_where_they_are_compared(loss: tuple[tuple[str, int], ...], power: float, line: int) -> None:
    run = chain(("linear", 8), ("relu", 8), ("linear", 1), *loss)
    change = first(run, finding("crawling", "unscaled-target", "scale-target"))
    assert (change.settings["power"], lines(change)) == (power, [line])
    without = chain(("linear", 8), ("relu", 8), ("linear", 3), ("cross_entropy", 1))
    assert plan.candidates(without, verdict(finding("crawling", "unscaled-target", "scale-target"))) == []


def test_inputs_are_scaled_where_they_enter() -> None:
    change = first(chain(*MLP, entering=300.0), finding("diverging", "unscaled-input", "scale-input"))
    assert change.places == [Place("net.py", 100, None, "linear")]


def test_the_operand_is_kept_from_the_point_by_its_size() -> None:
    found = finding("not-finite", "singular-op", "clamp-op", line=101, op="sqrt", operand_max=50.0)
    change = first(chain(("linear", 4), ("sqrt", 4), ("linear", 1), ("mse_loss", 1)), found)
    assert change.settings == {"eps": pytest.approx(5e-5)}
    data = finding("not-finite", "bad-batch", "clamp-op", line=101, op="data")
    assert plan.candidates(chain(*MLP), verdict(data)) == []


def test_a_sign_is_turned_in_the_objective_or_where_the_updates_climb_it_in_the_gradient() -> None:
    bottomless = finding("diverging", "wrong-sign", "flip-sign", times_start=60.0)
    climbing = finding("diverging", "wrong-sign", "flip-sign", cosine_with_descent=-1.0)
    assert first(chain(*MLP), bottomless).settings == {}
    assert first(chain(*MLP), climbing).settings == {"gradient": True}


def test_cuts_are_read_off_the_source() -> None:
    text = (
        "a = x.detach()\nb = x.detach().cpu()\nc = w.data\nw.data = c\nwith torch.no_grad():\n    pass\nd = x.item()\n"
    )
    assert [(p.line, p.op) for p in cuts("net.py", text)] == [(1, "detach"), (3, "data"), (5, "set_grad_enabled")]
    assert cuts("net.py", "def broken(:") == []
    run = chain(*MLP)
    run.meta.sources = {"net.py": text}
    cut = finding("disconnected", "disconnected-parameters", "reconnect", without_gradient=2)
    assert lines(first(run, cut)) == [1, 3]
    run.probes[0].without_grad = [0]
    assert lines(first(run, cut)) == [5]
    orphans = finding("disconnected", "disconnected-parameters", "reconnect", without_optimizer=2)
    assert first(run, orphans).places == []


def unrolled(steps: int = 6) -> Run:
    """A run of one weight used again and again on its own output, with tanh in between."""
    run = chain(("linear", 4), *(("linear", 4), ("tanh", 4)) * steps, ("linear", 1), ("mse_loss", 1))
    for op in run.probes[0].ops[1 : 1 + 2 * steps]:
        op.line = 201 if op.name == "linear" else 202
        for o in op.operands:
            if o.param is not None:
                o.param = 1
    run.probes[0].params[1].norm = 2.0  # ‖W‖_F/√n = 1
    return run


@pytest.mark.parametrize(("measured", "gain"), [(0.8, 1.25), (0.99, 1.01), (0.01, 1.5), (1.3, 1.0)])
def test_a_recurrent_weight_makes_up_for_what_its_activation_takes(measured: float, gain: float) -> None:
    found = finding(
        "vanishing", "recurrence", "orthogonal-recurrence", line=201, op="linear", gain_per_time_step=measured
    )
    change = first(unrolled(), found)
    assert change.settings == {"gain": pytest.approx(gain, abs=2e-3), "shape": [4.0, 4.0]}
    assert change.places == [Place("net.py", 201, None, "linear")]
    found.symptom = "exploding"
    assert first(unrolled(), found).settings["gain"] == 1.0


def test_lines_are_named_in_words() -> None:
    places = [Place("a.py", n) for n in range(1, 6)]
    assert named(places) == "a.py:1, a.py:2 and 3 more lines"
    assert named(places[:1]) == "a.py:1"
