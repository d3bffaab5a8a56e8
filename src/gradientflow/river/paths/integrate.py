"""The motion of a flow: adaptive steps of many drops, each with its own length, method, stages and verdict."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradientflow.curvature import lanczos
from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.choose import Chooser
from gradientflow.river.paths.door import admitted
from gradientflow.river.paths.ending import diagnose
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.motion import Motion, Piece
from gradientflow.river.paths.pace import ahead, first_steps, other_length
from gradientflow.river.paths.path import Status
from gradientflow.river.solvers.base import Past, Solver, Trial, lengths
from gradientflow.river.solvers.control import Controller, Tolerance
from gradientflow.river.solvers.explicit import RungeKutta
from gradientflow.river.solvers.spectrum import WIDTH, Spectrum
from gradientflow.river.solvers.stabilized import RKC2
from gradientflow.river.solvers.twostep import LEAST_RATIO

SPARE = 2  # stages above the fewest that a step may take more than it needs: a look at the sharpness costs three
STAGES = 500  # at most; the round-off of a step grows as s²
EVEN = 12.0  # stages at which a step may make the error asked for; a step of s stages may make s/12 of it: see `_allow`
RIDE = 1.5  # an explicit method's error estimate lets it ride this much above its bound
LOOK = 60  # products of the look for a negative curvature before a path is said to rest
REPEATS = 40  # rejections in a row after which a drop is stuck


class Flow(Motion):
    """B drops on one field; keeps the rules in `motion`. `lean`: hold a vector less, for one that somebody else holds;
    `ends`: a time of its own for each drop, at most t_end.
    """

    def __init__(
        self,
        meter: Meter,
        theta: Tensor,
        t_end: float,
        solvers: list[Solver],
        rtol: float,
        atol: float,
        *,
        seed: int = 0,
        fixed: float | None = None,
        stops: Tensor | None = None,
        ends: Tensor | None = None,
        lean: bool = False,
    ) -> None:
        drops, size = theta.shape
        self.meter, self.field, self.t_end, self.solvers = meter, meter.field, t_end, solvers
        self.rtol, self.atol, self.fixed, self.stops = rtol, atol, fixed, stops
        self.tolerance = Tolerance.of(self.field, rtol, atol)
        self.chooser, self.control = Chooser(solvers, drops), Controller(drops)
        self.two_step = any(s.two_step for s in solvers)
        self.spectrum = Spectrum(drops, size, theta, seed=seed, width=WIDTH - 1 if lean and self.two_step else WIDTH)
        self.starter = RKC2()
        self.theta = theta.clone() if drops > 1 else theta  # a single drop's point is never written over
        self.here = admitted(meter(self.theta), self.theta, self.field.name)
        self.first_speed, self.first_size = float(self.here.rate.norm()), float(theta.norm())
        self.still = drops == 1 and float(self.here.rate.norm()) <= 1e-12 * max(1.0, float(theta.norm()))
        self.ends = torch.full((drops,), t_end, dtype=torch.float64) if ends is None else ends
        self.t = torch.zeros(drops, dtype=torch.float64)
        self.h = torch.full((drops,), float("nan"), dtype=torch.float64)
        self.cut = torch.zeros(drops, dtype=torch.bool)  # the step tried is shorter than planned, to hit a moment
        self.live = torch.ones(drops, dtype=torch.bool)
        self.statuses: list[Status | None] = [None] * drops
        self.repeats = torch.zeros(drops, dtype=torch.int64)
        self.past_theta = (self.theta.clone() if drops > 1 else self.theta) if self.two_step else None
        self.past_h = torch.zeros(drops, dtype=torch.float64)
        self.spans = torch.zeros(drops, dtype=torch.float64)  # last step over the reach of its method
        self.loads = torch.zeros(drops, dtype=torch.float64)  # that times the sharpness found after it
        self.first_loss = self.loss()
        self.used: list[str] = []
        self.steps = 0
        self._all = torch.arange(drops)
        if self.field.potential:
            self._measure(self._all, solvers[-1])  # so that the sharpness is known from the start on
        unit = torch.finfo(theta.dtype).eps
        if rtol < 10 * unit and fixed is None:
            kind = str(theta.dtype).removeprefix("torch.")
            self.end(self._all, Status(
                "stuck", f"rtol {rtol:g} is below what {kind} can tell apart.",
                f"Ask for rtol ≥ {100 * unit:.0e}, or use more digits than {kind} has.",
            ))  # fmt: skip
        self._trail: list[tuple[float, float, float]] = []  # t, ‖θ‖, ‖rate‖ of the drop that is most behind

    # ── what the loop asks ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def method(self) -> str:
        """The methods that were used, in order of first use."""
        return "+".join(self.used) or self.solvers[-1].name

    def peek(self, piece: Piece, i: int, t: float) -> tuple[Tensor, float]:
        """Return the point and the loss at a time within a piece, by a step of the solver from where the piece began."""
        solver = next(s for s in (*self.solvers, self.starter) if s.name == piece.method)
        solver = self.starter if solver.two_step else solver
        assert piece.rate0 is not None  # pieces of a flow have rates
        here = Evaluation(piece.rate0[i : i + 1], None if piece.value0 is None else piece.value0[i : i + 1])
        h = t - float(piece.t0[i])
        rho = float(self.spectrum.rho(piece.rows[i : i + 1]).nan_to_num(0.0))
        column = torch.full((1, 1), h, dtype=self.theta.dtype, device=self.theta.device)
        trial = solver.step(self.meter, piece.theta0[i : i + 1], here, column, [solver.stages(h * rho)])
        value = trial.there.value
        return trial.theta[0], float("nan") if value is None else float(value)

    def least(self, row: int) -> float:
        """Return the smallest eigenvalue of the Hessian where a drop is, by a longer look than steps need."""
        theta, here = self.take(torch.tensor([row]))
        maker = torch.Generator().manual_seed(1)
        start = torch.randn(theta.shape[1], generator=maker, dtype=torch.float64).to(theta)[None]
        apply = self.meter.linearize(theta, here)
        return float(lanczos(lambda v: apply(v).neg(), start, width=min(LOOK, theta.shape[1]), tolerance=0.0).bottom)

    def halt(self, row: int, t: float, theta: Tensor) -> None:
        """Put a drop back to a moment within its last piece, where an event happened."""
        there = self.meter(theta[None])
        on = torch.tensor([row])
        self.t[on] = t
        self._put(on, theta[None], there, alike=True)

    def arrived(self) -> Tensor:
        """Return which drops are where they are to end, (B,)."""
        return self.t >= self.ends

    def advance(self) -> Piece | None:
        """Try one step of the drops that are most in want of one: those of the first method that any live drop is on."""
        rows = self._all[self.live]
        which = int(self.chooser.now[rows].min())
        if self.chooser.switches and bool((self.chooser.now[rows] != which).any()):
            behind = int(self.t[rows].argmin())  # take turns: the cohort of the drop that is furthest behind
            which = int(self.chooser.now[rows[behind]])
        rows = rows[self.chooser.now[rows] == which]
        return self._attempt(rows, self.solvers[which])

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _attempt(self, rows: Tensor, solver: Solver) -> Piece | None:
        self._measure(rows, solver)
        first_steps(self, rows, solver)
        if solver.two_step:
            ready = self.past_h[rows] >= LEAST_RATIO * self.h[rows]
            if not bool(ready.all()):
                rows, solver = rows[~ready], self.starter
        theta, here = self.take(rows)
        rho = self.spectrum.rho(rows)
        rho = torch.where(rho.isnan(), torch.zeros_like(rho), rho)
        left = ahead(self, rows) - self.t[rows]
        h = torch.minimum(self.h[rows], left)
        h = torch.where(left - h < 0.01 * h, left, h)
        self.cut[rows] = h < 0.99 * self.h[rows]
        stages: list[int] = []
        ratio = self.past_h[rows] / h
        if solver.stabilized:
            most = self._most_stages(theta)
            for i, (x, r, q) in enumerate(zip(h.tolist(), rho.tolist(), ratio.tolist(), strict=True)):
                q = q if solver.two_step else 1.0
                limit = solver.reach(most, q)
                s = most if x * r >= limit else min(most, solver.stages(x * r, q))
                if x * r > limit:
                    h[i] = limit / r
                stages.append(s)
        else:
            stages = [solver.stages(0.0)] * len(rows)
        column = h.to(theta)[:, None]
        past = None
        if solver.two_step and self.past_theta is not None:
            past = Past(
                self.past_theta if len(rows) == len(self.t) else self.past_theta[rows],
                self.past_h[rows].to(theta)[:, None],
            )
        trial = solver.step(self.meter, theta, here, column, stages, past)
        error = self._judge(trial, theta, here, rows, stages, solver)
        good = error <= 1.0
        if solver.name not in self.used:
            self.used.append(solver.name)
        piece = (
            self._accept(rows, good, theta, here, trial, h, error, rho, stages, solver) if bool(good.any()) else None
        )
        if not bool(good.all()):
            self._reject(rows[~good], error[~good], h[~good], solver)
        return piece

    def _judge(
        self, trial: Trial, theta: Tensor, here: Evaluation, rows: Tensor, stages: list[int], solver: Solver
    ) -> Tensor:
        """Return the error of each row over what it may be; infinite where the step is not finite or climbs the loss."""
        if trial.defect is None:
            error = torch.zeros(len(rows), dtype=torch.float64)
        else:
            error = self.tolerance.size(trial.defect, theta, trial.theta) * self._allow(stages)
        finite = torch.isfinite(lengths(trial.there.rate)) & torch.isfinite(error)
        if trial.there.value is not None:
            finite &= torch.isfinite(trial.there.value).cpu()
        if self.fixed is not None:
            error = torch.zeros_like(error)  # no control: the certificates are the judges
        error = torch.where(finite, error, torch.full_like(error, math.inf))
        if (
            self.field.potential
            and trial.there.value is not None
            and here.value is not None
            and self.first_loss is not None
        ):
            before, after = here.value.double().cpu(), trial.there.value.double().cpu()
            eps = torch.finfo(theta.dtype).eps
            slack = 0.01 * self.rtol * (self.first_loss[rows] - before).abs() + 64 * eps * before.abs().clamp_min(
                1e-300
            )
            climbs = (after - before > slack) & (trial.defect is not None and self.fixed is None)
            error = torch.where(climbs, error.clamp_min(30.0), error)
        return error

    def _allow(self, stages: list[int]) -> Tensor:
        """Return 12/s for each row.

        Least gradients for a given error in the end means equal error per gradient, not per step: with cost √(hρ) and
        error Ch³ a step, the derivative of the total with respect to each h vanishes when Ch³ is proportional to s.
        """
        return EVEN / torch.tensor(stages, dtype=torch.float64)

    def _accept(
        self, rows: Tensor, good: Tensor, theta: Tensor, here: Evaluation, trial: Trial, h: Tensor, error: Tensor,
        rho: Tensor, stages: list[int], solver: Solver,
    ) -> Piece:  # fmt: skip
        """Move the drops whose step is good and return their piece of path."""
        alike = bool(good.all())
        pick = slice(None) if alike else good
        on, length = rows[pick], h[pick]
        before, there = (theta, trial.there) if alike else (theta[good], _rows(trial.there, good))
        start = here if alike else _rows(here, good)
        after = trial.theta if alike else trial.theta[good]
        other = other_length(self, before, after, start, there, length, on, solver)
        t0 = self.t[on]
        t1 = t0 + length
        t1 = torch.where(self.ends[on] - t1 <= 1e-14 * self.ends[on].abs(), self.ends[on], t1)
        counts = torch.tensor(stages)[pick]
        ratios = (self.past_h[on] / length).tolist() if solver.two_step else [1.0] * len(on)
        held = self.fixed is None and getattr(solver, "rule", None) is None  # by its error estimate
        spare = RIDE if held and not solver.stabilized else 1.0
        reach = [spare * solver.reach(s, q) for s, q in zip(counts.tolist(), ratios, strict=True)]
        self.spans[on] = length / torch.tensor(reach, dtype=torch.float64)
        piece = Piece(
            on, t0, t1, before, after, start.rate, there.rate, start.value, there.value,
            lengths(start.rate), lengths(there.rate), trial.work[pick].cpu(),
            self.loads[on].clone(), counts, solver.name, self.field.potential,
        )  # fmt: skip
        self._put(on, after, there, alike)
        if self.past_theta is not None:
            if len(on) == len(self.t):
                self.past_theta = before
            else:
                self.past_theta[on] = before
        self.past_h[on] = length
        self.steps += 1
        self.t[on] = t1
        self.repeats[on] = 0
        self.spectrum.tick(on)
        self._next_length(on, length, error[pick], rho[pick], other, solver)
        self._note(piece)
        return piece

    def _next_length(
        self, on: Tensor, length: Tensor, error: Tensor, rho: Tensor, other: Tensor | None, solver: Solver
    ) -> None:
        if self.fixed is not None:
            self.h[on] = self.fixed
            return
        if isinstance(solver, RungeKutta) and solver.rule is not None:
            self.h[on] = solver.rule / rho.clamp_min(1e-300)
            return
        factor = self.control.accepted(on, length, error, solver.error_order, 0.8 if solver.stabilized else 0.9)
        if self.two_step:
            factor = factor.clamp_max(1.0 / LEAST_RATIO)
        new = length * factor
        went = self.chooser.weigh(on, new, rho, other, factor < 2.0)
        if bool(went.any()):
            self.control.last_step[on[went]] = 0.0
            if isinstance(solver, RungeKutta) and other is not None:
                new = torch.where(went, other, new)
            elif not isinstance(solver, RungeKutta):
                bound = 0.9 * self.solvers[0].reach(0) / rho.clamp_min(1e-300)
                new = torch.where(went, torch.minimum(bound, 3.0 * new), new)
        self.h[on] = torch.where(self.cut[on], torch.maximum(new, self.h[on]), new)  # cut short, not shortened

    def _reject(self, rows: Tensor, error: Tensor, h: Tensor, solver: Solver) -> None:
        self.repeats[rows] += 1
        self.past_h[rows] = torch.where(self.repeats[rows] > 1, torch.zeros_like(h), self.past_h[rows])
        self.h[rows] = h * self.control.rejected(rows, error, solver.error_order)
        self.spectrum.distrust(rows)
        floor = 16 * torch.finfo(torch.float64).eps * self.t[rows].clamp_min(1e-3 * self.t_end * 1e-12)
        stuck = rows[(self.h[rows] <= floor) | (self.repeats[rows] >= REPEATS)]
        for i in stuck.tolist():
            self.end(torch.tensor([i]), diagnose(self, i))

    # ── its parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _measure(self, rows: Tensor, solver: Solver) -> None:
        """Refresh the spectrum where it is due."""
        if not self.field.potential and not solver.stabilized and getattr(solver, "rule", None) is None:
            return
        due = self.spectrum.due(rows, idle=not solver.stabilized and getattr(solver, "rule", None) is None)
        if solver.stabilized and self.fixed is None:  # a smaller ρ saves less than a look costs where stages are few
            least = solver.reach(solver.stages(0.0) + SPARE)
            due = due[~(self.spectrum.fell(due) & (self.h[due] * self.spectrum.rho(due) <= least))]
        if len(due) == 0:
            return
        theta, here = self.take(due)
        apply = self.meter.linearize(theta, here)
        if self.field.potential:
            self.spectrum.measure(apply, due)
            self.loads[due] = self.spans[due] * self.spectrum.top[due].clamp_min(0.0)
        else:
            self.spectrum.measure_norm(apply, due)

    def _most_stages(self, theta: Tensor) -> int:
        """Return the number of stages at which round-off reaches a tenth of the tolerance (RKC 1998, §3.5)."""
        unit = torch.finfo(theta.dtype).eps / 2
        return max(8, min(STAGES, int(math.sqrt(self.rtol / (10 * unit)))))

    def take(self, rows: Tensor) -> tuple[Tensor, Evaluation]:
        if len(rows) == len(self.t):
            return self.theta, self.here
        return self.theta[rows], _rows(self.here, rows)

    def _put(self, on: Tensor, theta: Tensor, there: Evaluation, alike: bool) -> None:
        if alike and len(on) == len(self.t):
            self.theta, self.here = theta, there
            return
        self.theta[on] = theta
        self.here.rate[on] = there.rate
        if self.here.value is not None and there.value is not None:
            self.here.value[on] = there.value

    def _note(self, piece: Piece) -> None:
        if len(self.t) == 1:
            self._trail.append((float(piece.t1[0]), float(piece.theta1.norm()), float(piece.speed1[0])))
            del self._trail[:-8]
            t, size, speed = self._trail[-1]
            runs = speed > 1e8 * max(self.first_speed, 1e-300) and size > 1e3 * (1.0 + self.first_size)
            if runs and float(piece.t1[0] - piece.t0[0]) < 1e-6 * t:
                self.end(self._all, diagnose(self, 0))

    # ── frozen ───────────────────────────────────────────────────────────────────────────────────────────────────────

    _TENSORS = ("theta", "t", "h", "cut", "live", "repeats", "past_theta", "past_h", "spans", "loads", "first_loss")

    def look(self) -> None:
        """Measure the sharpness once more, where the drops have come to."""
        if self.field.potential and self.steps:
            self.spectrum.wait.zero_()
            self.spectrum.age.clamp_min_(1)
            self._measure(self._all, self.starter)

    def release(self) -> None:
        """Let go of the vectors that only a further step would need."""
        self.spectrum.warm = self.spectrum.warm[:, :0].clone()
        self.here = Evaluation(self.here.rate[:, :0].clone(), self.here.value)
        self.past_theta = None

    def freeze(self) -> dict[str, Any]:
        """Return all that decides the future."""
        state: dict[str, Any] = {n: getattr(self, n) for n in self._TENSORS}
        state |= {"rate": self.here.rate, "value": self.here.value, "used": list(self.used), "trail": list(self._trail)}
        state["steps"] = self.steps
        for name, part in (("spectrum", self.spectrum), ("control", self.control), ("chooser", self.chooser)):
            state |= {f"{name}.{n}": v for n, v in vars(part).items() if n != "solvers"}
        state["statuses"] = [None if s is None else (s.reason, s.text, s.remedy) for s in self.statuses]
        return state

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        for n in self._TENSORS:
            setattr(self, n, state[n])
        self.here = Evaluation(state["rate"], state["value"])
        self.used, self._trail = list(state["used"]), [tuple(x) for x in state["trail"]]
        self.steps = state["steps"]
        for name, part in (("spectrum", self.spectrum), ("control", self.control), ("chooser", self.chooser)):
            for n in vars(part):
                if n != "solvers":
                    setattr(part, n, state[f"{name}.{n}"])
        self.statuses = [None if s is None else Status(*s) for s in state["statuses"]]


def _rows(at: Evaluation, rows: Tensor) -> Evaluation:
    return Evaluation(at.rate[rows], None if at.value is None else at.value[rows])
