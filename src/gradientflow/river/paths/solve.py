"""`flow`: the door to the solvers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path as File
from typing import Any, overload

import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.records import Status
from gradientflow.river.fields.base import COMPLEX, Field, as_field, as_point
from gradientflow.river.fields.kinks import kinks_of
from gradientflow.river.paths import checkpoint as disk
from gradientflow.river.paths import floor, trust
from gradientflow.river.paths.door import end_time, number
from gradientflow.river.paths.events import Event, as_event
from gradientflow.river.paths.integrate import Flow
from gradientflow.river.paths.keep import Keep, Sampler
from gradientflow.river.paths.loop import Callback, Limits, run
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.path import Certificate, Certificates, Ensemble, Path
from gradientflow.river.paths.witness import Witness
from gradientflow.river.solvers import candidates

Start = Sequence[float] | Tensor
STEP = "step is a length of flow time: expected a number above 0"
RTOL = "rtol is the relative error of a step: expected a number between 0 and 1"
ATOL = "atol is the absolute error of a step: expected 0 or more"
EXACT = 1e-6  # rtol below which steps end at the moments asked for: the cubic between two long ones would spoil them


@overload
def flow(
    field: Field | Callable[[Tensor], Tensor], t: float, *, start: Start | None = None, starts: None = None,
    method: str = "auto", rtol: float | None = None, atol: float | None = None, step: float | None = None,
    keep: Keep | None = None, events: Sequence[Event | Callable[[Tensor], Any]] = (), callback: Callback | None = None,
    progress: Callback | None = None, max_gradients: float | None = None, max_seconds: float | None = None,
    checkpoint: str | File | None = None, resume: bool = False, certify: bool = True, seed: int = 0,
) -> Path: ...  # fmt: skip
@overload
def flow(
    field: Field | Callable[[Tensor], Tensor], t: float, *, start: None = None, starts: Tensor | Sequence[Start],
    method: str = "auto", rtol: float | None = None, atol: float | None = None, step: float | None = None,
    keep: Keep | None = None, events: Sequence[Event | Callable[[Tensor], Any]] = (), callback: Callback | None = None,
    progress: Callback | None = None, max_gradients: float | None = None, max_seconds: float | None = None,
    checkpoint: str | File | None = None, resume: bool = False, certify: bool = True, seed: int = 0,
) -> Ensemble: ...  # fmt: skip
def flow(
    field: Field | Callable[[Tensor], Tensor],
    t: float,
    *,
    start: Start | None = None,
    starts: Tensor | Sequence[Start] | None = None,
    method: str = "auto",
    rtol: float | None = None,
    atol: float | None = None,
    step: float | None = None,
    keep: Keep | None = None,
    events: Sequence[Event | Callable[[Tensor], Any]] = (),
    callback: Callback | None = None,
    progress: Callback | None = None,
    max_gradients: float | None = None,
    max_seconds: float | None = None,
    checkpoint: str | File | None = None,
    resume: bool = False,
    certify: bool = True,
    seed: int = 0,
) -> Path | Ensemble:
    """Solve dθ/dt = f(θ) from a starting point: for a loss, the gradient flow dθ/dt = −∇L(θ).

    Gradient descent with learning rate η is Euler's method for it: k steps end near flow time t = kη.

    Args:
        field: a `LossField`, `Potential`, `VectorField` or any other field; a plain function of θ that returns a scalar is
            taken for a loss.
        t: flow time to end at, above 0.
        start: where to begin, P numbers or a tensor of shape (P,); the field's own start (for a model its present
            parameters) when left out.
        starts: many starting points, shape (B, P): solves them side by side and returns an `Ensemble`.
        method: "auto" switches between an explicit and a stabilized method by cost, and says so in ``notes``; on losses with
            kinks (ReLU, max pooling) it is "rkmc2" down to rtol 1e-5. Or "rkc2", "rkmc2", "tsrkc3" (stabilized, orders 2, 2, 3), "dp54", "dp87"
            (explicit, orders 5, 8), "rk4", "euler" (baselines with h = 1/λ and 1/(2λ)).
        rtol: relative error a step may make, of ‖θ‖. Default 1e-3.
        atol: absolute error a step may make, per parameter. Default rtol/1000.
        step: fixed step length in flow time, without error control.
        keep: what to keep along the path; see `Keep`.
        events: where to stop earlier; see `SteadyState`, `LossTarget`, `LeavesBall`, `When`, or a function of θ that is
            positive until the path should end.

    Other arguments, less frequently used:
        callback: called with a `Moment` after every step; a true result ends the path.
        progress: called with a `Moment` after every step.
        max_gradients: gradient equivalents to spend at most; the path so far is returned with status "budget".
        max_seconds: the same in seconds.
        checkpoint: file to keep the state in while solving; removed when the path has arrived.
        resume: go on from the checkpoint where there is one; bit for bit the path that was never interrupted.
        certify: check the path, and measure its error by a second run at a tighter tolerance. What that run costs, as a rule
            more than the path, is in ``cost.checking``.
        seed: of the start vector of the Lanczos iteration.

    Returns:
        a `Path`, or an `Ensemble` where `starts` is given. A path that could not be finished is returned too: its
        ``status`` says why, and what to change.

    Raises:
        FieldError: field or starting point are not what they must be.
        UsageError: an argument is out of range.

    Source:
        Sommeijer, Shampine & Verwer 1998 (RKC); Faleichik & Moisa 2026 (RKMC); Dormand & Prince 1980; Prince & Dormand 1981.

    Example:
        >>> path = flow(lambda w: 0.5 * (w[0] * w[1] - 1) ** 2, t=20.0, start=[1.9, -1.2])
        >>> [round(x, 2) for x in path.final.tolist()], path.certificates.ok
        ([1.6, 0.62], True)
    """
    field = as_field(field)
    t = end_time(t)
    rtol, atol = _tolerances(rtol, atol)
    step = None if step is None else number(step, STEP)
    keep = keep or Keep()
    _together(t, step, start, starts, keep)
    if keep.sharpness and not field.potential:
        raise UsageError(
            f"Keep(sharpness=…): {field.name} has no loss, and so no Hessian whose eigenvalues could be kept."
        )
    theta = starting_points(field, start, starts)
    kinked = method == "auto" and bool(kinks_of(field, theta[:1]))
    solvers = candidates(method, rtol, potential=field.potential, drops=len(theta), kinked=kinked)
    settings = {
        "t": float(t),
        "rtol": rtol,
        "atol": atol,
        "method": method,
        "step": step,
        "seed": seed,
        "field": field.name,
    }
    limits = Limits(
        max_gradients, max_seconds, callback, progress, None if checkpoint is None else File(checkpoint), resume=resume,
        events=[as_event(e) for e in events],
    )  # fmt: skip
    disk.ready(limits.checkpoint, resume=resume)
    sampler = Sampler(keep if starts is None else keep.gridded(float(t)), theta)
    stops = keep.times if (rtol < EXACT if keep.exact is None else keep.exact) else None
    motion = Flow(
        Meter(field, theta[0]), theta, float(t), solvers, rtol, atol, seed=seed, fixed=step, stops=stops,
        told=keep.sharpness != 0,
    )  # fmt: skip
    many = {"many": starts is not None}  # other data begin otherwise
    limits.asked = disk.fingerprint(settings | keep.asked() | many, theta, motion.here.rate)
    witness = Witness(field, motion)
    run(motion, sampler, witness, limits)
    if starts is None:
        motion.look()
        sampler.note(motion)
    ends = _Ends(motion, witness, settings, field, theta, limits, certify=certify)
    return ends.path(sampler) if starts is None else ends.ensemble(sampler)


def _together(t: float, step: float | None, start: object, starts: object, keep: Keep) -> None:
    """Refuse what does not go together.

    Raises:
        UsageError: with the mend.
    """
    if step is not None and not step > 0:
        raise UsageError(f"{STEP}, got {step!r}.")
    if start is not None and starts is not None:
        raise UsageError("give start= for one drop or starts= for many, not both.")
    if starts is not None and keep.measures:
        raise UsageError(
            "Keep(functions=…) and Keep(plane=…) are for single paths; on an ensemble keep the points (theta=True) and apply them after."
        )
    if starts is not None and keep.sharpness:
        raise UsageError("Keep(sharpness=…) is for single paths; of an ensemble ask gf.sharpness(field, point).")
    if keep.times is not None and not (float(keep.times[0]) >= 0 and float(keep.times[-1]) <= t * (1 + 1e-12)):
        raise UsageError(
            f"Keep(at=…) asks for flow times from {float(keep.times[0]):g} to {float(keep.times[-1]):g}; the path goes from 0 to {t:g}."
        )


def _tolerances(rtol: float | None, atol: float | None) -> tuple[float, float]:
    rtol = 1e-3 if rtol is None else number(rtol, RTOL)
    if not 0 < rtol < 1:
        raise UsageError(f"{RTOL}, got {rtol!r}.")
    atol = 1e-3 * rtol if atol is None else number(atol, ATOL)
    if not (atol >= 0 and math.isfinite(atol)):
        raise UsageError(f"{ATOL}, got {atol!r}.")
    return rtol, atol


def starting_points(field: Field, start: Start | None, starts: Tensor | Sequence[Start] | None) -> Tensor:
    """Return the starting points, shape (B, P), in the field's dtype, checked against the field's size."""
    own = field.start()
    if starts is not None:
        rows = starts if isinstance(starts, Tensor) else _stacked(starts)
        if rows.is_complex():
            raise FieldError(COMPLEX)
        if rows.dim() != 2 or len(rows) == 0:
            raise FieldError(f"starts= wants shape (drops, parameters), at least one drop; got {tuple(rows.shape)}.")
        theta = rows.detach().clone()
    elif start is not None:
        theta = as_point(start)[None]
    elif own is not None:
        theta = own[None].clone()
    else:
        raise FieldError(f"{field.name} has no starting point of its own; pass start=[…].")
    size = field.size or (own.numel() if own is not None else 0)
    lift = getattr(field, "lift", None)
    if size and theta.shape[1] != size and lift is not None and theta.shape[1] == field.base.size:  # type: ignore[attr-defined]
        theta = lift(theta)  # a momentum or Adam flow carries more than θ; from rest
    if size and theta.shape[1] != size:
        raise FieldError(
            f"{field.name} has {size} parameters; the starting point has {theta.shape[1]}. Expected shape ({size},)."
        )
    if not theta.is_floating_point():
        theta = theta.double()
    if size:
        theta = theta.to(dtype=field.dtype, device=field.device)
    if not bool(torch.isfinite(theta).all()):
        raise FieldError(
            f"the starting point has {int((~torch.isfinite(theta)).sum())} components that are not finite."
        )
    return theta


def _stacked(starts: Sequence[Start]) -> Tensor:
    """Return points as rows, (B, P), of the dtype of the first."""
    if any(isinstance(s, (int, float)) or getattr(s, "ndim", None) == 0 for s in starts):
        raise FieldError("starts= wants shape (drops, parameters): a list of points; got a list of numbers.")
    rows = [as_point(s) for s in starts]
    if len({len(row) for row in rows}) > 1:
        told = ", ".join(str(len(row)) for row in rows[:6])
        raise FieldError(f"starts= wants points of one length; got {told} numbers.")
    return torch.stack(rows) if rows else torch.empty(0, 0)


def notes(motion: Flow) -> list[str]:
    """Return what a reader of the path should know."""
    said = list(getattr(motion.field, "notes", []))
    if motion.chooser.switches:
        times = f"{motion.chooser.switches} time{'s' if motion.chooser.switches > 1 else ''}"
        said.append(f"auto switched method {times}, by cost: {' and '.join(motion.used)} were used")
    arrived = motion.statuses[0] is not None and motion.statuses[0].ok
    if (
        arrived
        and not motion.field.potential
        and len(motion.t) == 1
        and motion.steps > 50
        and not motion.solvers[0].stabilized
    ):
        motion.spectrum.measure_norm(
            motion.meter.linearize(motion.theta, motion.here), torch.zeros(1, dtype=torch.int64)
        )
        mean = float(motion.t[0]) / motion.steps
        load = mean * float(motion.spectrum.top[0]) / 1.2 / max(motion.solvers[0].reach(0), 1e-300)
        if load > 0.7:
            said.append(
                f"stiff: the steps are as long as {motion.method} is stable for ({load:.1f} of it), not as accuracy "
                "would allow. If the Jacobian's eigenvalues are real, method='rkc2' takes far fewer"
            )
    return said


class _Ends:
    """What is known once the drops have ended: statuses, checks, costs; and the two records it is told in."""

    def __init__(
        self, motion: Flow, witness: Witness, settings: dict[str, Any], field: Field, theta: Tensor, limits: Limits,
        *, certify: bool,
    ) -> None:  # fmt: skip
        self.motion, self.witness = motion, witness
        self.statuses = [s or Status("cancelled") for s in motion.statuses]
        self.loss, self.speed = motion.loss(), motion.speed()
        own = motion.meter.equivalents
        said = notes(motion)
        found: list[Certificate] = []
        if certify:
            found, remarks = trust.checked(motion, witness, settings, field, theta, limits)
            said += remarks
        self.common: dict[str, Any] = {
            "method": motion.method, "start": theta, "final": motion.theta.clone(), "certificates": Certificates(found),
            "cost": motion.meter.cost(checking=motion.meter.equivalents - own), "notes": said, "settings": settings,
            "field": field,
        }  # fmt: skip

    def path(self, sampler: Sampler) -> Path:
        """Return the path of a single drop, with all columns."""
        table = sampler.arrays()
        if table["loss"].isnan().all():
            table["loss"] = None
        floors = self.witness.floor.at(table["times"])
        if floors is not None:
            table["loss_floor"], table["grad_floor"] = floors
            rtol = float(self.motion.rtol)
            self.common["notes"] += filter(
                None, [floor.said(table["times"], table["loss"], table["grad_norm"], floors, rtol)]
            )
        own = self.common | {n: self.common[n][0] for n in ("start", "final")}
        own["settings"] = own["settings"] | {"steps": int(sampler.steps[0])}
        return Path(label="flow", kind="flow", status=self.statuses[0], **own, **table)

    def ensemble(self, sampler: Sampler) -> Ensemble:
        """Return the paths of many drops at common times."""
        assert sampler.grid is not None  # common times
        values = sampler.column("loss")
        return Ensemble(
            times=sampler.grid, values=None if bool(values.isnan().all()) else values, rates=sampler.column("grad_norm"),
            ends=self.motion.t.clone(), loss=self.loss, grad_norm=self.speed, steps=sampler.steps, statuses=self.statuses,
            theta=sampler.theta, **self.common,
        )  # fmt: skip
