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
from gradientflow.records import Budget, Loss, Run, Verdict, Watch
from gradientflow.store import Store


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
    folder = out if out is not None else _fresh_folder(program.name)
    store = Store(folder)
    set_base(os.getcwd())
    recorder = Recorder(store, program.name, list(target), module=module)
    shield = Shield()
    limit = _Limit(max_steps, max_time)
    monitor = Monitor(recorder, Schedule(probe_every), shield, limit.check)
    if jacobian:
        monitor.isometry = IsometryMeter()
    recorder.attach(monitor)
    recorder.source(os.path.relpath(program.file) if program.file.startswith(os.getcwd() + os.sep) else program.file)
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
    if monitor.compiled:
        recorder.note(
            "compiled", "code of the script's was compiled, and what runs compiled is not traced by operation"
        )
    if monitor.elsewhere:
        recorder.note("watcher", told_of_threads(monitor.elsewhere))
    for error in shield.errors:
        recorder.note("watcher", error)
    run = recorder.finish()
    verdict = _judged(run)
    store.close()
    problems = [f"the record is incomplete: {store.error}"] if store.error else []
    return Outcome(verdict, run, folder, ending, problems)


def _judged(run: Run) -> Verdict:
    """Judge a run; where judging itself fails, say so in a verdict that claims nothing."""
    try:
        return judge(run)
    except Exception as problem:
        told = f"the verdict could not be made: {type(problem).__name__}: {problem}"
        errors = [*(n.text for n in run.notes if n.kind == "watcher"), told]
        return Verdict(
            script=run.meta.script, steps=run.meta.steps, loss=Loss(), symptom="not-measured", findings=[],
            budget=Budget(note=told), watch=Watch(len(run.probes), 0.0, errors), summary=f"No verdict: {told}.",
        )  # fmt: skip


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

    def start(self) -> None:
        self._began = time.perf_counter()
        if self._seconds is not None:
            self._timer = threading.Timer(self._seconds + 2.0, self._interrupt)
            self._timer.daemon = True
            self._timer.start()

    def check(self, step: int) -> None:
        if self._steps is not None and step >= self._steps:
            raise StopRun("max-steps")
        if self._seconds is not None and time.perf_counter() - self._began >= self._seconds:
            raise StopRun("max-time")

    def _interrupt(self) -> None:
        self.reached = True
        main = threading.main_thread().ident
        if (
            hasattr(signal, "pthread_kill") and main is not None
        ):  # to the main thread, to wake it where it sleeps or waits
            signal.pthread_kill(main, signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _fresh_folder(name: str) -> Path:
    stem = Path(name).stem if name.endswith(".py") or os.sep in name else name
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{stem}-{stamp}"
    for n in range(1, 1000):
        folder = base if n == 1 else base.with_name(f"{base.name}-{n}")
        with contextlib.suppress(FileExistsError):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                raise
            except OSError as problem:
                raise OutputError(
                    f"cannot make the run's folder {folder}: {problem.strerror}. Expected a working directory that can "
                    f"be written; name another place with --out DIR."
                ) from problem
            return folder.absolute()
    raise OutputError(f"a thousand runs of {stem} within one second: name a folder with --out DIR")
