"""What is kept: every step, every so many, at given times between steps (dense output of order 3), functions of θ."""

from __future__ import annotations

import math

import pytest
import torch

from gradientflow.river import Keep, Potential, VectorField, flow

D = torch.float64
TURN = VectorField(lambda z: torch.stack([-z[1], z[0]]), start=[1.0, 0.0])
AWAY = Potential(lambda w: 0.5 * ((w - 1) ** 2).sum(), start=[0.0], name="to one")  # w = 1 − e^−t


def on_circle(t: torch.Tensor) -> torch.Tensor:
    return torch.stack([t.cos(), t.sin()], 1)


def test_every_step_is_kept_with_its_numbers():
    path = flow(AWAY, 3.0)
    n = len(path)
    columns = (
        path.times,
        path.loss,
        path.grad_norm,
        path.sharpness,
        path.lambda_min,
        path.step,
        path.stages,
        path.theta,
    )
    assert all(c is not None and len(c) == n for c in columns)
    assert float(path.times[0]) == 0 and float(path.times[-1]) == 3
    torch.testing.assert_close(path.times.diff(), path.step[1:])
    torch.testing.assert_close(path.loss, AWAY.value(path.theta))  # type: ignore[arg-type]
    torch.testing.assert_close(path.grad_norm, (1 - path.theta[:, 0]).abs())  # type: ignore[index]
    assert path.stages.dtype == torch.int64 and int(path.stages[0]) == 0 and int(path.stages[1:].min()) >= 2
    assert torch.equal(path.theta[0], path.start) and torch.equal(path.theta[-1], path.final)  # type: ignore[index]
    assert float(path.sharpness[-1]) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("every", [2, 3, 100])
def test_every_so_many_steps_and_both_ends(every: int):
    whole, thin = flow(AWAY, 3.0), flow(AWAY, 3.0, keep=Keep(every=every))
    wanted = [k for k in range(len(whole)) if k % every == 0 or k == len(whole) - 1]
    assert torch.equal(thin.times, whole.times[wanted]) and torch.equal(thin.theta, whole.theta[wanted])  # type: ignore[index,arg-type]
    assert len(thin) < len(whole)


def test_points_are_kept_by_themselves_only_where_they_are_small():
    wide = Potential(lambda w: 0.5 * (w**2).sum(), start=torch.ones(9, dtype=D))
    assert flow(wide, 1.0).theta is None and flow(wide, 1.0, keep=Keep(theta=True)).theta.shape[1] == 9  # type: ignore[union-attr]
    assert flow(AWAY, 1.0).theta is not None and flow(AWAY, 1.0, keep=Keep(theta=False)).theta is None


def test_functions_of_theta_are_kept():
    functions = {
        "norm": lambda w: w.norm(),
        "pair": lambda w: w[:2],
        "number": lambda w: float(w[0]),
        "twice": lambda w: w.mul_(2),
    }
    wide = Potential(lambda w: 0.5 * (w**2).sum(), start=torch.ones(9, dtype=D))
    path = flow(wide, 1.0, keep=Keep(at=[0.0, 0.5, 1.0], theta=True, functions=functions))
    exact = torch.exp(-torch.tensor([0.0, 0.5, 1.0], dtype=D))
    torch.testing.assert_close(path.kept["norm"], path.theta.norm(dim=1))  # type: ignore[union-attr]
    torch.testing.assert_close(path.kept["norm"], 3 * exact, rtol=2e-3, atol=0)
    assert path.kept["pair"].shape == (3, 2)
    assert torch.equal(path.kept["number"].double(), path.theta[:, 0])  # type: ignore[index]  # all its digits
    assert torch.equal(path.kept["twice"], 2 * path.theta)  # type: ignore[operator]  # and the path is not written to
    plain = flow(wide, 1.0)
    assert torch.equal(plain.final, path.final)  # what is kept does not move the path


@pytest.mark.parametrize("method", ["rk4", "dp54", "rkc2", "tsrkc3"])
def test_dense_output_is_of_order_three_at_least(method: str):
    """With steps of h and h/2: between them the cubic through points and rates errs by h⁴, and a method by its own order."""
    at = torch.linspace(0.013, 1.987, 37, dtype=D)
    field = TURN if method in ("rk4", "dp54") else AWAY
    errors = []
    for h in (0.25, 0.125):
        path = flow(field, 2.0, method=method, step=h, keep=Keep(at=at, theta=True), rtol=0.03, certify=False)
        exact = on_circle(at) if field is TURN else 1 - torch.exp(-at)[:, None]
        steps = flow(field, 2.0, method=method, step=h, keep=Keep(theta=True), rtol=0.03, certify=False)
        truth = on_circle(steps.times) if field is TURN else 1 - torch.exp(-steps.times)[:, None]
        own = float((steps.theta - truth).norm(dim=1).max())  # type: ignore[operator]
        errors.append(max(float((path.theta - exact).norm(dim=1).max()) - own, 1e-16))  # type: ignore[operator]
        linear = torch.lerp(steps.theta[:-1], steps.theta[1:], 0.5)  # type: ignore[index]
        middle = 0.5 * (steps.times[1:] + steps.times[:-1])
        straight = on_circle(middle) if field is TURN else 1 - torch.exp(-middle)[:, None]
        chord = float((linear - straight).norm(dim=1).max())
        assert errors[-1] < 0.1 * chord  # negative control: the chord is far worse
    assert errors[1] < errors[0] / 6.5 or errors[1] < 5e-6


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9, 1e-11])
def test_points_between_steps_are_as_good_as_the_tolerance(rtol: float):
    at = torch.linspace(0.05, 6.0, 60, dtype=D)
    for field, exact in ((AWAY, 1 - torch.exp(-at)[:, None]), (TURN, on_circle(at))):
        path = flow(field, 6.0, rtol=rtol, atol=1e-3 * rtol, keep=Keep(at=at, theta=True), certify=False)
        error = float((path.theta - exact).norm(dim=1).max())  # type: ignore[operator]
        assert torch.equal(path.times, at)
        assert error < 30 * rtol
        assert float((path.theta - exact.roll(1, 0)).norm(dim=1).max()) > 30 * rtol  # type: ignore[operator]


def test_the_loss_between_steps_is_as_good_as_the_point():
    at = torch.linspace(0.0, 4.0, 81, dtype=D)
    path = flow(AWAY, 4.0, keep=Keep(at=at), rtol=1e-4)
    torch.testing.assert_close(path.loss, 0.5 * torch.exp(-2 * at), rtol=0, atol=1e-3)
    torch.testing.assert_close(path.loss, AWAY.value(path.theta), rtol=0, atol=1e-3)  # type: ignore[arg-type]
    assert path.loss is not None and not torch.allclose(path.loss, 0.5 * torch.exp(-1.9 * at), rtol=0, atol=1e-3)
    speed = torch.exp(-at)
    torch.testing.assert_close(path.grad_norm, speed, rtol=0, atol=3e-3)


def test_many_times_within_one_step_and_times_that_are_step_ends():
    at = torch.linspace(0.0, 1.0, 400, dtype=D)
    path = flow(AWAY, 1.0, keep=Keep(at=at))
    assert torch.equal(path.times, at) and path.theta is not None and len(path.theta) == 400
    assert bool((path.theta[:, 0].diff() > 0).all())
    ends = flow(AWAY, 1.0)
    again = flow(AWAY, 1.0, keep=Keep(at=ends.times))
    torch.testing.assert_close(again.theta, ends.theta, rtol=0, atol=1e-15)
    assert math.isclose(float(again.theta[-1]), float(ends.final))  # type: ignore[index]
