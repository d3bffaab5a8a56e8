"""One solving job from beginning to end: the flow of each drop, the optimizers beside it, and what is told of them."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, Protocol

import torch
from torch import Tensor

from gradientflow import records
from gradientflow.errors import UsageError
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.drops import drops
from gradientflow.river.paths.compare import Comparison, compare
from gradientflow.river.paths.descent import descend
from gradientflow.river.paths.keep import Keep
from gradientflow.river.paths.path import Ensemble, Path
from gradientflow.river.paths.solve import flow
from gradientflow.river.portraits.axes import KINDS, plane
from gradientflow.river.portraits.plane import Plane
from gradientflow.river.portraits.portrait import portrait, sketches
from gradientflow.river.portraits.view import view
from gradientflow.river.told import tell

NUMBERED = 9  # drops that can be compared with optimizers one by one
LONG = 20_000  # steps of a descent that a user is told of before they are made
DRAWN = 80  # steps of a descent whose sharpness is measured for a figure
MOMENTS = 200  # at which the places of many drops are kept, and those of a path that a plane is made of
SAMPLING = 20.0  # seconds for the samples of a plane


class Live(Protocol):
    """Something that shows how a job goes.

    1. `path` while one is solved; 2. `busy` for work that has no measure; 3. `count` for so many of so many; 4. `say`.
    """

    def path(self, label: str) -> AbstractContextManager[Callable[[Any], None] | None]: ...
    def busy(self, text: str) -> AbstractContextManager[None]: ...
    def count(self, label: str) -> AbstractContextManager[Callable[[int, int], None] | None]: ...
    def say(self, text: str) -> None: ...


class Silent:
    """Shows nothing."""

    def path(self, label: str) -> AbstractContextManager[None]:
        return nullcontext()

    def busy(self, text: str) -> AbstractContextManager[None]:
        return nullcontext()

    def count(self, label: str) -> AbstractContextManager[None]:
        return nullcontext()

    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Rival:
    """An optimizer to set beside the flow: its class, its learning rate, its other settings."""

    maker: type[torch.optim.Optimizer]
    lr: float
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """The optimizer as its path will be labelled: "SGD lr=0.1 momentum=0.9"."""
        return f"{self.maker.__name__} lr={self.lr:g}" + "".join(f" {k}={v}" for k, v in self.settings.items())


@dataclass(kw_only=True)
class Job:
    """What is asked for.

    Attributes:
        field, target, about: what flows, what it was called by, and one line on it.
        t: flow time to end at.
        start: where the drop, or the first of many, begins; None: the field's own start.
        drops: so many of them; None: one.
        rivals: optimizers to run beside each drop's flow.
        save: file that the path will go to; a checkpoint lies beside it while it is solved.
        drawn: a figure is wanted: a field of two parameters is sampled too, and the sharpness of descents is measured.
        plane: of more parameters, the plane that is sampled, and that the paths are seen in; see ``gf.plane``. None: none.
        plane_seconds: how long sampling it may take; None: `SAMPLING`.
        Others: as for `flow`.
    """

    field: Field
    t: float
    target: str = ""
    about: str = ""
    start: list[float] | None = None
    drops: int | None = None
    rivals: list[Rival] = dataclasses.field(default_factory=list)
    seed: int = 0
    rtol: float | None = None
    atol: float | None = None
    method: str = "auto"
    save: File | None = None
    resume: bool = False
    max_gradients: int | None = None
    max_seconds: float | None = None
    certify: bool = True
    drawn: bool = False
    plane: str | None = None
    plane_seconds: float | None = None

    @property
    def checkpoint(self) -> File | None:
        """The file beside `save` that a path can be resumed from."""
        return None if self.save is None else beside(self.save)

    @property
    def crowd(self) -> bool:
        """Whether many drops are solved side by side, and told as one."""
        return self.drops is not None and not self.rivals


def beside(save: File) -> File:
    """Return the checkpoint of a path that will be saved to a file."""
    return save.with_name(save.name + ".ckpt")


@dataclass
class Solved:
    """What came out.

    Attributes:
        told: the record of everything.
        portrait: of two parameters, or of a plane, where one was asked for.
        path: the flow of the first drop; None where many drops were solved at once.
        stopped: by Ctrl-C, in whatever was being done.
    """

    told: records.Flow
    portrait: records.Portrait | None = None
    path: Path | None = None
    stopped: bool = False

    def save(self, file: File) -> None:
        """Write the flow's path."""
        if self.path is not None:
            self.path.save(file)

    @property
    def reasons(self) -> tuple[set[str], set[str]]:
        """Why paths ended, each in a word: flows, and descents."""
        flows = {s.flow.ending.reason for s in self.told.stories} | set(
            self.told.drops.reasons if self.told.drops else ()
        )
        return flows, {d.ending.reason for s in self.told.stories for d in s.descents}


