"""Whether a path went through a point from which more than one flow goes on: the solver's answer is one of many then."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.river.paths.ending import steepness
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.path import Certificate
from gradientflow.river.paths.witness import Witness

NEAR, NEARER = 1e-6, 1e-9  # distances at which both sides of a point are looked at, over the size of θ
SLOWS = Limit(
    "normal_speed_over_speed_farther_off",
    0.33,
    "chosen: from 1e-6 to 1e-9 √|x| slows by 32, a kink that is crossed hardly; golden section finds a point to 1e-8 of a step",
)


def passed_singular(meter: Meter, witness: Witness, *, at_rest: bool) -> Certificate | None:
    """Say whether the path went through a point where the flow parts, and the solver's answer is one of many.

    A step control that shrinks its steps and lets them grow again leaves no trace of that. The step across which the rate
    changed fastest is searched for the place where ‖f‖ is least, and there the quotient is taken over ever smaller distances.

    Args:
        meter: the field, counted.
        witness: of the path.
        at_rest: the path began where the rate is zero: then its start is looked at.
    """
    if at_rest:
        place, t = witness.start[:1], 0.0
    elif witness.strange is not None and witness.gone:
        t, begin, end = witness.strange
        place = _slowest(meter, begin - (end - begin), end + (end - begin))
    else:
        return None
    rate = meter(place).rate
    steep = steepness(meter, place, rate)
    if steep is None or not parts(meter, place, rate):
        return None
    return Certificate(
        "lipschitz", False, witness.sharp, float("nan"),
        f"near t = {t:.6g} the path goes through a point where dθ/dt is not Lipschitz: {steep}. More than one flow goes on "
        "from there (Picard–Lindelöf fails); this is one of them",
    )  # fmt: skip


def parts(meter: Meter, place: Tensor, rate: Tensor) -> bool:
    """Return whether more than one flow may go on from a point, (1, P), at which the rate is infinitely steep.

    That the rate is not Lipschitz does not suffice (Filippov 1988, §10). Along n, the direction in which it changes, there is
    one flow where both sides lead to the point (a convex kink, that holds the path), and where both lead through it the same
    way and no slower the nearer (a kink that is crossed). There are many where both lead away from it (a ridge), and where
    the way through slows down towards rest, as that of √|x| does at 0.
    """
    scale = max(float(place.norm()), 1.0)
    n = _across(meter, place, rate, NEAR * scale)
    if n is None:
        return True
    speeds = []
    for step in (NEAR * scale, NEARER * scale):
        ahead = float((meter(place + step * n).rate * n).sum())
        back = -float((meter(place - step * n).rate * n).sum())  # both as they lead away from the point
        if not math.isfinite(ahead + back) or (ahead > 0 and back > 0):
            return True
        if ahead < 0 and back < 0:
            return False
        speeds.append(min(abs(ahead), abs(back)))
    return speeds[1] < SLOWS * speeds[0]


def _across(meter: Meter, place: Tensor, rate: Tensor, step: float) -> Tensor | None:
    """Return the direction in which the rate changes most so far from a point, along the rate and along a random way."""
    maker = torch.Generator().manual_seed(0)
    spread = torch.randn(place.shape, generator=maker, dtype=torch.float64).to(place)
    changes = [
        meter(place + sign * step * way / way.norm()).rate - rate
        for way in (rate, spread)
        if 0 < float(way.norm()) < math.inf
        for sign in (1, -1)
    ]
    change = max((c for c in changes if bool(torch.isfinite(c).all())), key=lambda c: float(c.norm()), default=None)
    return change / change.norm() if change is not None and float(change.norm()) > 0 else None


def _slowest(meter: Meter, begin: Tensor, end: Tensor) -> Tensor:
    """Return the point of least ‖f‖ on a chord, by golden section."""
    low, high, share = 0.0, 1.0, (math.sqrt(5) - 1) / 2

    def speed(s: float) -> float:
        return float(meter(torch.lerp(begin, end, s)).rate.norm())

    a, b = high - share * (high - low), low + share * (high - low)
    fa, fb = speed(a), speed(b)
    for _ in range(40):
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - share * (high - low)
            fa = speed(a)
        else:
            low, a, fa = a, b, fb
            b = low + share * (high - low)
            fb = speed(b)
    return torch.lerp(begin, end, 0.5 * (low + high))
