"""One watched run from beginning to end: the script, the watcher, the record, the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gradientflow.depth.causes import judge
from gradientflow.depth.probe.frames import set_base
from gradientflow.depth.watch.isometry import IsometryMeter
from gradientflow.depth.watch.limit import Limit as Stop
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.recorder import Pulse, Recorder
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.script import Ending, Program, execute, load
from gradientflow.depth.watch.shield import Shield
from gradientflow.files import here, settled, shown
from gradientflow.limits import Limit
from gradientflow.records import Run, Verdict
from gradientflow.store import Place, Store, fresh_folder
from gradientflow.torch_internals import lost

REST = Limit(
    "rest_between_writes", 9.0, "chosen: times what a write took; a slow disk has us a tenth of the time at most"
)
WATCHING = "watching"  # what is told while nothing is measured


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
    place: Place | None = None,
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
        place: which of several processes this is; None: the only one.
        program: what to run, where it is loaded already (a replay runs an edited text).

    Returns:
        The outcome; whatever happens to the script, what was seen so far is in it.

    Raises:
        ScriptError: the script is not there or does not compile.
        OutputError: the output folder cannot be written. In both cases nothing was run.
    """
    program = program if program is not None else load(target, module=module)
    folder = settled(out) if out is not None else fresh_folder(program.name)
    store = Store(folder)
    set_base(str(here()))
    recorder = Recorder(store, program.name, list(target), module=module)
    if place is not None:
        recorder.meta.rank, recorder.meta.ranks = place.rank, place.size
    limit = Stop(max_steps, max_time)
    monitor = Monitor(recorder, Schedule(probe_every), Shield(), limit.check)
    if jacobian:
        monitor.window.isometry = IsometryMeter()
    recorder.attach(monitor)
    recorder.source(str(shown(Path(program.file))))
    pulse = Pulse(_Beat(monitor, recorder, live))
    if prepare is not None:
        prepare(monitor)
    recorder.store.flush()
    ending = _watched(program, monitor, pulse, limit, live)
    _note(recorder, monitor, ending)
    run = recorder.finish()
    verdict = judge(run)
    store.close()
    problems = [f"the record is incomplete: {told}" for told in (store.error, store.lost) if told]
    return Outcome(verdict, run, folder, ending, problems)


def _watched(program: Program, monitor: Monitor, pulse: Pulse, limit: Stop, live: Live | None) -> Ending:
    """Run the script between the beginning and the end of all that goes on beside it; return how it ended."""
    if live is not None:
        live.open()
    pulse.start()
    limit.start()
    try:
        monitor.start()
        ending = execute(program)
        if (
            not monitor.shield.at_home
        ):  # a child that the script forked, run to its end here: the verdict is its parent's
            raise SystemExit(ending.code)
    finally:
        limit.close()
        monitor.stop()
        pulse.stop()
        if live is not None:
            live.close()
    return Ending("max-time", 0) if ending.how == "interrupted" and limit.reached else ending


def _note(recorder: Recorder, monitor: Monitor, ending: Ending) -> None:
    """Put on record how the script ended, and what was not seen of it."""
    recorder.meta.ended, recorder.meta.exit_code, recorder.meta.error = ending.how, ending.code, ending.error
    if ending.advice:
        recorder.note("advice", ending.advice)
    if monitor.elsewhere:
        recorder.note("watcher", told_of_threads(monitor.elsewhere))
    for error in [*lost(), *monitor.shield.errors]:
        recorder.note("watcher", error)


class _Beat:
    """What the pulse does: writes what waits, and shows how the run is going."""

    def __init__(self, monitor: Monitor, recorder: Recorder, live: Live | None) -> None:
        self._monitor, self._recorder, self._live = monitor, recorder, live
        self._symptom = WATCHING
        self._fresh = False  # a probe came in that was not judged yet
        self._next = 0.0  # when it is written again
        monitor.on_probe = self._probed

    def _probed(self) -> None:
        self._fresh = True

    def __call__(self) -> None:
        monitor = self._monitor
        if (began := time.monotonic()) >= self._next:
            try:
                self._recorder.describe()
            except Exception as problem:
                monitor.shield.failed("describe", problem)
            self._recorder.store.flush()
            now = time.monotonic()
            self._next = now + REST * (now - began)
        if self._live is None:
            return
        if self._fresh:  # here, not in the script's own thread: rules take their time, and keep what goes wrong in one
            self._fresh = False
            found = judge(self._recorder.glance()).symptom
            self._symptom = WATCHING if found == "not-measured" else found
        spent = monitor.shield.spent
        overhead = spent / max(monitor.elapsed - spent, 1e-9)
        self._live.update(monitor.steps, monitor.last_loss, self._symptom, overhead, monitor.elapsed)


def told_of_threads(steps: int) -> str:
    """Return what is said of steps that were not watched, because another thread trained at the same time."""
    return (
        f"{steps} optimizer steps were taken in other threads while one was watched: they are in no number here. "
        f"Run one training at a time to have each watched"
    )
