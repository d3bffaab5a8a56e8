"""Whether a path will ever arrive: a time that no run can reach is told after some hundred steps, not never."""

from __future__ import annotations

import math

from gradientflow.limits import Limit
from gradientflow.records import Status
from gradientflow.river.paths.motion import Motion

FOREVER = Limit("seconds_to_arrive", 1e9, "chosen: thirty years; nobody waits for that, and estimates err by far less")
FIRST = 64  # steps before the first estimate; later ones at every doubling


def seconds_left(before: tuple[float, float], now: tuple[float, float], t_end: float) -> float:
    """Return how long the rest takes, by the last half of the steps: the least of two laws, in seconds.

    A straight line where steps stay as long as they are; a power t ~ sᵖ where they grow with t, as they do on paths that
    go like log t.

    Args:
        before, now: (flow time, seconds spent), the second after twice as many steps.
        t_end: where the path is to end.

    Example:
        >>> round(seconds_left((1.0, 1.0), (2.0, 2.0), 10.0), 6)
        8.0
        >>> round(seconds_left((1e10, 1.0), (1e20, 2.0), 1e300))  # ever longer steps: not 10²⁸⁰ seconds
        536870910
    """
    (t1, s1), (t2, s2) = before, now
    if t2 <= t1 or s2 <= s1:
        return math.inf
    line = (t_end - t2) / (t2 - t1) * (s2 - s1)
    if t1 <= 0 or s1 <= 0:
        return line
    power = math.log(t2 / t1) / math.log(s2 / s1)
    growth = math.log(t_end / t2) / power if t_end > t2 else 0.0
    return min(line, s2 * math.expm1(growth) if growth < 700 else math.inf)


class Arrival:
    """Watches how far behind the last drop is, at every doubling of the steps."""

    def __init__(self) -> None:
        self._steps, self._next = 0, FIRST
        self._before: tuple[float, float] | None = None

    def never(self, motion: Motion, seconds: float) -> Status | None:
        """Count a step; return why the path is given up, or None while there is hope.

        Args:
            motion: some of its drops move.
            seconds: spent so far.
        """
        self._steps += 1
        if self._steps < self._next:
            return None
        self._next *= 2
        now = (float(motion.t[motion.live].min()), seconds)
        before, self._before = self._before, now
        if before is None or not (left := seconds_left(before, now, motion.t_end)) > FOREVER:
            return None
        years = f"about {left / 3.15e7:.2g} years" if math.isfinite(left) else "for ever"
        return Status(
            "stuck", f"at t = {now[0]:.6g} of {motion.t_end:g}, after {self._steps:,} steps, the rest would take {years}.",
            "Ask for a shorter time; with max_seconds the path goes on for as long as that.",
        )  # fmt: skip
