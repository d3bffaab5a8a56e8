"""The runs that a page may open, finished or still written by another process: each is read once and then followed.

A page names a run by the name of its folder, and only one of those that lie where the app was started; a path is no name.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from gradientflow import depth, store
from gradientflow.errors import RecordError, UsageError
from gradientflow.limits import Limit
from gradientflow.records import Budget, Loss, Note, Run, RunList, RunName, Verdict, Watch
from gradientflow.report.view.moment import Moment, State
from gradientflow.report.words import one_line

MOST = 200  # runs that are offered
SILENT = Limit("seconds_of_silence", 20.0, "chosen: eighty times the pulse by which a watched script writes")
PATIENCE = 0.4  # seconds that the first answer waits for a verdict
REST = 10  # times as long as judging took is waited before a run that still goes on is judged again


class Seen:
    """One run that is followed. Judging a long one takes seconds, so that is done beside: what was seen is shown before.

    Args:
        folder: the run's folder.
        name: of a run that is one of a job's, where the job is what is offered.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder if folder.is_dir() else folder.parent
        self.name = name or one_line(self.folder.resolve().name)
        self._following = store.Following(self.folder)
        self._lock = threading.Lock()
        self._version = 0
        self._kept: dict[str, Any] = {}
        self._verdict: Verdict | None = None
        self._of: tuple[int, float | None] | None = None  # what was judged: version of the record, time of the replay
        self._judging: threading.Thread | None = None
        self._again = 0.0  # moment from which it may be judged anew

    def age(self) -> float:
        """Seconds since its record was written to."""
        return self._following.age()

    def now(self) -> Moment:
        """Return the run as it stands.

        Raises:
            RecordError: there is no run there, or nothing of it can be read.
        """
        with self._lock:
            if self._following.more():
                self._version, self._kept = self._version + 1, {}
            run = self._following.run
            if run is None:
                raise RecordError(f"{self.folder} holds no run.")
            of = (self._following.version, self._replay_time())
            rested = run.meta.ended is not None or time.monotonic() >= self._again
            if of != self._of and rested and (self._judging is None or not self._judging.is_alive()):
                self._judging = threading.Thread(target=self._judge, args=(run, of), daemon=True)
                self._judging.start()
            waiting = self._judging if self._verdict is None else None
        if waiting is not None:
            waiting.join(PATIENCE)
        with self._lock:
            state: State = "ended" if run.meta.ended is not None else "going" if self.age() < SILENT else "silent"
            verdict = self._verdict or _unjudged(run)
            return depth.moment(
                run, verdict, version=self._version, state=state, judged=self._verdict is not None, kept=self._kept
            )

    def _judge(self, run: Run, of: tuple[int, float | None]) -> None:
        begun = time.monotonic()
        try:
            replay = store.read_replay(self.folder)
        except RecordError as problem:
            replay = None
            told = Note("replay", str(problem))
            run.notes += [told] if told not in run.notes else []
        run.notes += [note for note in store.beside(self.folder, run.meta) if note not in run.notes]
        verdict = depth.attach(depth.judge(run), replay)
        with self._lock:
            self._verdict, self._of = verdict, of
            self._version, self._kept = self._version + 1, {}
            self._again = time.monotonic() + REST * (time.monotonic() - begun)

    def _replay_time(self) -> float | None:
        with contextlib.suppress(OSError):
            return (self.folder / store.REPLAY).stat().st_mtime
        return None


def _unjudged(run: Run) -> Verdict:
    """What stands in for a verdict that is still being worked out: losses, and the first way back."""
    losses = [s.loss for s in run.steps if s.loss is not None]
    verdict = Verdict(
        script=run.meta.script, steps=run.meta.steps, loss=Loss(losses[0], losses[-1]) if losses else Loss(),
        symptom="not-measured", findings=[], budget=Budget(), watch=Watch(len(run.probes)), summary="The record is being judged.",
    )  # fmt: skip
    probe = next((p for p in run.probes if p.root is not None), None)
    if probe is not None:
        verdict.budget = depth.way_at(run, verdict, probe)
    return verdict


class Runs:
    """The runs beside each other in one folder.

    Args:
        called: the run that the app was called with; its neighbours are offered too. None: those in `beside`.
        beside: a folder of runs.
    """

    def __init__(self, called: Path | None = None, beside: Path | None = None) -> None:
        self._called = Seen(called) if called is not None else None
        self._beside = self._called.folder.resolve().parent if self._called is not None else beside
        self._open: dict[str, Seen] = {}
        self._lock = threading.Lock()

    def offered(self) -> RunList:
        """Return the names of the runs, the newest first."""
        found = {name: RunName(name, time.time() - when) for name, (_, when) in self._found().items()}
        if self._called is not None:
            found.setdefault(self._called.name, RunName(self._called.name, self._called.age()))
        runs = sorted(found.values(), key=lambda r: r.age)[:MOST]
        called = self._called.name if self._called is not None else None
        if called is not None and called not in {r.name for r in runs}:
            runs = [*runs[: MOST - 1], found[called]]
        return RunList(runs, called)

    def get(self, name: str | None) -> Seen:
        """Return a run by its name; the one that the app was called with, or the newest, where none is named.

        Raises:
            UsageError: there is no run by that name here.
        """
        offered = self.offered()
        name = name or offered.called or (offered.runs[0].name if offered.runs else None)
        if name is None:
            raise UsageError("there is no run here yet. Watch a script first: gradientflow run train.py")
        if self._called is not None and name == self._called.name:
            rank = store.of_job(self._called.folder)  # (which ranks write there is seen when they have begun)
            if rank != self._called.folder:
                self._called = Seen(rank, self._called.name)
            return self._called
        folder = self._found().get(name)
        if folder is None or name not in {r.name for r in offered.runs}:
            raise UsageError(f"there is no run {name!r:.80} here; a page may open those of the list by their names.")
        with self._lock:
            return self._open.setdefault(name, Seen(folder[0], name))

    def _found(self) -> dict[str, tuple[Path, float]]:
        """Folders with a run by name, and when its record was written to. A link that leads elsewhere is none of them."""
        found: dict[str, tuple[Path, float]] = {}
        if self._beside is None:
            return found
        with contextlib.suppress(OSError):
            for folder in self._beside.iterdir():
                kept = folder if folder.is_symlink() else store.of_job(folder)
                file = kept / store.FILE
                with contextlib.suppress(OSError):
                    if not folder.is_symlink() and not file.is_symlink() and file.is_file():
                        found[one_line(folder.name)] = kept, file.stat().st_mtime
        return found
