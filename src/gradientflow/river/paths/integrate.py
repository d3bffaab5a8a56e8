"""The motion of a flow: adaptive steps of many drops, each with its own length, method, stages and verdict."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.course import Course, rows_of
from gradientflow.river.paths.ending import diagnose, runs_away
from gradientflow.river.paths.motion import Piece
from gradientflow.river.paths.pace import ahead, first_steps, other_length
from gradientflow.river.solvers.base import Past, Solver, Trial, lengths
from gradientflow.river.solvers.explicit import RungeKutta
from gradientflow.river.solvers.twostep import LEAST_RATIO

STAGES = 500  # at most; the round-off of a step grows as s²
EVEN = 12.0  # stages at which a step may make the error asked for; a step of s stages may make s/12 of it: see `_allow`
RIDE = 1.5  # an explicit method's error estimate lets it ride this much above its bound
LATE = 1e6  # flow time; however far the end, steps at the start may be as short as for an end there
REPEATS = 40  # rejections in a row after which a drop is stuck


class Flow(Course):
    """The drops of a course, stepped."""

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
        self.measure(rows, solver)
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
        before, there = (theta, trial.there) if alike else (theta[good], rows_of(trial.there, good))
        start = here if alike else rows_of(here, good)
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
        self.put(on, after, there, alike)
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
        floor = 16 * torch.finfo(torch.float64).eps * self.t[rows].clamp_min(1e-15 * min(self.t_end, LATE))
        stuck = rows[(self.h[rows] <= floor) | (self.repeats[rows] >= REPEATS)]
        for i in stuck.tolist():
            self.end(torch.tensor([i]), diagnose(self, i))

    # ── its parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _most_stages(self, theta: Tensor) -> int:
        """Return the number of stages at which round-off reaches a tenth of the tolerance (RKC 1998, §3.5)."""
        unit = torch.finfo(theta.dtype).eps / 2
        return max(8, min(STAGES, int(math.sqrt(self.rtol / (10 * unit)))))

    def _note(self, piece: Piece) -> None:
        if len(self.t) == 1:
            self.trail.append((float(piece.t1[0]), float(piece.theta1.norm()), float(piece.speed1[0])))
            del self.trail[:-8]
            step = float(piece.t1[0] - piece.t0[0])
            if runs_away((self.first_size, self.first_speed), self.trail[-1], step):
                self.end(self._all, diagnose(self, 0))
