"""What is said of single steps and their own batch, from records made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.descent import descent
from gradientflow.depth.causes.steps import step_size
from gradientflow.records import Certificate, Descent
from tests.depth.causes.by_hand import falling, flips
from tests.depth.causes.transits import seen, way


def certificate(*found: Descent | str | None, losses: Sequence[float] | None = None) -> Certificate:
    run = seen([way() for _ in found], losses=losses or falling(1.0, 0.05))
    for probe, one in zip(run.probes, found, strict=True):
        probe.descent = one
    return descent(Case(run), [])


def test_prediction_measure_and_curvature_are_told() -> None:
    told = certificate(Descent(1.0, 0.92, 0.1, 0.02), Descent(0.9, 0.84, 0.08, 0.02))
    assert told.state == "held"
    assert "on 2 probed steps the loss of the same batch was measured again behind the step" in told.why
    assert "it fell by 78% of ⟨∇L, Δw⟩, and the curvature took 22%" in told.why
    assert told.why.endswith("at step 2 predicted 0.08, measured 0.06, curvature 0.02")
    assert told.numbers["predicted_fall"] == [0.1, 0.08] and told.numbers["curvature_term"] == [0.02, 0.02]
    assert told.numbers["measured_fall"] == [0.08, 0.06] and told.numbers["probed"] == [1, 2]


def test_steps_that_go_up_their_own_batch_are_counted() -> None:
    told = certificate(Descent(1.0, 0.9, 0.1, 0.0), Descent(1.0, 1.1, -0.1, 0.0))
    assert "1 of the steps went up the gradient of their own batch" in told.why
    assert "it fell" not in certificate(Descent(1.0, 1.1, -0.1, 0.0)).why


def test_a_rise_behind_a_step_is_a_fall_below_zero() -> None:
    assert "it fell by −50% of ⟨∇L, Δw⟩, and the curvature took 150%" in certificate(Descent(1.0, 1.05, 0.1, 0.15)).why


def test_a_fall_that_rounding_hides_is_not_told() -> None:
    flips(lambda x: "on 1 probed steps" in certificate(Descent(1.0, 1 - x, x, 0.0, error=1e-6)).why, 1.9e-5, 2.1e-5)
    assert "the loss does not resolve them" in certificate(Descent(1.0, 1.0, 1e-9, 0.0, error=1e-6)).why


def test_why_nothing_was_measured_is_told() -> None:
    told = certificate(None, "hooks of its own", None)
    assert told.state == "held" and told.why.endswith(
        "what single steps do to their own batch was not measured: hooks of its own"
    )
    assert "single steps" not in certificate(None).why


def test_a_run_that_is_too_short_stays_not_measured() -> None:
    assert certificate(Descent(1.0, 0.9, 0.1, 0.0), losses=falling(1.0, 0.5, 12)).state == "not-measured"


# ── a step that does what the gradient predicts is not too large ─────────────────────────────────────────────────────


def blamed(*found: Descent, longest: float = 1e-3, rise: float = 3.0) -> bool:
    """Whether a step that is too large is told of a loss that rises, with a step so long behind those that were measured."""
    updates = [1e-3] * 50 + [longest] * 10
    run = seen([way() for _ in found], losses=[1.0] * 30 + [1.0 + rise] * 30, updates=updates)
    for probe, one in zip(run.probes, found, strict=False):
        probe.descent = one
    return [f.cause for f in step_size(Case(run))] == ["step-too-large"]


def down(curvature: float = 0.0, off: float = 0.0) -> Descent:
    return Descent(1.0, 0.9 + off, 0.1, curvature, error=1e-9)


def test_steps_that_were_measured_and_go_down_as_predicted_are_not_too_large() -> None:
    assert blamed() and not blamed(down(), down(), down())
    flips(lambda curvature: blamed(down(curvature * 0.1), down(), down()), 0.019, 0.021)
    flips(lambda off: blamed(down(off=off * 0.1), down(), down()), 0.019, 0.021)
    flips(lambda longest: blamed(down(), down(), down(), longest=longest), 0.99e-2, 1.01e-2)
    flips(lambda looks: blamed(*[down()] * round(looks)), 3, 2)
    assert blamed(down(), down(), Descent(1.0, 1.1, -0.1, 0.0, error=1e-9))
    flips(lambda rise: blamed(down(), down(), down(), rise=rise), 9.8, 10.2)
