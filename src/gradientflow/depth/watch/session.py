"""One watched run from beginning to end: the script, the watcher, the record, the verdict."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gradientflow.depth.causes import judge
from gradientflow.depth.probe.frames import set_base
from gradientflow.depth.watch.isometry import IsometryMeter
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.recorder import Pulse, Recorder
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.script import Ending, Program, StopRun, execute, load
from gradientflow.depth.watch.shield import Shield
from gradientflow.errors import OutputError
from gradientflow.files import here, reason, settled, shown
from gradientflow.records import Run, Verdict
from gradientflow.store import Store
from gradientflow.torch_internals import lost


class Live(Protocol):
    """Something that shows how the run is going: 1. `open` once; 2. `update` a few times a second; 3. `close`."""

    def open(self) -> None: ...
    def update(self, step: int, loss: float | None, symptom: str, overhead: float, elapsed: float) -> None: ...
    def close(self) -> None: ...


@dataclass
class Outcome:
    """What a watched run leaves: the verdict, everything seen, where it lies, how the script ended."""

    verdict: Verdict
    run: Run
    folder: Path
    ending: Ending
    problems: list[str] = field(default_factory=list)


def run_script(
    target: Sequence[str],
    *,
    module: bool = False,
    out: Path | None = None,
    probe_every: int | None = None,
    max_steps: int | None = None,
    max_time: float | None = None,
    jacobian: bool = False,
    live: Live | None = None,
    prepare: Callable[[Monitor], None] | None = None,
    program: Program | None = None,
) -> Outcome:
    """Run a script under watch and judge what was seen.

    Args:
        target: the script (or module name), then its own arguments.
        module: run as `python -m`.
        out: folder for the record; None makes a fresh one under `runs/`.
        probe_every: probe every so many steps instead of the schedule.
        max_steps: stop the script after so many steps.
        max_time: stop the script after so many seconds.
        jacobian: also measure the singular values of the layers' Jacobians.
        live: shows how the run is going.
        prepare: called with the monitor before the script starts (tests plant faults there).
        program: what to run, where it is loaded already (a replay runs an edited text).

    Returns:
        The outcome; whatever happens to the script, what was seen so far is in it.

    Raises:
        ScriptError: the script is not there or does not compile.
        OutputError: the output folder cannot be written. In both cases nothing was run.
    """
    program = program if program is not None else load(target, module=module)
    folder = settled(out) if out is not None else _fresh_folder(program.name)
    store = Store(folder)
    set_base(str(here()))
    recorder = Recorder(store, program.name, list(target), module=module)
    shield = Shield()
    limit = _Limit(max_steps, max_time)
    monitor = Monitor(recorder, Schedule(probe_every), shield, limit.check)
    if jacobian:
        monitor.window.isometry = IsometryMeter()
    recorder.attach(monitor)
    recorder.source(str(shown(Path(program.file))))
    state = _State()

    def look() -> None:
        state.fresh = True

    def beat() -> None:
        try:
            recorder.describe()
        except Exception as problem:
            shield.failed("describe", problem)
        store.flush()
        overhead = shield.spent / max(monitor.elapsed - shield.spent, 1e-9)
        if live is not None:
            if (
                state.fresh
            ):  # here, not in the script's own thread: rules take their time, and keep what goes wrong in one
                state.fresh, state.symptom = False, judge(recorder.glance()).symptom
            live.update(monitor.steps, monitor.last_loss, state.symptom, overhead, monitor.elapsed)

    monitor.on_probe = look
    pulse = Pulse(beat)
    if prepare is not None:
        prepare(monitor)
    store.flush()
    if live is not None:
        live.open()
    pulse.start()
    limit.start()
    try:
        monitor.start()
        ending = execute(program)
        if (
            not shield.at_home
        ):  # a child that the script forked and that ran to its end here: the verdict is its parent's
            raise SystemExit(ending.code)
    finally:
        limit.close()
        monitor.stop()
        pulse.stop()
        if live is not None:
            live.close()
    if ending.how == "interrupted" and limit.reached:
        ending = Ending("max-time", 0)
    recorder.meta.ended, recorder.meta.exit_code, recorder.meta.error = ending.how, ending.code, ending.error
    if ending.advice:
        recorder.note("advice", ending.advice)
    if monitor.elsewhere:
        recorder.note("watcher", told_of_threads(monitor.elsewhere))
    for error in [*lost(), *shield.errors]:
        recorder.note("watcher", error)
    run = recorder.finish()
    verdict = judge(run)
    store.close()
    problems = [f"the record is incomplete: {told}" for told in (store.error, store.lost) if told]
    return Outcome(verdict, run, folder, ending, problems)


_FREE_SIGNALS = range(signal.SIGRTMIN + 1, signal.SIGRTMAX) if hasattr(signal, "SIGRTMIN") else range(0)


def told_of_threads(steps: int) -> str:
    """Return what is said of steps that were not watched, because another thread trained at the same time."""
    return (
        f"{steps} optimizer steps were taken in other threads while one was watched: they are in no number here. "
        f"Run one training at a time to have each watched"
    )


class _State:
    symptom = "healthy"
    fresh = False  # a probe came in that was not judged yet


class _Limit:
    """Stops the script at a step once a limit is reached, and by an interrupt when no step comes in time."""

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        self._steps = steps
        self._seconds = seconds
        self._began = time.perf_counter()
        self.reached = False
        self._timer: threading.Timer | None = None
        self._own: list[int] = []  # signals that wake the script where SIGINT is ignored

    def start(self) -> None:
        self._began = time.perf_counter()
        if self._seconds is not None:
            # Started with `&` in a shell script, as cluster jobs are, a process ignores SIGINT: that is left as it is, and a
            # signal that nobody uses stands by.
            free = [n for n in _FREE_SIGNALS if signal.getsignal(n) == signal.SIG_DFL]
            if threading.current_thread() is threading.main_thread():
                self._own = free[-3:]
                for number in self._own:
                    signal.signal(number, self._wakes)
            self._timer = threading.Timer(self._seconds + 2.0, self._interrupt)
            self._timer.daemon = True
            self._timer.start()

    def check(self, step: int) -> None:
        if self._steps is not None and step >= self._steps:
            raise StopRun("max-steps")
        if self._seconds is not None and time.perf_counter() - self._began >= self._seconds:
            raise StopRun("max-time")

    def _interrupt(self) -> None:
        """Wake the main thread where it sleeps or waits: as Ctrl-C does, or by a signal of our own where that is ignored."""
        self.reached = True
        main = threading.main_thread().ident
        ours = [n for n in self._own if signal.getsignal(n) == self._wakes]  # (the script may have put one to use)
        if not callable(signal.getsignal(signal.SIGINT)) and not ours:
            return
        number = signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else ours[0]
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, number)
        else:
            signal.raise_signal(number)

    @staticmethod
    def _wakes(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number in self._own:
            if signal.getsignal(number) == self._wakes:
                signal.signal(number, signal.SIG_DFL)
        self._own = []


_LONGEST_NAME = 100  # characters of a script's name in that of its folder; a file system takes 255 bytes


def _fresh_folder(name: str) -> Path:
    stem = Path(name).stem if name.endswith(".py") or os.sep in name else name
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = settled(Path("runs")) / f"{stem[:_LONGEST_NAME]}-{stamp}"
    for n in range(1, 1000):
        folder = base if n == 1 else base.with_name(f"{base.name}-{n}")
        with contextlib.suppress(FileExistsError):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                raise
            except OSError as problem:
                raise OutputError(
                    f"cannot make the run's folder {folder}: {reason(problem)}. Expected a working directory that can "
                    f"be written; name another place with --out DIR."
                ) from problem
            return folder
    raise OutputError(f"a thousand runs of {stem} within one second: name a folder with --out DIR")