def solve(job: Job, live: Live | None = None) -> Solved:
    """Carry out a job.

    Args:
        job: what is asked for.
        live: shows how it goes.

    Returns:
        What is to be told, drawn and saved. Ctrl-C ends the path that is being solved with what it has; nothing further
        is begun, and what there is comes back.

    Raises:
        UsageError: what was asked does not go together; said before anything is solved.
    """
    _check(job)
    work = _Work(job, live or Silent())
    with work.stoppable():
        return work.carried_out()


def _check(job: Job) -> None:
    size = job.field.size
    if job.start is not None and size and len(job.start) != size:
        raise UsageError(
            f"--start has {len(job.start)} numbers, but {job.field.name} has {size} parameters: "
            f"expected {size} numbers divided by commas."
        )
    if job.plane is not None:
        _check_plane(job)
    if job.drops is None:
        return
    if job.rivals and job.drops > NUMBERED:
        raise UsageError(
            f"--compare runs every optimizer from every drop, which is done for at most {NUMBERED}; --drops is {job.drops}."
        )
    if job.save is not None:
        raise UsageError(
            "--save keeps the path of one drop. Leave --drops out, or write --json FILE, which has them all."
        )


def _check_plane(job: Job) -> None:
    if job.plane not in KINDS:
        raise UsageError(f"--plane {job.plane!r}: expected one of {', '.join(KINDS)}.")
    if job.field.size in (1, 2):
        raise UsageError(
            f"--plane is a slice through many parameters; {job.field.name} has {job.field.size}. Leave it out: --plot draws all of it."
        )
    if job.plane in ("sharpest", "gradient") and not job.field.potential:
        raise UsageError(
            f"--plane {job.plane} is made of a loss's Hessian, and {job.field.name} has no loss. Take --plane pca."
        )
    if job.drops is not None:
        raise UsageError("--plane shows the path of one drop, and the optimizers beside it. Leave --drops out.")


