"""Why a drop can go no further: the flow blows up, has no unique continuation, or the tolerance cannot be met."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.records import Status
from gradientflow.river.paths.course import Course
from gradientflow.river.paths.meter import Meter

PROBES = (1e-3, 1e-6, 1e-9)  # distances of the Lipschitz quotients, over the size of θ
# A path that runs away, by its last steps; and one of many drops, by where it stands.
SPEEDS_UP = Limit(
    "speed_over_speed_before", 3.0, "chosen: over the last eight steps; a path that goes on smoothly changes by less"
)
STRETCHES = Limit(
    "size_over_size_before", 1.5, "chosen: with `speed_over_speed_before`; on the way to a point ‖θ‖ stays"
)
FAR = Limit("size", 1e6, "chosen: parameters that were of size one and less")
FAST = Limit("speed", 1e12, "chosen: twice as many digits as `size`: near a blow-up the rate is of higher order")
STEEPER = Limit(
    "quotient_over_quotient_farther_off",
    100.0,
    "chosen: over six decades of distance √|x| gives 1000, and x·log x gives 3",
)
STEEP = Limit("quotient_times_size", 1e3, "chosen: a smooth field that is stiff has quotients, but they do not grow")
RUNS = Limit(
    "speed_over_first", 1e8, "chosen: with `size_over_first` and `step_over_time`: only a blow-up has all three"
)
STRAYS = Limit("size_over_first", 1e3, "chosen: as `speed_over_first`")
SHRINKS = Limit("step_over_time", 1e-6, "chosen: as `speed_over_first`")
UNBOUNDED = Limit(
    "speed_over_first_where_size_stays",
    1e4,
    "chosen: with `speed_over_speed_before`; steps of round-off's length are no chance",
)
REJECTED = Limit("rejections", 10.0, "chosen: a step shortened so often, and what lies 16 of it ahead is not finite")


def diagnose(flow: Course, i: int) -> Status:
    """Say why drop i is stuck.

    Three ends look alike to a step-size control, and differ in what the last steps did: a path that runs away
    (‖θ‖ and ‖rate‖ grow: finite-time blow-up), a rate that becomes infinite, or infinitely steep, at a finite point
    (not Lipschitz: the flow is not unique, or ends there), and a tolerance below what the arithmetic can give.
    """
    t = float(flow.t[i])
    theta, rate = flow.theta[i : i + 1], flow.here.rate[i : i + 1]
    size, speed = float(theta.norm()), float(rate.norm())
    if flow.fixed is not None:
        return Status(
            "not-finite", f"with steps of {flow.fixed:g} the numbers run away at t = {t:.6g} (‖θ‖ {size:.3g}).",
            "Take a smaller step, or leave step= out: then the error is controlled.",
        )  # fmt: skip
    trail = [x for x in flow.trail if x[2] > 0]
    grew = 1.0
    if len(trail) >= 4:
        grew, stretched = trail[-1][2] / trail[0][2], trail[-1][1] / max(trail[0][1], 1e-300)
        if grew > SPEEDS_UP and stretched > STRETCHES:
            end = blow_up_time([(x[0], x[2]) for x in trail])
            return Status(
                "blow-up", f"the path runs to infinity in finite time, at t ≈ {end:.9g}; at t = {t:.9g} ‖θ‖ is {size:.3g} and "
                f"‖dθ/dt‖ is {speed:.3g}.", f"Ask for a time before {end:.6g}; the flow does not exist beyond.",
            )  # fmt: skip
    if not trail and (size > FAR and speed > FAST):
        return Status(
            "blow-up", f"the path runs to infinity in finite time, at t ≈ {t:.9g}; ‖θ‖ is {size:.3g}, ‖dθ/dt‖ {speed:.3g}.",
            f"Ask for a time before {t:.6g}; the flow does not exist beyond.",
        )  # fmt: skip
    if len(trail) >= 4 and grew > SPEEDS_UP and speed > UNBOUNDED * (flow.first_speed or trail[0][2]):
        return Status(
            "not-lipschitz", f"at t = {t:.9g} dθ/dt becomes infinite at a finite point, where it is not Lipschitz: ‖dθ/dt‖ grew from {flow.first_speed or trail[0][2]:.3g} to "
            f"{speed:.3g} while ‖θ‖ stays {size:.3g}, as the logarithm's and the root's do at 0{_loss_there(flow, i)}. The flow ends there.",
            "Keep the operation away from its singular point (log(x + eps), clamp), or stop before this time.",
        )  # fmt: skip
    steep = steepness(flow.meter, theta, rate)
    if steep is not None:
        return Status(
            "not-lipschitz", f"at t = {t:.9g} the path meets a point where dθ/dt is not Lipschitz: {steep}. The flow has no "
            "unique continuation there (Picard–Lindelöf fails).",
            "Keep the operation away from its singular point (sqrt(x + eps), clamp), or stop before this time.",
        )  # fmt: skip
    if not math.isfinite(speed) and bool(torch.isfinite(rate).all()):
        return Status(
            "not-finite", f"at t = {t:.9g} dθ/dt has components of size {float(rate.abs().amax()):.2g}, whose squares are beyond "
            f"{str(rate.dtype).removeprefix('torch.')} (‖θ‖ {size:.3g}).", "Divide the loss by a constant, or use float64.",
        )  # fmt: skip
    if not math.isfinite(speed) or (flow.repeats[i] >= REJECTED and not _finite_ahead(flow, i)):
        return Status(
            "not-finite", f"beyond t = {t:.9g} the field returns numbers that are not finite (‖θ‖ {size:.3g}).",
            "The path leaves the loss's domain; look at the loss there, or stop with an event before.",
        )  # fmt: skip
    return Status(
        "stuck", f"at t = {t:.9g} no step passes rtol {flow.rtol:g}, atol {flow.atol:g}, down to h = {float(flow.h[i]):.3g}.",
        f"Round-off of {str(flow.theta.dtype).removeprefix('torch.')} may be in the way: ask for rtol ≥ "
        f"{_reachable(flow):.0e}, or use float64.",
    )  # fmt: skip


def runs_away(first: tuple[float, float], now: tuple[float, float, float], step: float) -> bool:
    """Return whether a single path runs to infinity, so that it is ended while its numbers still tell when.

    Args:
        first: ‖θ‖ and ‖dθ/dt‖ at the start.
        now: t, ‖θ‖ and ‖dθ/dt‖ after a step.
        step: its length.
    """
    t, size, speed = now
    fast, far = speed > RUNS * max(first[1], 1e-300), size > STRAYS * (1.0 + first[0])
    return fast and far and step < SHRINKS * t


def blow_up_time(trail: list[tuple[float, float]]) -> float:
    """Return when ‖dθ/dt‖ becomes infinite, from its last values.

    Near a blow-up ‖dθ/dt‖ ~ (T − t)^−q, so that the inverse of its logarithmic slope is (T − t)/q: a line whose zero is T.

    Args:
        trail: (t, ‖dθ/dt‖), at least three, ascending in t.

    Example:
        >>> round(blow_up_time([(t, (1 - t) ** -2) for t in (0.5, 0.6, 0.7, 0.8)]), 3)
        0.994
    """
    slopes = [
        (0.5 * (a[0] + b[0]), (b[0] - a[0]) / math.log(b[1] / a[1]))
        for a, b in itertools.pairwise(trail)
        if b[0] > a[0] and b[1] != a[1]
    ]
    (t0, s0), (t1, s1) = slopes[-2], slopes[-1]
    if s0 <= s1:
        return trail[-1][0]
    return max(t1 + s1 * (t1 - t0) / (s0 - s1), trail[-1][0])


def steepness(meter: Meter, theta: Tensor, rate: Tensor) -> str | None:
    """Say how the field's Lipschitz quotient grows towards a point, shape (1, P), or None where it does not.

    ‖f(θ + δu) − f(θ)‖/δ over ever smaller δ: bounded for a Lipschitz field, ~ δ^(a−1) for one with f ~ |x|^a.
    """
    speed = rate.norm()
    scale = max(float(theta.norm()), 1.0)
    ways = [rate / speed] if float(speed) > 0 and math.isfinite(float(speed)) else []
    maker = torch.Generator().manual_seed(0)
    spread = torch.randn(theta.shape, generator=maker, dtype=torch.float64).to(theta)
    ways.append(spread / spread.norm())
    for way in ways:
        quotients = []
        for reach in PROBES:
            step = reach * scale
            ahead, back = meter(theta + step * way).rate, meter(theta - step * way).rate
            here = [float((x - rate).norm()) / step for x in (ahead, back) if bool(torch.isfinite(x).all())]
            quotients.append(max(here, default=math.inf))
        if (
            all(math.isfinite(q) for q in quotients)
            and quotients[-1] > STEEPER * max(quotients[0], 1e-12)
            and quotients[-1] * scale > STEEP
        ):
            return f"‖f(θ + δ) − f(θ)‖/δ grows from {quotients[0]:.2g} to {quotients[-1]:.2g} as δ shrinks by 10⁶, more than {float(STEEPER):g}-fold"
    return None


def _loss_there(flow: Course, i: int) -> str:
    loss = flow.loss()
    return "" if loss is None else f"; the loss is {float(loss[i]):.4g}"


def _finite_ahead(flow: Course, i: int) -> bool:
    theta, rate = flow.theta[i : i + 1], flow.here.rate[i : i + 1]
    ahead = flow.meter(theta + float(flow.h[i]) * 16 * rate)
    return bool(torch.isfinite(ahead.rate).all())


def _reachable(flow: Course) -> float:
    return float(100 * torch.finfo(flow.theta.dtype).eps)
