"""How far off an end is, by solving again: what is claimed of a path rests on runs that were made, not on laws."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.limits import Limit
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.kinks import kinks_of, smooth
from gradientflow.river.paths import certificates as checks
from gradientflow.river.paths.integrate import Flow
from gradientflow.river.paths.keep import Keep, Sampler
from gradientflow.river.paths.loop import Limits, run
from gradientflow.river.paths.path import Certificate
from gradientflow.river.paths.witness import Witness

TIGHTER = 10.0  # the first run's tolerance over the second's
TIGHTER_AT_KINKS = 4.0  # there steps go like √rtol, and along a kink like rtol
LOOSER = 30.0  # the second run's over the first's, where the arithmetic has no digits for a tighter one
AFFORDED = 0.3  # of max_gradients that a path may have taken: the second run takes up to twice as many
MOST = 5.0  # times what the path took, that a second run may take: a tighter one takes about twice as much, or slides
MOST_OF_THIRD = 10.0  # and a third one; where a path slides it would take ever so many
PARTED = Limit(
    "growth_times_rtol_of_two_runs",
    0.1,
    "chosen: beside a separatrix, where two runs took the wrong side alike, it was 0.17 to 1.2; elsewhere up to 0.012",
)
AGREE = Limit(
    "claim_over_claim",
    2.0,
    "measured on reactions with diffusion, fronts and cycles: where two claims were that near, their mean was right within 1.5",
)
LEAST_LOOSER = 10.0  # times the first run's tolerance that a looser one is held to, if it is to tell anything
DIGITS = 100.0  # units of round-off that a tolerance must be worth


class Rerun:
    """Measures the error of some drops by solving them again, more tightly, to where they ended; the same counter counts.

    A looser run would cost less, but what it tells of the first rests on how errors shrink with the tolerance: that holds
    neither across kinks, nor on paths whose steps grow with time, nor where errors happen to cancel. It is asked where the
    arithmetic has no digits for a tighter run, and first of all on smooth vector fields by a method of order 2: there the
    tolerances say how errors shrink, and so do the steps that were made. Where both agree, that is the claim.

    Two runs may err alike. Where a path slides along kinks for a while, both may leave them on one side: their energy tells,
    if that of the second is off as well. Where neighbouring paths part, both may take the wrong side of a saddle: their growth
    tells. A third run at a still tighter tolerance decides then, or no claim is made.
    """

    def __init__(
        self, motion: Flow, witness: Witness, settings: dict[str, Any], field: Field, theta: Tensor, limits: Limits
    ) -> None:
        self.motion, self.witness, self.settings = motion, witness, settings
        self.field, self.theta, self.limits = field, theta, limits
        self.kinked = bool(kinks_of(field, theta[:1]))
        self.own, self.bound = motion.meter.equivalents, checks.allowed(motion.rtol, order(motion))
        self.spent = self.own  # before the last run
        self.tighter = TIGHTER_AT_KINKS if self.kinked else TIGHTER
        self.stopped = False  # who interrupts a check wants no other one instead

    def errors(self, rows: list[int], doubted: set[int]) -> list[Certificate]:
        """Return what is claimed of some drops.

        Args:
            rows: which.
            doubted: those whose energy is off.
        """
        rtol = self.motion.rtol
        out, why = self._not_asked(rows), f"rtol {rtol:g} leaves no room for another run"
        if left := [i for i in rows if i not in out]:
            out |= self._looser(left)
        for other in (rtol / self.tighter, min(LOOSER * rtol, 0.1)):
            left = [i for i in rows if i not in out]
            if self.stopped or not left or not self._room(other) or rtol < other < 3 * rtol:
                continue
            apart, unsure, said = self._apart(left, other, MOST)
            why = said or why
            if other < rtol and (third := self._alike(apart, {i for i in unsure if i in doubted})):
                out |= self._third(third, apart, other)
            for i in apart:
                if i not in out:
                    out[i] = self._claim(i, apart[i] / self._part(other), tighter=other < rtol)
        why = "the second run ended by cancelled" if self.stopped else why
        return [out.get(i) or checks.none("error", why, self.bound) for i in rows]

    def _not_asked(self, rows: list[int]) -> dict[int, Certificate]:
        """Return the drops of which no second run is made, each with the reason."""
        motion, most, out = self.motion, self.limits.max_gradients, {}
        for i in rows:
            ended = motion.statuses[i]
            if self.settings["step"] is not None:
                why = "the step length is fixed"
            elif float(motion.t[i]) <= 0:
                why = checks.NO_LENGTH
            elif ended is None or not ended.ok:
                why = f"the path ended by {'interrupt' if ended is None else ended.reason}"
            elif most is not None and self.own > AFFORDED * most:
                why = "it would spend more than max_gradients"
            else:
                continue
            out[i] = checks.none("error", why, self.bound)
        return out

    def _looser(self, rows: list[int]) -> dict[int, Certificate]:
        """Return what a looser run says of drops on a smooth vector field, of those where two ways to read it agree."""
        motion, rtol = self.motion, min(LOOSER * self.motion.rtol, 0.1)
        order2 = all(s.stabilized and s.order == 2 for s in motion.solvers)
        if not order2 or rtol < LEAST_LOOSER * motion.rtol or not smooth(self.field, self.theta[:1]):
            return {}
        made = self._again(rows, rtol, MOST * self.own)
        if isinstance(made, str):
            return {}
        again, seen = made
        self.stopped |= any(s is not None and s.reason == "cancelled" for s in again.statuses)
        out = {}
        for k, i in enumerate(rows):
            ended, gap = again.statuses[k], self._gap(i, again.theta[k])
            value = inferred(gap, self._part(rtol), float(seen.cubes[k]), float(self.witness.cubes[i]))
            if ended is not None and ended.ok and value is not None:
                runs = "a second, looser run, and how errors shrink by its tolerance and by its steps"
                out[i] = self._claim(i, value, tighter=False, runs=runs)
        return out

    def _alike(self, apart: dict[int, float], unsure: set[int]) -> dict[int, str]:
        """Return the drops of which two runs may err alike, each with the reason."""
        out = dict.fromkeys((i for i in apart if i in unsure), "energy is off in a second run too")
        for i, gap in apart.items():
            growth = float(self.witness.growth[i])
            if i not in out and gap <= self.bound and growth > math.log(PARTED / self.motion.rtol):
                out[i] = f"neighbouring paths part by up to e^{growth:.1f} along this one"
        return out

    def _third(self, rows: dict[int, str], second: dict[int, float], rtol: float) -> dict[int, Certificate]:
        """Return what a third run says of drops of which two may err alike: the larger of both distances, or nothing."""
        spent = self.motion.meter.equivalents - self.spent  # by the second run
        apart, said = dict[int, float](), f"rtol {self.motion.rtol:g} leaves no room for a third"
        if self.stopped:
            said = "the check was interrupted"
        elif spent**2 > MOST_OF_THIRD * self.own**2:
            said = f"a third would take about {spent**2 / self.own:.2g} gradients"
        elif self._room(rtol / self.tighter):
            apart, _, said = self._apart(list(rows), rtol / self.tighter, MOST_OF_THIRD)
        return {
            i: self._claim(i, max(apart[i], second[i]), tighter=True, runs="a second and a third, tighter run")
            if i in apart
            else checks.none(
                "error",
                f"{why}, so that its agreement proves nothing, and {said.replace('second', 'third')}",
                self.bound,
            )
            for i, why in rows.items()
        }

    def _claim(self, i: int, value: float, *, tighter: bool, runs: str = "") -> Certificate:
        growth = float(self.witness.growth[i])
        return checks.error(value, self.bound, growth, self.motion.rtol, tighter=tighter, runs=runs)

    def _room(self, rtol: float) -> bool:
        return DIGITS * torch.finfo(self.theta.dtype).eps <= rtol

    def _apart(self, rows: list[int], rtol: float, most: float) -> tuple[dict[int, float], list[int], str]:
        """Solve some drops at another tolerance: how far both ends are apart, over the way gone; whose energy is off; what failed."""
        made = self._again(rows, rtol, most * self.own)
        if isinstance(made, str):
            return {}, [], made
        again, seen = made
        apart, said = dict[int, float](), ""
        self.stopped |= any(s is not None and s.reason == "cancelled" for s in again.statuses)
        for k, i in enumerate(rows):
            ended = again.statuses[k]
            if ended is None or not ended.ok:
                said = f"the second run ended by {ended.reason if ended else 'interrupt'}"
            else:
                apart[i] = self._gap(i, again.theta[k])
        return apart, [i for k, i in enumerate(rows) if checks.unbalanced(self.field, seen, rtol, k)], said

    def _again(self, rows: list[int], rtol: float, most: float) -> tuple[Flow, Witness] | str:
        """Solve some drops once more to where they ended, at another tolerance; a sentence where that is not possible."""
        motion, theta, limits = self.motion, self.theta, self.limits
        self.spent = motion.meter.equivalents
        ends, spend = motion.t[rows], self.spent + most
        if limits.max_gradients is not None and most > MOST * self.own:  # the second run is allowed for by `AFFORDED`
            spend = min(spend, limits.max_gradients)
        again = Flow(
            motion.meter, theta if len(rows) == len(theta) else theta[rows], float(ends.max()), motion.solvers, rtol,
            motion.atol * rtol / motion.rtol, seed=int(self.settings["seed"]) + 1, ends=ends, lean=True, told=False,
        )  # fmt: skip
        try:
            nothing, seen = Sampler(Keep(at=[0.0], theta=False), again.theta), Witness(self.field, again)
            run(again, nothing, seen, Limits(spend, limits.max_seconds, progress=limits.progress))
        except FieldError as problem:
            return str(problem)
        return again, seen

    def _part(self, rtol: float) -> float:
        """Return how far the end of a run at another tolerance is from the first's, over the first's error.

        With steps ~ rtol^(1/k), k the order of the estimate, and errors ~ hᵖ the error goes like rtol^(p/k), in the same
        direction. Across kinks the errors of two runs have little to do with each other, and go like about √rtol.
        """
        motion = self.motion
        if self.kinked and rtol < motion.rtol:
            return 1.0
        methods = [s for s in (*motion.solvers, motion.starter) if s.name in motion.used]
        share = min((s.order / s.error_order for s in methods), default=2 / 3)
        if self.kinked:
            share = min(share, 0.5)
        return abs(1.0 - math.pow(rtol / motion.rtol, share))

    def _gap(self, i: int, end: Tensor) -> float:
        """Return how far a drop's end is from another, over the way it went."""
        way = max(float(self.witness.far[i]), 1e-9 * float(self.theta[i].norm()), 1e-300)
        return float((self.motion.theta[i] - end).norm()) / way


def inferred(gap: float, part: float, cubes: float, own: float) -> float | None:
    """Return the error of a run of order 2 from how far the end of a looser one is from its own; None where that cannot be told.

    Args:
        gap: between both ends.
        part: of the looser run's error over the first one's, less one, as the tolerances say.
        cubes: Σh³ of the looser run, which its error goes with.
        own: that of the first.

    Example:
        >>> inferred(0.9, 9.0, 10.0, 1.0)
        0.1
        >>> inferred(0.9, 9.0, 100.0, 1.0)  # the steps say 0.009
    """
    if not (own > 0 and cubes > own and math.isfinite(cubes) and gap > 0):
        return None
    by_tolerance, by_steps = gap / part, gap / (cubes / own - 1)
    if max(by_tolerance, by_steps) > AGREE * min(by_tolerance, by_steps):
        return None
    return math.sqrt(by_tolerance * by_steps)


def order(motion: Flow) -> int:
    """Return the lowest order of the methods that made the path: what its errors scale with."""
    return min((s.order for s in (*motion.solvers, motion.starter) if s.name in motion.used), default=2)
