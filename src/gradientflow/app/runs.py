"""The runs that a page may open, finished or still written by another process: each is read once and then followed.

A page names a run by the name of its folder, and only one of those that lie where the app was started; a path is no name.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradientflow import depth, store
from gradientflow.errors import RecordError, UsageError
from gradientflow.limits import Limit
from gradientflow.records import Note, Probe, Run, RunList, RunName, Verdict

MOST = 200  # runs that are offered
SILENT = Limit("seconds_of_silence", 20.0, "chosen: eighty times the pulse by which a watched script writes")
State = Literal["ended", "going", "silent"]
REST = 10  # times as long as judging took is waited before a run that still goes on is judged again


@dataclass(frozen=True)
class Moment:
    """A run as it stood at one moment; nothing of it changes afterwards.

    Attributes:
        version: grows with the record.
        run: what was seen.
        verdict: what it means; of a run that still goes on perhaps of a moment before.
        state: "ended"; "going"; "silent": it was killed, or writes nothing for a while.
    """

    version: int
    run: Run
    verdict: Verdict
    state: State

    def probe(self, index: int) -> Probe:
        """Return a probe.

        Raises:
            UsageError: there is no such probe.
        """
        if not 0 <= index < len(self.run.probes):
            raise UsageError(f"probe {index}: this run has {len(self.run.probes)} of them, counted from 0.")
        return self.run.probes[index]


class Seen:
    """One run that is followed.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder if folder.is_dir() else folder.parent
        self.name = self.folder.resolve().name
        self._following = store.Following(self.folder)
        self._lock = threading.Lock()
        self._verdict: Verdict | None = None
        self._replayed: float | None = None
        self._again = 0.0  # moment from which it may be judged anew
        self._judged = -1  # version

    def age(self) -> float:
        """Seconds since its record was written to."""
        return self._following.age()

    def now(self) -> Moment:
        """Return the run as it stands.

        Raises:
            RecordError: there is no run there, or nothing of it can be read.
        """
        with self._lock:
            self._following.more()
            run = self._following.run
            if run is None:
                raise RecordError(f"{self.folder} holds no run.")
            version = self._following.version
            ended = run.meta.ended is not None
            when = self._replay_time()
            due = version != self._judged and (ended or time.monotonic() >= self._again)
            if self._verdict is None or due or when != self._replayed:
                begun = time.monotonic()
                self._verdict = self._judge(run)
                self._judged, self._replayed = version, when
                self._again = time.monotonic() + REST * (time.monotonic() - begun)
            state: State = "ended" if ended else "going" if self.age() < SILENT else "silent"
            return Moment(version, run, self._verdict, state)

    def _judge(self, run: Run) -> Verdict:
        try:
            replay = store.read_replay(self.folder)
        except RecordError as problem:
            replay = None
            told = Note("replay", str(problem))
            run.notes += [told] if told not in run.notes else []
        return depth.attach(depth.judge(run), replay)

    def _replay_time(self) -> float | None:
        with contextlib.suppress(OSError):
            return (self.folder / store.REPLAY).stat().st_mtime
        return None


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
        found = {name: RunName(name, time.time() - when) for name, when in self._found().items()}
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
            return self._called
        if name not in {r.name for r in offered.runs} or self._beside is None:
            raise UsageError(f"there is no run {name!r:.80} here; a page may open those of the list by their names.")
        with self._lock:
            return self._open.setdefault(name, Seen(self._beside / name))

    def _found(self) -> dict[str, float]:
        """Names of folders with a run, and when its record was written to. A link that leads elsewhere is none of them."""
        found: dict[str, float] = {}
        if self._beside is None:
            return found
        with contextlib.suppress(OSError):
            for folder in self._beside.iterdir():
                file = folder / store.FILE
                with contextlib.suppress(OSError):
                    if not folder.is_symlink() and not file.is_symlink() and file.is_file():
                        found[folder.name] = file.stat().st_mtime
        return found
