"""Events end a path where they happen: located to 1e-8, at a minimum and not at a saddle, the first of several."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gradientflow.river import (
    Keep,
    LeavesBall,
    LossTarget,
    Path,
    Potential,
    SteadyState,
    VectorField,
    When,
    descend,
    flow,
)  # fmt: skip
from gradientflow.river.fields.momentum import HeavyBall

D = torch.float64
AWAY = Potential(lambda w: 0.5 * ((w - 1) ** 2).sum(), start=[0.0, 0.0], name="to one")  # w = 1 − e^−t
TURN = VectorField(lambda z: torch.stack([-z[1], z[0]]), start=[1.0, 0.0])

EVENTS = {
    # name: event, what vanishes there, flow time when
    "loss target": (LossTarget(math.exp(-4)), lambda w: float(AWAY.value(w[None])) - math.exp(-4), 2.0),
    "leaves ball": (LeavesBall(1.0), lambda w: float(w.norm()) - 1.0, -math.log(1 - 1 / math.sqrt(2))),
    "leaves a ball elsewhere": (
        LeavesBall(1.0, torch.tensor([1.0, 0.0])), lambda w: float((w - torch.tensor([1.0, 0.0])).norm()) - 1.0, None,
    ),
    "own": (When(lambda w: 0.5 - w[0]), lambda w: float(w[0]) - 0.5, math.log(2)),
    "own tensor": (lambda w: 0.5 - w.sum() / 2, lambda w: float(w[0]) - 0.5, math.log(2)),
}  # fmt: skip


@pytest.mark.parametrize("method", ["auto", "rkc2", "dp54", "dp87"])
@pytest.mark.parametrize("name", ["loss target", "leaves ball", "own", "own tensor"])
def test_the_event_holds_at_the_returned_point_to_eight_digits(name: str, method: str):
    event, vanishes, when = EVENTS[name]
    path = flow(AWAY, 20.0, events=[event], method=method)
    assert path.status.reason == "event" and path.status.ok
    assert abs(vanishes(path.final)) < 1e-8
    assert abs(vanishes(path.final + 1e-7)) > 1e-8  # negative control
    assert float(path.times[-1]) == pytest.approx(when, rel=2e-2)
    assert torch.equal(path.theta[-1], path.final)  # type: ignore[index]
    assert path.loss is not None
    assert float(path.loss[-1]) == pytest.approx(float(AWAY.value(path.final[None])), abs=1e-9)


@pytest.mark.parametrize("method", ["auto", "dp54"])
@pytest.mark.parametrize("name", ["loss target", "leaves ball", "own"])
def test_the_time_of_an_event_is_right_to_eight_digits_at_a_tight_tolerance(name: str, method: str):
    event, _, when = EVENTS[name]
    path = flow(AWAY, 20.0, events=[event], method=method, rtol=1e-11, atol=1e-13, certify=False)
    assert float(path.times[-1]) == pytest.approx(when, abs=1e-8)
    assert float(path.times[-1]) != pytest.approx(when + 1e-7, abs=1e-8)
    assert path.status.text.endswith(f"at t = {float(path.times[-1]):.9g}.")


def test_a_field_that_is_no_potential_has_events_too():
    path = flow(TURN, 10.0, events=[lambda z: z[0]], rtol=1e-10)
    assert path.status.reason == "event"
    assert float(path.times[-1]) == pytest.approx(math.pi / 2, abs=1e-7)


def test_the_first_event_of_several_counts():
    both = [
        When(lambda w: 0.9 - w[0], "late"),
        When(lambda w: 0.3 - w[0], "early"),
        When(lambda w: 0.5 - w[0], "middle"),
    ]
    for method in ("auto", "euler"):
        path = flow(AWAY, 20.0, events=both, method=method, step=3.0 if method == "euler" else None, certify=False)
        assert path.status.text.startswith("early")


def test_a_function_that_returns_a_bool_ends_the_path_at_a_step():
    path = flow(AWAY, 20.0, events=[lambda w: bool(w[0] > 0.5)])
    assert path.status.reason == "event" and float(path.final[0]) > 0.5
    assert float(path.theta[-2, 0]) <= 0.5  # type: ignore[index]
    assert flow(AWAY, 20.0, events=[lambda w: bool(w[0] > 1.5)]).status.reason == "reached"


def test_an_event_that_never_happens_changes_nothing():
    plain, watched = flow(AWAY, 3.0), flow(AWAY, 3.0, events=[LeavesBall(9.0), LossTarget(1e-9), SteadyState()])
    assert torch.equal(plain.theta, watched.theta) and watched.status.reason == "reached"  # type: ignore[arg-type]


def test_the_target_of_a_loss_under_momentum_is_where_the_loss_is():
    # dL/dt is not −‖dz/dt‖² there: θ̈ + ½θ̇ + ∇L = 0
    ball = HeavyBall(Potential(lambda w: 0.5 * (w**2).sum()), damping=0.5)
    path = flow(ball, 20.0, start=[1.0, 0.0], events=[LossTarget(0.05)], rtol=1e-8)
    assert path.status.reason == "event"
    assert float(ball.value(path.final[None])) == pytest.approx(0.05, abs=1e-8)  # type: ignore[arg-type]
    kept = flow(ball, 20.0, start=[1.0, 0.0], rtol=1e-6, keep=Keep(at=torch.linspace(0, 20, 40), theta=True))
    truth = ball.value(kept.theta)  # type: ignore[arg-type]
    assert float((kept.loss - truth).abs().max()) < 1e-4  # type: ignore[operator]


# ── steady states ────────────────────────────────────────────────────────────────────────────────────────────────────


def at_rest(path: Path) -> bool:
    return path.status.reason == "event" and path.status.text.startswith("steady state")


@pytest.mark.parametrize("method", ["auto", "rkc2", "dp54"])
def test_rest_at_a_minimum_and_not_at_a_saddle(method: str):
    bowl = Potential(lambda w: 0.5 * w[0] ** 2 + w[1] ** 2)
    saddle = Potential(lambda w: 0.5 * w[0] ** 2 - w[1] ** 2)
    asked = {"events": [SteadyState(rate=1e-6)], "method": method, "certify": False}
    settled = flow(bowl, 40.0, start=[1.0, 0.5], **asked)
    assert at_rest(settled) and float(settled.grad_norm[-1]) <= 1e-6
    assert 0.9 * math.log(1e6) < float(settled.times[-1]) < 1.3 * math.log(1e6)
    for start in ([1.0, 0.0], [0.0, 0.0]):
        assert not at_rest(flow(saddle, 40.0, start=start, **asked))
    unasked = flow(saddle, 40.0, start=[1.0, 0.0], events=[SteadyState(1e-6, curvature=None)], method=method)
    assert at_rest(unasked)  # negative control: without the curvature a saddle looks like a minimum
    assert at_rest(flow(TURN, 1.0, start=[0.0, 0.0], events=[SteadyState()]))


@pytest.mark.parametrize("method", ["auto", "rkc2"])
def test_a_saddle_in_many_dimensions_is_no_rest(method: str):
    """One slightly negative eigenvalue among sixty: a few Lanczos steps do not see it; the event has to look again."""
    maker = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(60, 60, generator=maker, dtype=D))
    values = 0.5 + 3 * torch.rand(60, generator=maker, dtype=D)
    values[0], values[1] = -0.05, 20.0
    h = (q * values) @ q.T
    valley = q[:, 1:].sum(1)  # on the saddle's stable manifold, to round-off
    asked = {"start": valley, "events": [SteadyState(rate=1e-6)], "method": method, "certify": False}
    assert not at_rest(flow(lambda w: 0.5 * w @ h @ w, 60.0, **asked))
    bowl = (q * values.abs()) @ q.T
    settled = flow(lambda w: 0.5 * w @ bowl @ w, 60.0, **(asked | {"events": [SteadyState(rate=1e-4)], "rtol": 1e-5}))
    assert at_rest(settled)  # negative control


@pytest.mark.parametrize(
    "holds",
    [
        LossTarget(100.0), LossTarget(1.0), LeavesBall(0.5, torch.tensor([2.0, 2.0])), When(lambda w: w[0]), When(lambda w: w[0] - 5.0),
        When(lambda w: bool(w[0] < 1)), When(lambda w: w[0] < 1), lambda w: w.numpy()[0] < 1, SteadyState(10.0),
    ],
)  # fmt: skip
def test_an_event_that_holds_at_the_start_ends_the_path_there(holds: Any):
    for path in (flow(AWAY, 5.0, events=[holds]), descend(AWAY, torch.optim.SGD, 5.0, lr=0.1, events=[holds])):
        assert path.status.reason == "event" and "at t = 0" in path.status.text
        assert path.times.tolist() == [0.0] and torch.equal(path.final, path.start)
    ahead = flow(AWAY, 5.0, events=[LossTarget(0.5), LeavesBall(1.0), lambda w: 0.9 - w[0], SteadyState(0.1)])
    assert ahead.status.reason == "event" and float(ahead.times[-1]) > 0.1  # control: none of these holds there


def test_of_many_drops_those_end_at_the_start_that_begin_there():
    many = flow(AWAY, 5.0, starts=torch.tensor([[0.0, 0.0], [1.0, 1.1]], dtype=D), events=[LossTarget(0.1)])
    assert many.ends[1] == 0.0 and float(many.ends[0]) == pytest.approx(0.5 * math.log(10), rel=1e-2)
    assert many.statuses[1].text.startswith("the loss is 0.005 at the start") and many.certificates.ok
