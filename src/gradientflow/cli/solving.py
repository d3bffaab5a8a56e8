"""What `gradientflow flow` asks of the river: the flow of each drop, the optimizers beside it, and what to tell of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradientflow.cli.common import busy, say, told_on
from gradientflow.cli.optimizers import Chosen
from gradientflow.cli.target import Target
from gradientflow.errors import UsageError
from gradientflow.records import Flow, Portrait
from gradientflow.report import FlowLive

if TYPE_CHECKING:
    from torch import Tensor

    from gradientflow import river

NUMBERED = 9  # drops that can be compared with optimizers one by one
LONG = 20_000  # steps of a descent that a user is told of before they are made
DRAWN = 150  # steps of a descent whose sharpness is measured for a figure
MOMENTS = 200  # at which the places of many drops are kept, for their trails


@dataclass
class Request:
    """What the user asked for."""

    target: str
    start: list[float] | None
    optimizers: list[Chosen]
    drops: int | None
    seed: int
    rtol: float | None
    atol: float | None
    method: str
    save: Path | None
    resume: bool
    max_gradients: int | None
    max_seconds: float | None
    certify: bool
    quiet: bool
    time: float = 0.0

    @property
    def checkpoint(self) -> Path | None:
        """The file beside --save that a path can be resumed from."""
        return None if self.save is None else self.save.with_name(self.save.name + ".ckpt")

    def check(self, found: Target) -> None:
        """Refuse what does not go together, before anything is solved.

        Raises:
            UsageError: with the mend.
        """
        size = found.field.size
        if self.start is not None and size and len(self.start) != size:
            raise UsageError(
                f"--start has {len(self.start)} numbers, but {found.field.name} has {size} parameters: "
                f"expected {size} numbers divided by commas."
            )
        if self.drops is not None and self.optimizers and self.drops > NUMBERED:
            raise UsageError(
                f"--compare runs every optimizer from every drop, which is done for at most {NUMBERED}; --drops is {self.drops}."
            )
        if self.drops is not None and self.save is not None:
            raise UsageError(
                "--save keeps the path of one drop. Leave --drops out, or write --json FILE, which has them all."
            )


@dataclass
class Solved:
    """What came out.

    Attributes:
        told: the record of everything.
        portrait: the plane, where one was asked for.
        path: the flow of the first drop; None where many drops were solved at once.
    """

    told: Flow
    portrait: Portrait | None = None
    path: river.Path | None = None

    def save(self, file: Path) -> None:
        """Write the flow's path."""
        if self.path is not None:
            self.path.save(file)


