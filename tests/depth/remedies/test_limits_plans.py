"""The limits of the plans, each from both sides: dry, on records made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gradientflow.depth.remedies.data import plan as data
from gradientflow.depth.remedies.operands import plan as operands
from gradientflow.depth.remedies.planner import Planner
from gradientflow.depth.remedies.steps import plan as steps
from gradientflow.depth.remedies.weights import plan as weights
from gradientflow.records import Change, Finding, Run, Sharpness
from tests.depth.causes.by_hand import flips, turns
from tests.depth.replay.test_plan import MLP, chain, finding, unrolled, value, verdict

Plan = Callable[[Planner, Finding], list[Change]]


def made(plan: Plan, run: Run, found: Finding) -> list[Change]:
    """The changes of a plan; they can be written down."""
    changes = plan(Planner(run, verdict(found)), found)
    assert msgspec.json.encode(changes)
    return changes


def settings(
    plan: Plan, run: Run, symptom: str = "diverging", cause: str = "step-too-large", **evidence: Any
) -> dict[str, Any]:
    return made(plan, run, finding(symptom, cause, **evidence))[0].settings


# ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def lowered(stable: float, form: int = 0) -> float:
    found = finding("diverging", "step-too-large", learning_rate=0.1, stable_below=stable)
    return float(made(steps.lower_step, chain(*MLP), found)[form].settings["factor"])  # type: ignore[arg-type]


def test_half_the_stable_step() -> None:
    assert lowered(0.02) == pytest.approx(0.1) and lowered(0.04) == pytest.approx(0.2)
    flips(lambda stable: lowered(stable) == 0.1, 0.19, 0.21)  # half of it is not below 0.1


def test_a_second_form_that_would_stand_still_is_a_tenth() -> None:
    flips(lambda stable: lowered(stable, 1) != 0.1, 0.0058, 0.0062)


def test_samples_whose_sharpness_is_that_of_the_data() -> None:
    def factor(samples: float) -> float:
        run = chain(*MLP)
        run.probes[0].sharpness, run.probes[0].batch = Sharpness(200.0, 1.0, 0.0, 5), int(samples)
        return float(settings(steps.lower_step, run, learning_rate=0.1)["factor"])

    turns(factor, 7, 8, (pytest.approx(0.005), pytest.approx(0.05)))


def test_the_sharpness_counts_until_the_loss_has_risen() -> None:
    def blown_up(loss: float) -> bool:
        run = chain(*MLP)
        run.probes[0].sharpness = Sharpness(200.0, 1.0, 0.0, 5)
        later = msgspec.structs.replace(run.probes[0], step=2, loss=loss, sharpness=Sharpness(2000.0, 1.0, 0.0, 5))
        run.probes.append(later)
        return bool(settings(steps.lower_step, run, learning_rate=0.1)["factor"] > 0.01)

    flips(blown_up, 2.9, 3.1)


def test_a_schedule_that_lets_the_step_fall() -> None:
    def held(share: float) -> bool:
        run = chain(*MLP)
        run.steps[-1].lr = 0.1 * share
        return "least" in settings(steps.raise_step, run, "crawling", "step-too-small")

    flips(held, 1.02e-3, 0.98e-3)


@pytest.mark.parametrize(("length", "rising"), [(36, 10), (40, 10), (44, 11), (400, 100), (796, 199), (804, 200)])
def test_a_warm_up_is_neither_short_nor_long(length: int, rising: int) -> None:
    run = chain(*MLP)
    run.steps = [msgspec.structs.replace(run.steps[0], step=n + 1) for n in range(length)]
    assert settings(steps.warmup, run)["steps"] == rising


def test_gradients_are_clipped_at_one_or_at_their_usual_norm() -> None:
    def clipped(norm: float) -> float:
        run = chain(*MLP)
        for step in run.steps:
            step.grad = norm
        return float(settings(steps.clip, run)["max_norm"])

    assert [clipped(norm) for norm in (0.5, 0.98, 1.02, 2.0)] == [0.5, 0.98, 1.0, 1.0]


def test_batches_of_a_larger_batch() -> None:
    def batches(rows: int) -> int:
        run = chain(*MLP)
        run.probes[0].batch = rows
        return int(settings(steps.larger_batch, run)["batches"])

    assert [batches(rows) for rows in (1, 2, 4, 8, 32)] == [32, 16, 8, 4, 4]


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_inputs_that_are_nearly_as_large_as_the_largest() -> None:
    def both(size: float) -> bool:
        run = chain(("linear", 4), ("linear", 4), ("sub", 4), ("mse_loss", 1))
        ops = run.probes[0].ops
        ops[1].operands[0] = msgspec.structs.replace(ops[0].operands[0], value=value(4, size))
        ops[2].operands[1] = msgspec.structs.replace(ops[2].operands[0], op=0)
        return len(made(data.scale_input, run, finding("crawling", "input-scale"))[0].places) == 2

    flips(both, 0.29, 0.31)


def test_how_far_a_loss_by_hand_is_followed() -> None:
    def seen(between: float) -> bool:
        run = chain(("linear", 1), ("sub", 1), *[("pow", 1)] * int(between), ("abs", 1), ("mean", 1))
        return settings(data.scale_target, run, "crawling", "target-scale")["power"] == 1.0

    flips(lambda n: not seen(n), 7, 8)


def test_a_step_out_of_line_is_told_as_it_is_treated() -> None:
    assert "20 times the usual" in made(data.drop_bad_batch, chain(*MLP), finding("not-finite", "bad-batch"))[0].text


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("without", "beyond"), [(0.102, 0.098), (1.97, 2.03)])
def test_output_weights_that_are_far_off_are_rescaled_too(without: float, beyond: float) -> None:
    def rescaled(off: float) -> bool:
        run = chain(*MLP)
        last = run.probes[0].params[-1]  # one unit of 16 inputs: of scale 1/4 each, of norm 1 together
        last.norm = off
        change = made(weights.rescale_init, run, finding("vanishing", "init-too-small", line=100))[0]
        return 104 in [p.line for p in change.places]

    flips(rescaled, without, beyond)


def test_a_recurrence_is_not_driven_to_the_ends_of_its_range() -> None:
    def gain(measured: float) -> float:
        found = finding("vanishing", "recurrence", line=201, op="linear", gain_per_time_step=measured)
        return float(made(weights.orthogonal, unrolled(), found)[0].settings["gain"])  # type: ignore[arg-type]

    assert gain(1 / 1.47) == pytest.approx(1.47, abs=1e-3)
    assert gain(1 / 1.53) == 1.5


# ── operands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "eps"), [(1e-9, 1e-8), (0.9e-2, 1e-8), (2e-2, 2e-8), (1.0, 1e-6), (90.0, 9e-5), (110.0, 1e-4), (1e9, 1e-4)]
)
def test_the_usual_size_of_an_operand_has_bounds(size: float, eps: float) -> None:
    found = finding("not-finite", "singular", line=102, op="log", operand_max=size)
    assert made(operands.clamp_op, chain(*MLP), found)[0].settings["eps"] == pytest.approx(eps)
