"""Where the drops of a flow are, and all that is known there: what steps are planned from, frozen, and looked back on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradientflow.curvature import lanczos
from gradientflow.limits import Limit
from gradientflow.records import Status
from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.choose import Chooser
from gradientflow.river.paths.door import admitted
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.motion import Look, Motion, Piece
from gradientflow.river.solvers.base import Solver
from gradientflow.river.solvers.control import Controller, Tolerance
from gradientflow.river.solvers.spectrum import WIDE, WIDTH, Spectrum
from gradientflow.river.solvers.stabilized import RKC2

SPARE = 2  # stages above the fewest that a step may take more than it needs: a look at the sharpness costs three
AGES = 4.0  # times the flow time of the last look at the spectrum, at which it is looked at again however few the steps were
# Looks at the sharpness that no step asks for, because it is told of. Each takes `WIDE` products.
OLD = Limit("time_over_time_of_look", 4 / 3, "chosen: over flow time from 1 to 100 that are 16 looks")
APART = Limit(
    "time_between_looks", 1 / 30, "chosen: of the whole time; late looks lie no further apart than a figure shows"
)
OLD_STEPS = Limit(
    "steps_since_look", 3.0, "chosen: the first steps double in length, and each is older than `time_over_time_of_look`"
)
LOOKING = Limit("looking_over_gradients", 0.05, "chosen: what looks may cost for the sake of being told")
FREE = Limit("gradients_of_looks", 16.0, "chosen: two looks, spread over the time, which a short path may have besides")
LOOK = 60  # products of the look for a negative curvature before a path is said to rest


class Course(Motion):
    """B drops on one field, their step lengths, methods and spectra; keeps the rules in `motion`, all but `advance`.

    `lean`: hold a vector less, for one that somebody else holds; `ends`: a time of its own for each drop, at most t_end;
    `told`: somebody wants to know the sharpness of a single drop besides.
    """

    tells = True

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
        told: bool = True,
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
        self.looks: list[Look] = []
        self.told, self.seen = told and drops == 1 and self.field.potential, torch.zeros(drops, dtype=torch.float64)
        self.looked, self.spent, self.since = 0.0, 0.0, 0  # time of the last look told, gradients of all, tries since
        if self.field.potential:
            self.measure(self._all, solvers[-1])  # so that the sharpness is known from the start on
        if self.told:
            self.tell()
            self.spent = 0.0
        unit = torch.finfo(theta.dtype).eps
        if rtol < 10 * unit and fixed is None:
            kind = str(theta.dtype).removeprefix("torch.")
            self.end(self._all, Status(
                "stuck", f"rtol {rtol:g} is below what {kind} can tell apart.",
                f"Ask for rtol ≥ {100 * unit:.0e}, or use more digits than {kind} has.",
            ))  # fmt: skip
        self.trail: list[tuple[float, float, float]] = []  # t, ‖θ‖, ‖rate‖ of the drop that is most behind

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
        self.put(on, theta[None], there, alike=True)

    def arrived(self) -> Tensor:
        """Return which drops are where they are to end, (B,)."""
        return self.t >= self.ends

    # ── what a step is planned from ──────────────────────────────────────────────────────────────────────────────────

    def take(self, rows: Tensor) -> tuple[Tensor, Evaluation]:
        if len(rows) == len(self.t):
            return self.theta, self.here
        return self.theta[rows], rows_of(self.here, rows)

    def put(self, on: Tensor, theta: Tensor, there: Evaluation, alike: bool) -> None:
        if alike and len(on) == len(self.t):
            self.theta, self.here = theta, there
            return
        self.theta[on] = theta
        self.here.rate[on] = there.rate
        if self.here.value is not None and there.value is not None:
            self.here.value[on] = there.value

    def measure(self, rows: Tensor, solver: Solver) -> None:
        """Refresh the spectrum where it is due."""
        if not self.field.potential and not solver.stabilized and getattr(solver, "rule", None) is None:
            return
        due = self.spectrum.due(rows, idle=not solver.stabilized and getattr(solver, "rule", None) is None)
        if solver.stabilized and self.fixed is None:  # a smaller ρ saves less than a look costs where stages are few
            least = solver.reach(solver.stages(0.0) + SPARE)
            due = due[~(self.spectrum.fell(due) & (self.h[due] * self.spectrum.rho(due) <= least))]
        if self.field.potential:  # else nobody is told of it, and a look costs more than it saves
            due = torch.unique(torch.cat([due, rows[self._aged(rows, solver)]]))
        if self.told and self._old():
            self.tell()
        if len(due) == 0:
            return
        before = self.meter.equivalents
        theta, here = self.take(due)
        apply = self.meter.linearize(theta, here)
        if self.field.potential:
            self.spectrum.measure(apply, due)
            self.loads[due] = self.spans[due] * self.spectrum.top[due].clamp_min(0.0)
        else:
            self.spectrum.measure_norm(apply, due)
        self.seen[due] = self.t[due]
        self.meter.looking += self.meter.equivalents - before

    def _aged(self, rows: Tensor, solver: Solver) -> Tensor:
        """Return which drops have come so far since the last look that it is old by the flow's own time, however few the steps."""
        age, seen = self.spectrum.age[rows], self.seen[rows]
        if solver.stabilized:  # few stages are planned by few looks: none is to be older than its time
            return (age >= OLD_STEPS) & (self.t[rows] >= OLD * seen)
        return (age > 0) & (self.t[rows] >= AGES * seen)  # steps that grow with time, as on paths that go like log t

    def tell(self) -> None:
        """Look at the sharpness for the sake of being told: steps are planned as if nobody had looked."""
        before = self.meter.equivalents
        top, bottom, bound = self.spectrum.look(self.meter.linearize(self.theta, self.here))
        self.looked = float(self.t[0])
        self.looks.append(Look(self.looked, top, bottom, bound, {}))
        self.spent += self.meter.equivalents - before
        self.meter.looking += self.meter.equivalents - before

    def _old(self) -> bool:
        """Whether the last look that was told is old, and another one costs little."""
        self.since += 1
        t = float(self.t[0])
        late = t >= self.looked * OLD or t >= self.looked + APART * self.t_end
        room = LOOKING * self.meter.equivalents + FREE * t / self.t_end
        if self.since <= OLD_STEPS or not late or self.spent + WIDE * (2 if self.meter.exact else 1) > room:
            return False
        self.since = 0
        return True

    def look(self) -> None:
        """Measure the sharpness once more, where the drops have come to."""
        if self.told and self.steps:
            self.tell()

    def release(self) -> None:
        """Let go of the vectors that only a further step would need."""
        self.spectrum.warm = self.spectrum.warm[:, :0].clone()
        self.here = Evaluation(self.here.rate[:, :0].clone(), self.here.value)
        self.past_theta = None

    # ── frozen ───────────────────────────────────────────────────────────────────────────────────────────────────────

    _TENSORS = (
        "theta",
        "t",
        "h",
        "cut",
        "live",
        "repeats",
        "past_theta",
        "past_h",
        "spans",
        "loads",
        "seen",
        "first_loss",
    )

    def freeze(self) -> dict[str, Any]:
        """Return all that decides the future."""
        state: dict[str, Any] = {n: getattr(self, n) for n in self._TENSORS}
        state |= {"rate": self.here.rate, "value": self.here.value, "used": list(self.used), "trail": list(self.trail)}
        state |= {n: getattr(self, n) for n in ("steps", "looked", "spent", "since")}
        for name, part in (("spectrum", self.spectrum), ("control", self.control), ("chooser", self.chooser)):
            state |= {f"{name}.{n}": v for n, v in vars(part).items() if n != "solvers"}
        state["statuses"] = [None if s is None else (s.reason, s.text, s.remedy) for s in self.statuses]
        return state

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        for n in self._TENSORS:
            setattr(self, n, state[n])
        self.here = Evaluation(state["rate"], state["value"])
        self.used, self.trail = list(state["used"]), [tuple(x) for x in state["trail"]]
        self.steps, self.looked, self.spent, self.since = (state[n] for n in ("steps", "looked", "spent", "since"))
        self.looks = []
        for name, part in (("spectrum", self.spectrum), ("control", self.control), ("chooser", self.chooser)):
            for n in vars(part):
                if n != "solvers":
                    setattr(part, n, state[f"{name}.{n}"])
        self.statuses = [None if s is None else Status(*s) for s in state["statuses"]]


def rows_of(at: Evaluation, rows: Tensor) -> Evaluation:
    return Evaluation(at.rate[rows], None if at.value is None else at.value[rows])