@dataclass
class _Solver:
    """One request being carried out."""

    request: Request
    found: Target
    drawn: bool
    notes: list[str] = field(default_factory=list)
    cancelled: bool = False

    def flow(self, start: Tensor | None, label: str) -> river.Path:
        from gradientflow import river

        r = self.request
        with self.progress(label) as progress:
            path = river.flow(
                self.found.field, r.time, start=start, method=r.method, rtol=r.rtol, atol=r.atol, certify=r.certify,
                seed=r.seed, checkpoint=r.checkpoint, resume=r.resume, progress=progress, max_gradients=r.max_gradients,
                max_seconds=r.max_seconds,
            )  # fmt: skip
        self.cancelled |= path.status.reason == "cancelled"
        return path

    def many(self, starts: Tensor) -> river.Ensemble:
        import torch

        from gradientflow import river

        r = self.request
        times = (
            torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-5, 0, MOMENTS, dtype=torch.float64)])
            * r.time
        )
        keep = river.Keep(at=times) if starts.shape[1] == 2 else None
        with self.progress(f"{len(starts)} drops") as progress:
            return river.flow(
                self.found.field, r.time, starts=starts, method=r.method, rtol=r.rtol, atol=r.atol, certify=r.certify,
                seed=r.seed, keep=keep, progress=progress, max_gradients=r.max_gradients, max_seconds=r.max_seconds,
            )  # fmt: skip

    def descents(self, start: Tensor | None, label: str) -> list[river.Path]:
        from gradientflow import river

        r, paths = self.request, []
        for one in r.optimizers:
            if self.cancelled:
                self.notes.append(f"{one.label} and what comes after it were not run: stopped")
                break
            steps = r.time / one.lr
            if steps > LONG and not r.quiet:
                say(
                    told_on(),
                    f"{one.label} takes {steps:,.0f} steps to reach t = {r.time:g}; Ctrl-C ends it with what there is.",
                )
            with self.progress(label + one.label) as progress:
                path = river.descend(
                    self.found.field, one.maker, r.time, lr=one.lr, start=start, progress=progress, seed=r.seed,
                    sharpness_every=self.measured(one), max_gradients=r.max_gradients, max_seconds=r.max_seconds,
                    **one.settings,
                )  # fmt: skip
            self.cancelled |= path.status.reason == "cancelled"
            paths.append(path)
        return paths

    def compared(self, path: river.Path, descents: list[river.Path]) -> river.Comparison | None:
        from gradientflow import river

        whole = [d for d in descents if d.status.ok or d.status.reason == "diverged"]
        for d in descents:
            if not any(d is w for w in whole):
                self.notes.append(f"{d.label} is not compared with the flow: it ended by {d.status.reason}")
        if not whole or self.cancelled or len(path.times) < 2:
            return None
        with busy("comparing, at the steps of the optimizers", quiet=self.request.quiet):
            try:
                return river.compare(path, *whole)
            except Exception as problem:  # what was solved must not be lost over a comparison
                self.notes.append(f"the comparison failed: {type(problem).__name__}: {problem}")
                return None

    def measured(self, one: Chosen) -> int:
        """How often a descent's sharpness is measured: only where it is drawn, at about `DRAWN` of its steps."""
        if not self.drawn or not self.found.field.potential or self.found.field.size <= 2:
            return 0
        return max(1, round(self.request.time / one.lr / DRAWN))

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

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[Any], None] | None]:
        """A live line while a path is solved."""
        if self.request.quiet:
            yield None
            return
        with FlowLive(sys.stderr, label) as live:
            yield live

    def scattered(self, count: int) -> Tensor:
        """The drops; where --start is given the first of them is there."""
        import torch

        from gradientflow import river

        starts: Tensor = river.drops(self.found.field, count, seed=self.request.seed)
        if self.request.start is not None:
            starts[0] = torch.tensor(self.request.start, dtype=starts.dtype)
        return starts


def solve(request: Request, found: Target, *, drawn: bool) -> Solved:
    """Carry out a request.

    Args:
        request: what was asked for.
        found: the field.
        drawn: a figure is wanted: the plane of a field of two parameters is sampled too, and the sharpness of descents.

    Returns:
        What is to be told, drawn and saved.
    """
    work = _Solver(request, found, drawn)
    with work.stoppable():
        return _solve(work)


def _solve(work: _Solver) -> Solved:
    import torch

    from gradientflow import river

    request, found = work.request, work.found
    start = None if request.start is None else torch.tensor(request.start, dtype=found.field.dtype)
    stories: list[tuple[river.Path, list[river.Path], river.Comparison | None]] = []
    ensemble = None
    if request.drops is not None and not request.optimizers:
        ensemble = work.many(work.scattered(request.drops))
    else:
        starts = [start] if request.drops is None else list(work.scattered(request.drops))
        for k, begin in enumerate(starts):
            if work.cancelled:
                work.notes.append(f"drops {k + 1} to {len(starts)} were not solved: stopped")
                break
            label = f"drop {k + 1} of {len(starts)}: " if len(starts) > 1 else ""
            path = work.flow(begin, f"{label}flow")
            descents = work.descents(begin, label)
            stories.append((path, descents, work.compared(path, descents)))
    if request.checkpoint is not None and stories and stories[0][0].status.reason not in ("cancelled", "budget"):
        request.checkpoint.unlink(missing_ok=True)
    told = river.tell(
        found.field,
        target=request.target,
        t=request.time,
        stories=stories,
        drops=ensemble,
        about=found.about,
        notes=work.notes,
    )
    portrait = None
    if told.size == 2 and work.drawn:
        with busy("looking at the plane", quiet=request.quiet):
            portrait = river.portrait(found.field, river.view(told, getattr(found.field, "box", None)))
        told.fixed = portrait.fixed
    return Solved(told, portrait, stories[0][0] if stories else None)
