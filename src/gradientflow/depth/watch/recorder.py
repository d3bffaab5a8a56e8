"""From the watcher to the disk: what was seen goes into the store as it comes, by a pulse four times a second.

The pulse (a daemon thread) commits what is pending and redraws the live line, so a script that is killed between two
steps loses nothing that was seen before the last quarter of a second (of a slow disk: ten times what a write takes).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import threading
from collections.abc import Callable

import torch

from gradientflow.apart import apart
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.watch.memory import Memory
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.files import here
from gradientflow.records import Meta, Note, Other, Probe, Run, Step
from gradientflow.store import Store
from gradientflow.torch_internals import unseen

SOURCE_LIMIT = 400_000  # bytes of one source file that is kept
_RECENT_STEPS = 4000
_PROBES_KEPT = 60
_EITHER_END = 2  # probes, of the first and of the last, for a quick look


class Recorder:
    """The sink of a `Monitor`: writes to the store, and keeps enough in memory for a verdict while the script runs.

    Args:
        store: the run on disk, or in memory.
        script: the script as named on the command line.
        argv: the command line.
        module: run as `python -m`.
    """

    def __init__(self, store: Store | Memory, script: str, argv: list[str], module: bool = False) -> None:
        self.store = store
        self.base = here()
        self.meta = Meta(
            script=script, argv=argv, cwd=str(self.base),
            started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            python=platform.python_version(), torch=str(torch.__version__), module=module,
        )  # fmt: skip
        self.recent = Run(self.meta)
        self._monitor: Monitor | None = None
        self._sources: set[str] = set()

    def attach(self, monitor: Monitor) -> None:
        """Take the description of parameters and optimizers from a monitor."""
        self._monitor = monitor
        self.meta.params = monitor.registry.params
        self.describe()

    def step(self, step: Step) -> None:
        self.store.step(step)
        self.recent.steps.append(step)
        if len(self.recent.steps) > _RECENT_STEPS:
            del self.recent.steps[1000 : _RECENT_STEPS // 2 : 2]

    def add(self, record: Other) -> None:
        self.store.add(record)
        if isinstance(record, Probe):
            self.recent.probes.append(record)
            if len(self.recent.probes) > _PROBES_KEPT:
                del self.recent.probes[_PROBES_KEPT // 2]
            for file in (
                {op.file for op in record.ops}
                | {op.made_file for op in record.ops}
                | {p.init_file for p in self.meta.params}
            ):
                self.source(file)

    def note(self, kind: str, text: str) -> None:
        """Add something to be told at the end."""
        note = Note(kind, text, self._monitor.elapsed if self._monitor else 0.0)
        self.store.add(note)
        self.recent.notes.append(note)

    def source(self, file: str | None) -> None:
        """Keep the text of a file once."""
        if file is None or file in self._sources or file.startswith("<"):
            return
        self._sources.add(file)
        try:
            path = self.base / file
            if path.stat().st_size <= SOURCE_LIMIT:
                self.store.source(file, apart(lambda alone: path.read_text(encoding="utf-8", errors="replace")))
        except OSError as problem:
            let_through(problem)

    def describe(self) -> None:
        """Write the run's description as it is now."""
        monitor = self._monitor
        if monitor is not None:
            self.meta.elapsed = monitor.elapsed
            self.meta.overhead = monitor.shield.spent
            self.meta.steps = monitor.steps
            self.meta.backwards = monitor.backwards
            self.meta.optimizers = [w.record for w in monitor.optimizers]
            self.meta.unit = monitor.unit
            self.meta.shared_out = monitor.optimizers.shared_out
            self.meta.compiled = monitor.compiled
            self.meta.compared = monitor.rewriting.compared
            self.meta.late = monitor.window.late
            self.meta.transformed = monitor.tracer.under_transform
            self.meta.warned, self.meta.warned_more = monitor.warnings.found, monitor.warnings.more
            with unseen():  # a tensor subclass of the script's must not see us look
                for index, t in monitor.registry.live():
                    self.meta.params[index].requires_grad = bool(t.requires_grad)
        self.store.meta(self.meta)

    def glance(self) -> Run:
        """Return enough of the run for a quick look at how it is going: the first probes and the last."""
        probes = self.recent.probes
        few = probes if len(probes) <= 2 * _EITHER_END else [*probes[:_EITHER_END], *probes[-_EITHER_END:]]
        return Run(self.meta, list(self.recent.steps), [], few, list(self.recent.notes))

    def finish(self) -> Run:
        """Write the description for the last time and return the whole run."""
        self.describe()
        return self.store.run(self.meta, self.recent)


class Pulse:
    """Calls `beat` every quarter of a second until stopped; never in a forked child."""

    def __init__(self, beat: Callable[[], None], interval: float = 0.25) -> None:
        self._beat = beat
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gradientflow-pulse", daemon=True)
        self._pid = os.getpid()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the last beat."""
        self._stop.set()
        if os.getpid() == self._pid:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            with contextlib.suppress(Exception):
                self._beat()
