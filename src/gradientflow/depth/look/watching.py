"""`gf.watch`: a training loop of the user's own, watched from within, as `gradientflow run` watches a script from without."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from torch import nn

from gradientflow.depth.causes import judge
from gradientflow.depth.look.arguments import folder, whole
from gradientflow.depth.look.cells import name_sources
from gradientflow.depth.look.diagnosis import Diagnosis
from gradientflow.depth.look.sources import cell, make_known, user_frame
from gradientflow.depth.probe.frames import set_base
from gradientflow.depth.watch.memory import Memory
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.recorder import Pulse, Recorder
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.shield import Shield
from gradientflow.errors import UsageError
from gradientflow.files import here
from gradientflow.records import Verdict
from gradientflow.store import Store


class watching:
    """Watch everything that trains inside a `with` block, and judge it afterwards.

    The loop computes bit for bit what it computes unwatched. An exception in the block passes through; what was seen up
    to it is judged.

    Args:
        models: models that were built before the block: the lines where their layers were made are then known. Others are
            watched all the same.
        out: folder for the record, as `gradientflow report` reads it; None keeps it in memory and writes no file.
        probe_every: trace every so many steps operation by operation; None for the schedule of `gradientflow run`.

    Raises:
        UsageError: an argument is not what it must be; it is entered twice, or asked for a verdict before the block has ended.
        OutputError: the folder cannot be written, or holds a run already.

    Example:
        >>> import torch
        >>> net = nn.Linear(4, 1)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.05)
        >>> with watching(net) as watch:
        ...     for _ in range(5):
        ...         sgd.zero_grad()
        ...         net(torch.ones(8, 4)).pow(2).mean().backward()
        ...         sgd.step()
        >>> watch.verdict.steps
        5
    """

    def __init__(self, *models: nn.Module, out: str | Path | None = None, probe_every: int | None = None) -> None:
        for model in models:
            if not isinstance(model, nn.Module):
                raise UsageError(
                    f"watch was given {type(model).__name__}; expected models (torch.nn.Module), or nothing."
                )
        self._models = models
        self._out = folder("out", out)
        self._every = (
            None if probe_every is None else whole("probe_every", probe_every, "Leave it out for the schedule.")
        )
        self._diagnosis: Diagnosis | None = None
        self._begun = False

    def __enter__(self) -> watching:
        if self._begun:
            raise UsageError("this watch was used before. Make a new one for each block: with gf.watch() as watch: …")
        self._store: Store | Memory = Store(self._out) if self._out is not None else Memory()
        self._begun = True
        caller = user_frame(sys._getframe(1))
        name = caller.f_code.co_filename if caller is not None else ""
        set_base(str(here()))
        self._recorder = Recorder(self._store, cell(name) or os.path.basename(name) or "watch", [])
        self._shield = Shield()
        self._monitor = Monitor(self._recorder, Schedule(self._every), self._shield)
        self._recorder.attach(self._monitor)
        self._pulse = Pulse(self._beat)
        self._monitor.start()
        for model in self._models:
            self._shield(make_known, model, self._monitor.registry, self._monitor.births, caller)
        self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._monitor.stop()
        self._pulse.stop()
        if not self._shield.at_home:
            return
        meta = self._recorder.meta
        meta.ended = "finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "exception"
        if problem is not None:
            meta.error = f"{type(problem).__name__}: {problem}"
        for error in self._shield.errors:
            self._recorder.note("watcher", error)
        run = self._recorder.finish()
        name_sources(run)
        self._store.close()
        self._diagnosis = Diagnosis(judge(run), run)

    @property
    def diagnosis(self) -> Diagnosis:
        """The verdict with everything that was seen; shows itself in a notebook and on a terminal."""
        if self._diagnosis is None:
            raise UsageError(
                "the verdict is there once the block has ended: with gf.watch() as watch: …, then watch.verdict."
            )
        return self._diagnosis

    @property
    def verdict(self) -> Verdict:
        """What the block's training means, as in verdict.json."""
        return self.diagnosis.verdict

    def _repr_html_(self) -> str | None:
        return None if self._diagnosis is None else self._diagnosis._repr_html_()

    def _beat(self) -> None:
        try:
            self._recorder.describe()
        except Exception as problem:
            self._shield.failed("describe", problem)
        self._store.flush()