@dataclass
class _Work:
    """A job being carried out."""

    job: Job
    live: Live
    notes: list[str] = dataclasses.field(default_factory=list)
    cancelled: bool = False
    plane: Plane | None = None

    def carried_out(self) -> Solved:
        job = self.job
        ensemble, stories = (self.many(), []) if job.crowd else (None, self.stories())
        if job.checkpoint is not None and stories and stories[0][0].status.reason not in ("cancelled", "budget"):
            job.checkpoint.unlink(missing_ok=True)
        told = tell(
            job.field, target=job.target, t=job.t, stories=stories, drops=ensemble, about=job.about, notes=self.notes
        )  # fmt: skip
        drawn = None
        if told.size == 2 and job.drawn:
            with self.live.busy("looking at the plane"):
                drawn = portrait(job.field, view(told, getattr(job.field, "box", None)))
            told.fixed = drawn.fixed
        elif self.plane is not None:
            told.portrait = drawn = self.sampled(self.plane, stories[0])
            told.notes = list(self.notes)
        return Solved(told, drawn, stories[0][0] if stories else None, stopped=self.cancelled)

    def spanned(self, path: Path) -> None:
        """Find the plane that was asked for, as soon as there is a path."""
        if self.job.plane is None or self.cancelled:
            return
        with self.kept("there is no plane"), self.live.busy("finding the plane"):
            self.plane = plane(path, self.job.plane, seed=self.job.seed)

    def sampled(self, found: Plane, story: tuple[Path, list[Path], Comparison | None]) -> records.Portrait | None:
        """Sample the plane with the shadows of all paths; stopped, it is as fine as it got."""
        drawn: records.Portrait | None = None
        if self.cancelled:
            self.notes.append("the plane was not sampled: stopped")
            return None
        seconds, lost = self.job.plane_seconds or SAMPLING, "the plane was not sampled as finely as there was time for"
        with self.kept(lost), self.live.count("sampling the plane") as progress:
            for each in sketches(story[0], plane=found, along=story[1], seconds=seconds, progress=progress):
                drawn = each
        return drawn

    @contextmanager
    def kept(self, lost: str) -> Iterator[None]:
        """A block for a picture: what was solved must not be lost over it, whether it fails or is stopped."""
        try:
            yield
        except KeyboardInterrupt:
            self.cancelled = True
            self.notes.append(f"{lost}: stopped")
        except Exception as problem:
            self.notes.append(f"{lost}: {type(problem).__name__}: {problem}")

    def stories(self) -> list[tuple[Path, list[Path], Comparison | None]]:
        """Solve drop by drop, each with its optimizers."""
        starts = [self.start()] if self.job.drops is None else list(self.scattered(self.job.drops))
        found: list[tuple[Path, list[Path], Comparison | None]] = []
        for k, begin in enumerate(starts):
            if self.cancelled:
                self.notes.append(f"drops {k + 1} to {len(starts)} were not solved: stopped")
                break
            label = f"drop {k + 1} of {len(starts)}: " if len(starts) > 1 else ""
            path = self.flow(begin, f"{label}flow")
            descents = self.descents(begin, label)
            found.append((path, descents, self.compared(path, descents)))
        return found

    def start(self) -> Tensor | None:
        return None if self.job.start is None else torch.tensor(self.job.start, dtype=self.job.field.dtype)

    def scattered(self, count: int) -> Tensor:
        """The drops; where a start is given the first of them is there."""
        starts: Tensor = drops(self.job.field, count, seed=self.job.seed)
        first = self.start()
        if first is not None:
            starts[0] = first
        return starts

    @property
    def common(self) -> dict[str, Any]:
        """What every flow is asked with."""
        j = self.job
        return {
            "method": j.method, "rtol": j.rtol, "atol": j.atol, "certify": j.certify, "seed": j.seed,
            "max_gradients": j.max_gradients, "max_seconds": j.max_seconds,
        }  # fmt: skip

    def flow(self, start: Tensor | None, label: str) -> Path:
        j = self.job
        keep = None if j.plane is None else Keep(at=Keep.early(self.job.t, MOMENTS), theta=True)
        with self.live.path(label) as progress:
            path = flow(
                j.field, j.t, start=start, keep=keep, checkpoint=j.checkpoint, resume=j.resume, progress=progress, **self.common
            )  # fmt: skip
        self.cancelled |= path.status.reason == "cancelled"
        self.spanned(path)
        return path

    def many(self) -> Ensemble:
        assert self.job.drops is not None  # a crowd
        starts = self.scattered(self.job.drops)
        keep = Keep(at=Keep.early(self.job.t, MOMENTS)) if starts.shape[1] == 2 else None
        with self.live.path(f"{len(starts)} drops") as progress:
            return flow(self.job.field, self.job.t, starts=starts, keep=keep, progress=progress, **self.common)

    def descents(self, start: Tensor | None, label: str) -> list[Path]:
        j, paths = self.job, []
        kept = None if self.plane is None else Keep(plane=self.plane)
        for one in j.rivals:
            if self.cancelled:
                self.notes.append(f"{one.label} and what comes after it were not run: stopped")
                break
            steps = j.t / one.lr
            if steps > LONG:
                count = f"{steps:,.0f}" if steps < 1e12 else f"{steps:.3g}"
                self.live.say(
                    f"{one.label} takes {count} steps to reach t = {j.t:g}; Ctrl-C ends it with what there is."
                )
            with self.live.path(label + one.label) as progress:
                path = descend(
                    j.field, one.maker, j.t, lr=one.lr, start=start, progress=progress, seed=j.seed, keep=kept,
                    sharpness_every=self.measured(one), max_gradients=j.max_gradients, max_seconds=j.max_seconds,
                    **one.settings,
                )  # fmt: skip
            self.cancelled |= path.status.reason == "cancelled"
            paths.append(path)
        return paths

    def measured(self, one: Rival) -> int:
        """How often a descent's sharpness is measured: only where it is drawn, at about `DRAWN` of its steps."""
        if not self.job.drawn or not self.job.field.potential or self.job.field.size <= 2:
            return 0
        return max(1, round(self.job.t / one.lr / DRAWN))

    def compared(self, path: Path, descents: list[Path]) -> Comparison | None:
        whole = [d for d in descents if d.status.ok or d.status.reason == "diverged"]
        for d in descents:
            if not any(d is w for w in whole):
                self.notes.append(f"{d.label} is not compared with the flow: it ended by {d.status.reason}")
        if not whole or self.cancelled or len(path.times) < 2:
            return None
        with self.live.path("comparing") as progress:
            try:
                return compare(path, *whole, progress=progress)
            except Exception as problem:  # what was solved must not be lost over a comparison
                self.notes.append(f"the comparison failed: {type(problem).__name__}: {problem}")
                return None

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Note a Ctrl-C: the path that is being solved ends with what it has, and nothing further is begun."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            self.cancelled = True
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
