"""When to probe: the first steps, then ever more rarely, at once when the cheap tier sees trouble, within a cost cap."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from gradientflow.depth.watch.allowance import PROBES, SHARE_OF_PROBES, allowed
from gradientflow.limits import Limit
from gradientflow.records import Step

_EARLY = (1, 2, 3, 5, 8)  # then every half as many steps again
_FACTOR = 1.5
_RECENT = 25
JUMP = Limit("rise_over_usual", 0.5, "chosen: half of the usual loss on top; a sign to look, no finding")
STEPS_OF_LOSS = Limit("rise_over_usual_change", 6.0, "chosen: of the usual change between two steps; noise stays below")
NORMS = Limit("gradients", 3, "chosen: the fewest that have a usual norm")
STEEP = Limit("gradient_over_usual", 20.0, "chosen: noise of a small batch stays below ten")
DEAR = Limit("alarms_beyond_the_cap", 2, "chosen: a trouble is looked at this often whatever it costs")
ALARMS = Limit("alarms", 3, "chosen: from here on one kind of trouble is looked at ever more rarely")


class Schedule:
    """Decides before each step whether it is probed.

    Args:
        every: probe exactly every so many steps (and the first), instead of the schedule.
        cap: share of the run's time that probing may cost, beyond a floor of one second.
    """

    def __init__(self, every: int | None = None, cap: float = SHARE_OF_PROBES) -> None:
        self.every = every
        self.cap = cap
        self._next = 1
        self._trouble: str | None = None
        self._alarms: dict[str, int] = {}
        self._quiet_until: dict[str, int] = {}
        self._losses: dict[int, deque[float]] = {}
        self._grads: dict[int, deque[float]] = {}
        self._rounds = 0
        self._wanted: frozenset[int] = frozenset()

    def look_at(self, steps: Iterable[int]) -> None:
        """Probe these steps too, whatever it costs: a replay knows from the watched run where to look."""
        self._wanted = frozenset(steps)

    def due(self, step: int, elapsed: float, spent: float, optimizers: int = 1) -> str | None:
        """Return why the coming step is to be probed, or None.

        Args:
            step: number of the coming step, from 1.
            elapsed: seconds since the run began.
            spent: seconds spent on watching so far.
            optimizers: how many optimizers take turns: each gets its probe.
        """
        if step in self._wanted:
            return "known"
        if self._rounds > 0:
            self._rounds -= 1
            return "schedule"
        if self.every is not None:
            due = step == 1 or step % self.every == 0
            return ("first" if step == 1 else "schedule") if due else None
        affordable = spent <= allowed(PROBES, self.cap, elapsed)
        if self._trouble is not None and (affordable or self._alarms.get(self._trouble, 0) <= DEAR):
            reason, self._trouble = f"trouble: {self._trouble}", None
            return reason
        if step >= self._next:
            if not affordable and step > 1:
                self._next = step + 1
                return None
            later = [s for s in _EARLY if s > step]
            self._next = later[0] if later else math.ceil(step * _FACTOR)
            self._rounds = max(0, optimizers - 1)
            return "first" if step == 1 else "schedule"
        return None

    def saw(self, step: Step) -> str | None:
        """Take in one step's numbers; return the trouble they show, which orders a probe of the next step."""
        losses = self._losses.setdefault(step.optimizer, deque(maxlen=_RECENT))
        grads = self._grads.setdefault(step.optimizer, deque(maxlen=_RECENT))
        trouble = None
        if step.nonfinite or (step.loss is not None and not math.isfinite(step.loss)):
            trouble = "not finite"
        elif step.loss is not None and losses:
            usual = median(losses)
            changes = [abs(b - a) for a, b in zip(losses, list(losses)[1:], strict=False)]
            step_of_loss = median(changes) if changes else 0.0
            if step.loss - usual > max(JUMP * abs(usual), STEPS_OF_LOSS * step_of_loss):
                trouble = "loss jumped"
        if trouble is None and step.grad is not None and len(grads) >= NORMS:
            usual = median(grads)
            if step.grad == 0.0 and usual > 0:
                trouble = "no gradient left"
            elif usual > 0 and step.grad > STEEP * usual:
                trouble = "gradient jumped"
        if step.loss is not None and math.isfinite(step.loss):
            losses.append(step.loss)
        if step.grad is not None and math.isfinite(step.grad):
            grads.append(step.grad)
        if trouble is not None and step.step >= self._quiet_until.get(trouble, 0):
            count = self._alarms[trouble] = self._alarms.get(trouble, 0) + 1
            self._quiet_until[trouble] = step.step + (1 if count < ALARMS else 2**count)
            self._trouble = trouble
        return trouble
