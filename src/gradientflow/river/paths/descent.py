"""The motion of an optimizer: any `torch.optim` optimizer as a map on θ, on the flow's clock and in the flow's loop."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.records import Status
from gradientflow.river.fields.base import Evaluation, Field, as_field
from gradientflow.river.paths import checkpoint as disk
from gradientflow.river.paths.door import admitted, end_time, number
from gradientflow.river.paths.events import Event, as_event
from gradientflow.river.paths.keep import Keep, Sampler
from gradientflow.river.paths.loop import Callback, Limits, run
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.motion import Look, Motion, Piece
from gradientflow.river.paths.path import Path
from gradientflow.river.paths.solve import Start, starting_points
from gradientflow.river.paths.witness import Witness
from gradientflow.river.solvers.base import lengths
from gradientflow.river.solvers.spectrum import Spectrum

INNER = "preconditioned_sharpness"
Optimizer = torch.optim.Optimizer
Maker = type[Optimizer] | Callable[[Iterable[Tensor]], Optimizer]
Schedule = Callable[[Optimizer], Any]
IDLE = Limit(
    "steps_without_time", 100.0, "chosen: a schedule that begins at 0 rises at once, one that warms up by epochs soon"
)
RUNAWAY = Limit("size_over_first", 1e12, "chosen: no way back from there: float64 has four digits left of the start")


class Descent(Motion):
    """One optimizer on one field; keeps the rules in `motion`. A step advances t by the learning rate it is made with."""

    def __init__(
        self, meter: Meter, theta: Tensor, t_end: float, make: Callable[[list[Tensor]], Optimizer],
        schedule: Schedule | None, *, measure: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.meter, self.field, self.t_end = meter, meter.field, t_end
        parts = self.field.parameters(theta[0])
        whole = sum(p.numel() for p in parts.values()) == theta.shape[1]
        self.shapes = [tuple(p.shape) for p in parts.values()] if whole else [(theta.shape[1],)]
        self.leaves = [p.clone().requires_grad_() for p in self._cut(theta[0])]
        self.optimizer = make(self.leaves)
        self.schedule = None if schedule is None else schedule(self.optimizer)
        self.theta = theta.clone()
        self.here = admitted(meter(self.theta), self.theta, self.field.name)
        self.t = torch.zeros(1, dtype=torch.float64)
        self.live = torch.ones(1, dtype=torch.bool)
        self.statuses: list[Status | None] = [None]
        self.measure = measure
        self.steps = self.idle = 0  # idle: the last steps that did not move the clock
        self.spectrum = Spectrum(1, theta.shape[1], theta, seed=seed)
        self.inner = Spectrum(1, theta.shape[1], theta, seed=seed)  # of the preconditioned Hessian
        self.scale = max(float(theta.norm()), 1.0)
        self._row = torch.zeros(1, dtype=torch.int64)
        self.looks: list[Look] = []

    def _cut(self, theta: Tensor) -> list[Tensor]:
        sizes = [int(torch.Size(s).numel()) for s in self.shapes]
        return [p.view(s).detach() for p, s in zip(torch.split(theta, sizes), self.shapes, strict=True)]

    def peek(self, piece: Piece, i: int, t: float) -> tuple[Tensor, float]:
        """Return the end of the piece: between two steps there is no descent."""
        return piece.theta1[i], float("nan") if piece.value1 is None else float(piece.value1[i])

    def least(self, row: int) -> float:
        """Return the smallest eigenvalue as last measured."""
        return float(self.spectrum.bottom[row])

    def halt(self, row: int, t: float, theta: Tensor) -> None:
        """Leave the descent at the step at which the event happened: between two steps there is no descent."""

    def advance(self) -> Piece | None:
        """Make one step of the optimizer."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        if self._stands_still(rate):
            more = (
                "a schedule that stays above 0 until t"
                if self.schedule is not None
                else "a larger lr, or a shorter time"
            )
            self.end(self._row, Status("stuck", f"the learning rate is {rate:g} at step {self.steps}, t = {float(self.t):g} of {self.t_end:g}: "
                                       "the clock stands still.", f"Give {more}."))  # fmt: skip
            return None
        if self.measure and self.steps % self.measure == 0:
            self.look()
        before, here = self.theta, self.here
        after = self._step(rate)
        there = self.meter(after)
        self.steps += 1
        t0 = self.t.clone()
        self.t = t0 + rate
        if abs(float(self.t_end - self.t)) < 1e-9 * rate:  # k·lr summed up, not multiplied: t would just miss the end
            self.t = torch.full_like(self.t, self.t_end)
        self.theta, self.here = after, there
        size = float(after.norm())
        if not bool(torch.isfinite(there.rate).all()) or not size < RUNAWAY * self.scale:
            self.end(self._row, Status("diverged", f"at step {self.steps} (t = {float(self.t):.6g}) ‖θ‖ is {size:.3g}.",
                                       "Take a smaller learning rate: descent is stable below 2/λ."))  # fmt: skip
        one = torch.ones(1, dtype=torch.int64)
        load = rate * self.spectrum.top / 2.0
        work = rate * lengths(here.rate).square()
        return Piece(
            self._row, t0, self.t.clone(), before, after, None, None, here.value, there.value, lengths(here.rate),
            lengths(there.rate), work, load, one, "",
        )  # fmt: skip

    def _stands_still(self, rate: float) -> bool:
        """Whether the clock goes no further: at once where the rate stays, and after some steps where a schedule may raise it."""
        if float(self.t) + rate > float(self.t):
            self.idle = 0
            return False
        self.idle += 1
        return self.schedule is None or self.idle > IDLE

    def look(self) -> None:
        """Measure the sharpness, and that of P^−½ H P^−½ where the optimizer divides its steps by a P of its own."""
        if not self.field.potential or not bool(torch.isfinite(self.here.rate).all()):
            return
        before, s = self.meter.equivalents, self.spectrum
        apply = self.meter.linearize(self.theta, self.here)
        s.measure(apply, self._row)  # where the next look begins
        self.looks.append(Look(float(self.t[0]), *s.look(apply), {}))
        scale = self._preconditioner()
        if scale is not None:
            root = scale.rsqrt()
            self.inner.measure(lambda v: apply(v * root).mul_(root), self._row)
            self.looks[-1].more[INNER] = self.inner.look(lambda v: apply(v * root).mul_(root))[0]
        self.meter.looking += self.meter.equivalents - before

    def _preconditioner(self) -> Tensor | None:
        """Return P = √v̂ + ε of Adam, RMSProp and their kin, shape (1, P); None before the first step, and for others."""
        group = self.optimizer.param_groups[0]
        parts = []
        for leaf in self.leaves:
            state = self.optimizer.state.get(leaf, {})
            second = state.get("exp_avg_sq", state.get("square_avg"))
            if second is None:
                return None
            if "betas" in group and "step" in state:
                second = second / (1.0 - group["betas"][1] ** float(state["step"]))
            parts.append((second.sqrt() + group.get("eps", 0.0)).reshape(-1))
        return torch.cat(parts)[None].to(self.theta).clamp_min(1e-30)

    def measured(self) -> list[str]:
        """Return the name of the preconditioned sharpness, where it is measured."""
        return [INNER] if self.measure else []

    def _step(self, rate: float) -> Tensor:
        """Hand the gradient to the optimizer, let it step, and read θ back."""
        for leaf, point, slope in zip(self.leaves, self._cut(self.theta[0]), self._cut(self.here.rate[0]), strict=True):
            leaf.data.copy_(point)
            leaf.grad = slope.neg()

        asked = False  # the field: what fails in there is its own

        def closure() -> Tensor:
            nonlocal asked
            asked = True
            theta = torch.cat([p.detach().reshape(-1) for p in self.leaves])[None]
            at = self.here if torch.equal(theta, self.theta) else self.meter(theta)
            for leaf, slope in zip(self.leaves, self._cut(at.rate[0]), strict=True):
                leaf.grad = slope.neg()
            asked = False
            return torch.zeros(()) if at.value is None else at.value[0].clone()

        try:
            self.optimizer.step(closure)  # type: ignore[arg-type]  # a tensor, as the closures in PyTorch's own documents
        except Exception as problem:
            if asked:
                raise
            raise UsageError(
                f"{type(self.optimizer).__name__} failed at step {self.steps}: {problem} It was given the gradient of all "
                f"{self.theta.shape[1]} parameters, dense, in the model's own shapes. Choose an optimizer that takes it, such "
                "as SGD or Adam."
            ) from problem
        if self.schedule is not None:
            self.schedule.step()
        return torch.cat([p.detach().reshape(-1) for p in self.leaves])[None].to(self.theta)

    def freeze(self) -> dict[str, Any]:
        """Return all that decides the future."""
        state: dict[str, Any] = {"theta": self.theta, "rate": self.here.rate, "value": self.here.value, "t": self.t,
                                 "live": self.live, "steps": self.steps, "idle": self.idle, "optimizer": self.optimizer.state_dict()}  # fmt: skip
        state["schedule"] = None if self.schedule is None else self.schedule.state_dict()
        for name in ("spectrum", "inner"):
            state |= {f"{name}.{n}": v for n, v in vars(getattr(self, name)).items()}
        return copy.deepcopy(state)

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        self.theta, self.t, self.live, self.looks = state["theta"], state["t"], state["live"], []
        self.steps, self.idle = state["steps"], state["idle"]
        self.here = Evaluation(state["rate"], state["value"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        for name in ("spectrum", "inner"):
            for n in vars(getattr(self, name)):
                setattr(getattr(self, name), n, state[f"{name}.{n}"])


def descend(
    field: Field | Callable[[Tensor], Tensor],
    optimizer: Maker,
    t: float,
    *,
    lr: float | None = None,
    schedule: Schedule | None = None,
    start: Start | None = None,
    keep: Keep | None = None,
    events: Sequence[Event | Callable[[Tensor], Any]] = (),
    callback: Callback | None = None,
    progress: Callback | None = None,
    max_gradients: float | None = None,
    max_seconds: float | None = None,
    checkpoint: str | File | None = None,
    resume: bool = False,
    sharpness_every: int = 0,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Run an optimizer on a field's full gradient, on the flow's clock: a step with learning rate η advances t by η.

    θ_{k+1} = optimizer(θ_k, ∇L(θ_k)), t_k = Σ η. The optimizer is PyTorch's own, or any with its interface, on leaves of the
    model's own shapes; the model itself is not touched.

    Args:
        field: as for `flow`; it must have a loss, or at least a rate (then −rate is what the optimizer is given).
        optimizer: a class, such as ``torch.optim.Adam``, or a function from the parameters to an optimizer.
        t: flow time to end at; the last step is the one that reaches it.
        lr: learning rate η, in flow time; the class's own default when left out.
        schedule: a function from the optimizer to a learning-rate scheduler, stepped after every step.
        start: where to begin; the field's own start when left out.
        keep, events, callback, progress, max_gradients, max_seconds, checkpoint, resume: as for `flow`.
        sharpness_every: measure the largest Hessian eigenvalue every so many steps, and at the end (about nine gradients
            each); 0: never. ``path.sharpness`` is NaN at other steps. For Adam, RMSProp and their kin also that of the preconditioned Hessian, in ``kept["preconditioned_sharpness"]``.
        seed: of the start vector of the Lanczos iteration.
        settings: handed to the optimizer's class, as ``momentum=0.9``.

    Returns:
        a `Path` of kind "descent". Its status is "diverged" where θ ran away.

    Raises:
        FieldError: field or starting point are not what they must be.
        UsageError: the optimizer does not take these settings.

    Source:
        the clock: Elkabetz & Cohen 2021, §2 (gradient descent as Euler's method for gradient flow).

    Example:
        >>> gd = descend(lambda w: 0.5 * (w**2).sum(), torch.optim.SGD, t=1.0, lr=0.1, start=[1.0])
        >>> round(float(gd.final[0]), 6), len(gd) - 1
        (0.348678, 10)
    """
    field = as_field(field)
    t = end_time(t)
    lr = None if lr is None else number(lr, "lr is the learning rate: expected a number")
    theta = starting_points(field, start, None)
    make, name = _maker(optimizer, lr, settings)
    said = {
        "t": float(t),
        "optimizer": name,
        "lr": lr,
        "field": field.name,
        "seed": seed,
        "scheduled": schedule is not None,
        **{k: repr(v) for k, v in settings.items()},
    }
    keep = keep or Keep()
    limits = Limits(
        max_gradients, max_seconds, callback, progress, None if checkpoint is None else File(checkpoint), resume=resume,
        events=[as_event(e) for e in events],
    )  # fmt: skip
    disk.ready(limits.checkpoint, resume=resume)
    meter = Meter(field, theta[0])
    motion = Descent(meter, theta, float(t), make, schedule, measure=sharpness_every, seed=seed)
    limits.asked = disk.fingerprint(said | keep.asked(), theta, motion.here.rate)
    witness, sampler = Witness(field, motion), Sampler(keep, theta)
    run(motion, sampler, witness, limits)
    if sharpness_every:
        motion.look()
        sampler.note(motion)
    table = sampler.arrays()
    if bool(table["loss"].isnan().all()):
        table["loss"] = None
    said["lr"] = float(motion.optimizer.param_groups[0]["lr"]) if lr is None and schedule is None else lr
    own = motion.optimizer.param_groups[0]["lr"] if lr is None else lr
    extra = "".join(f" {k}={v}" for k, v in settings.items())
    return Path(
        label=f"{name} lr={float(own):g}{extra}", kind="descent", method=name, start=theta[0], final=motion.theta[0].clone(),
        cost=meter.cost(), status=motion.statuses[0] or Status("cancelled"), settings=said,
        recipe={"optimizer": optimizer, "t": t, "lr": lr, "schedule": schedule, "seed": seed, **settings},
        field=field, **table,
    )  # fmt: skip


def again(path: Path, keep: Keep, *, sharpness_every: int = 0, progress: Callback | None = None) -> Path:
    """Run a descent once more, from the same start with the same optimizer, keeping something else."""
    if path.field is None or path.recipe is None:
        raise UsageError(
            "this descent was read from a file and cannot be run again; keep its points: keep=gf.Keep(theta=True)."
        )
    recipe = path.recipe | {"t": float(path.times[-1])}  # a spent budget ended it: the same steps, and no more
    return descend(
        path.field, start=path.start, keep=keep, sharpness_every=sharpness_every, progress=progress, **recipe
    )  # fmt: skip


def _maker(
    optimizer: Maker, lr: float | None, settings: dict[str, Any]
) -> tuple[Callable[[list[Tensor]], Optimizer], str]:
    """Return how to make the optimizer, and its name."""
    name = getattr(optimizer, "__name__", type(optimizer).__name__).replace("<lambda>", "optimizer")
    if not callable(optimizer):
        raise UsageError(f"expected an optimizer class, such as torch.optim.SGD, got {optimizer!r}.")
    given = settings | ({} if lr is None else {"lr": lr})
    if isinstance(optimizer, type):
        known = [p for p in inspect.signature(optimizer).parameters if p not in ("self", "params")]
        wrong = [k for k in given if k not in known]
        if wrong:
            raise UsageError(f"{name} has no setting {', '.join(wrong)}. It knows: {', '.join(known)}.")

    def make(leaves: list[Tensor]) -> Optimizer:
        try:
            made = optimizer(leaves, **given)
        except (TypeError, ValueError) as problem:
            raise UsageError(f"{name} could not be made with {given or 'its defaults'}: {problem}.") from problem
        return made

    return make, name
