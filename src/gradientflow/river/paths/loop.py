"""The only loop: it steps whatever moves θ, keeps what is wanted, watches for ends, and can be stopped and resumed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import torch

from gradientflow.records import Status
from gradientflow.river.paths import checkpoint
from gradientflow.river.paths.arrival import Arrival
from gradientflow.river.paths.events import Event, at_start, check
from gradientflow.river.paths.keep import Sampler
from gradientflow.river.paths.motion import Motion, Piece
from gradientflow.river.paths.slide import Slide
from gradientflow.river.paths.witness import Witness


@dataclass(frozen=True, slots=True)
class Moment:
    """What a callback is told after a step. On an ensemble: of the drop that is furthest behind.

    Attributes:
        t, t_end: flow time now, and where the path is to end.
        loss: the loss, or None.
        grad_norm: ‖dθ/dt‖.
        step: length of the last step in flow time.
        stages: gradient evaluations it took.
        sharpness: largest Hessian eigenvalue as last measured; NaN where unknown.
        gradients: gradient equivalents spent so far.
        seconds: since the beginning.
        remaining: estimate of the seconds left; NaN where there is none.
        live, drops: how many drops still move, and how many there are.
        method: the solver of the last step, or the optimizer.
    """

    t: float
    t_end: float
    loss: float | None
    grad_norm: float
    step: float
    stages: int
    sharpness: float
    gradients: float
    seconds: float
    remaining: float
    live: int
    drops: int
    method: str


Callback = Callable[[Moment], Any]


@dataclass
class Limits:
    """What a run may spend, who is told, and where it is kept safe.

    Attributes:
        max_gradients: gradient equivalents at most.
        max_seconds: wall-clock seconds at most.
        callback: called after every step; a true result ends the path.
        progress: called after every step; its result is ignored.
        checkpoint: file to keep the state in.
        every: seconds between checkpoints.
        resume: begin from the checkpoint where there is one.
        asked: digest of the settings; a checkpoint of another run is refused.
    """

    max_gradients: float | None = None
    max_seconds: float | None = None
    callback: Callback | None = None
    progress: Callback | None = None
    checkpoint: File | None = None
    every: float = 10.0
    resume: bool = False
    asked: str = ""
    events: list[Event] = field(default_factory=list)


def run(motion: Motion, sampler: Sampler, witness: Witness, limits: Limits) -> None:
    """Step until every drop has arrived, met an event, got stuck, or the budget is spent."""
    began = saved = time.perf_counter()
    spent = 0.0  # seconds of the runs that this one resumes
    stored = checkpoint.read(limits.checkpoint, limits.asked) if limits.checkpoint and limits.resume else None
    slide = Slide(motion)
    if stored is not None:
        spent = _thaw(stored, motion, sampler, witness, slide)
    else:
        sampler.begin(motion)
        sampler.note(motion)
        at_start(limits.events, motion)
    piece: Piece | None = None
    arrival = Arrival() if limits.max_gradients is None and limits.max_seconds is None else None
    try:
        while bool(motion.live.any()):
            over = _over(limits, motion, time.perf_counter() - began)
            if over is not None:
                motion.end(motion.live.nonzero()[:, 0], over)
                break
            piece = motion.advance()
            sampler.note(motion)
            if piece is None:
                continue
            witness.see(piece, motion.sharpness())
            _finish(piece, motion, sampler, limits.events)
            afford = None if limits.max_gradients is None else limits.max_gradients - motion.meter.equivalents
            for row, why in slide.ends(piece, motion, afford).items():
                motion.end(torch.tensor([row]), why)
            now = time.perf_counter()
            if (limits.callback or limits.progress) and _tell(piece, motion, limits, now - began + spent):
                motion.end(motion.live.nonzero()[:, 0], _cancelled(motion, "a callback asked to stop"))
                break
            if arrival is not None and bool(motion.live.any()) and (never := arrival.never(motion, now - began)):
                motion.end(motion.live.nonzero()[:, 0], never)
                break
            piece = None  # two vectors less while the next step is made
            if limits.checkpoint and now - saved >= limits.every:
                saved = now
                checkpoint.write(
                    limits.checkpoint, limits.asked, _freeze(motion, sampler, witness, slide, now - began + spent)
                )
    except KeyboardInterrupt:
        motion.end(motion.live.nonzero()[:, 0], _cancelled(motion, "interrupted"))
    piece = None
    kept = None
    if limits.checkpoint and not all(s is not None and s.ok for s in motion.statuses):
        _revive(motion)  # a spent budget or an interrupt is no end: the next run may go on from here
        kept = copy.deepcopy(_freeze(motion, sampler, witness, slide, time.perf_counter() - began + spent))
        _restore(motion)
    sampler.close(motion)
    if witness.laws:
        witness.look(torch.arange(len(motion.t)), motion.theta)
    if limits.checkpoint:
        if kept is None:
            limits.checkpoint.unlink(missing_ok=True)
        else:
            checkpoint.write(limits.checkpoint, limits.asked, kept)
    motion.meter.began -= spent


def _finish(piece: Piece, motion: Motion, sampler: Sampler, events: list[Event]) -> None:
    """Keep the piece, and end the drops that met an event in it or have arrived."""
    ended = check(events, piece, motion) if events else {}
    for i, (t, status, theta) in ended.items():
        motion.halt(int(piece.rows[i]), t, piece.at(i, t)[0] if theta is None else theta)
        motion.end(piece.rows[i : i + 1], status)
    sampler.take(piece, motion, {i: t for i, (t, _, _) in ended.items()})
    there = motion.arrived() & motion.live
    if bool(there.any()):
        motion.end(there.nonzero()[:, 0], Status("reached", f"t = {motion.t_end:g}."))


def _over(limits: Limits, motion: Motion, seconds: float) -> Status | None:
    behind = float(motion.t[motion.live].min())
    share = behind / motion.t_end if motion.t_end else 1.0
    if limits.max_gradients is not None and motion.meter.equivalents >= limits.max_gradients:
        more = (
            f"about {motion.meter.equivalents / share:.2g} in all at the mean rate so far" if share > 0 else "many more"
        )
        return Status(
            "budget", f"{motion.meter.equivalents:.0f} gradient equivalents are spent at t = {behind:.6g} of {motion.t_end:g}.",
            f"Raise max_gradients ({more}), loosen rtol, or ask for a shorter time.",
        )  # fmt: skip
    if limits.max_seconds is not None and seconds >= limits.max_seconds:
        more = f"about {seconds / share:.2g} s in all at the mean rate so far" if share > 0 else "much more"
        return Status(
            "budget", f"{seconds:.1f} s are spent at t = {behind:.6g} of {motion.t_end:g}.",
            f"Raise max_seconds ({more}), loosen rtol, or ask for a shorter time.",
        )  # fmt: skip
    return None


def _cancelled(motion: Motion, why: str) -> Status:
    behind = float(motion.t[motion.live].min()) if bool(motion.live.any()) else motion.t_end
    return Status("cancelled", f"{why} at t = {behind:.6g} of {motion.t_end:g}; the path up to there is kept.")


def _tell(piece: Piece, motion: Motion, limits: Limits, seconds: float) -> bool:
    """Call the callbacks; return whether one asked to stop."""
    i = int(piece.t1.argmin())
    row = int(piece.rows[i])
    t = float(motion.t[motion.live].min()) if bool(motion.live.any()) else motion.t_end
    loss = motion.loss()
    moment = Moment(
        t, motion.t_end, None if loss is None else float(loss[row]), float(piece.speed1[i]),
        float(piece.t1[i] - piece.t0[i]), int(piece.stages[i]), float(motion.sharpness()[0][row]), motion.meter.equivalents,
        seconds, _remaining(piece, motion, t, seconds), int(motion.live.sum()), len(motion.t), piece.method,
    )  # fmt: skip
    if limits.progress is not None:
        limits.progress(moment)
    return bool(limits.callback(moment)) if limits.callback is not None else False


def _remaining(piece: Piece, motion: Motion, t: float, seconds: float) -> float:
    """Return the seconds left if the rest is stepped as the last step was."""
    step, cost = float((piece.t1 - piece.t0).max()), float(piece.stages.sum())
    each = seconds / max(motion.meter.equivalents, 1.0)
    return (motion.t_end - t) / step * cost * each if step > 0 else float("nan")


def _freeze(motion: Motion, sampler: Sampler, witness: Witness, slide: Slide, seconds: float) -> dict[str, Any]:
    meter = motion.meter
    counts = {n: getattr(meter, n) for n in ("gradients", "hvps", "losses", "inside", "looking")}
    return {
        "motion": motion.freeze(), "sampler": sampler.freeze(), "witness": witness.freeze(), "counts": counts,
        "slide": slide.freeze(), "seconds": seconds,
    }  # fmt: skip


def _thaw(stored: dict[str, Any], motion: Motion, sampler: Sampler, witness: Witness, slide: Slide) -> float:
    motion.thaw(stored["motion"])
    sampler.thaw(stored["sampler"])
    witness.thaw(stored["witness"])
    slide.thaw(stored["slide"])
    for name, value in stored["counts"].items():
        setattr(motion.meter, name, value)
    return float(stored["seconds"])


def _revive(motion: Motion) -> None:
    """Let the drops that a budget or an interrupt ended move again, for the checkpoint only."""
    for i, status in enumerate(motion.statuses):
        if status is not None and status.reason in ("budget", "cancelled"):
            motion.live[i] = True


def _restore(motion: Motion) -> None:
    for i, status in enumerate(motion.statuses):
        if status is not None:
            motion.live[i] = False
