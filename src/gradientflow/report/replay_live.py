"""The progress of a replay: which remedy is being tried, and how far it is."""

from __future__ import annotations

import contextlib
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gradientflow.report.words import elide, one_line

LOG_EVERY = 10.0  # seconds


class ReplayLive:
    """Shows the trials of a replay: a bar on a terminal, a line per trial in a log. No method raises because of the stream.

    Args:
        stream: where to draw, best `sys.stderr`.
        quiet: show nothing.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream, self._quiet = stream, quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._steps = 0
        self._told = 0.0

    def __enter__(self) -> ReplayLive:
        if not self._quiet and self._stream.isatty():
            self._progress = Progress(
                TextColumn("  replay {task.fields[number]}"), BarColumn(24), TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(), TextColumn("{task.description}", markup=False), console=Console(file=self._stream), transient=True,
            )  # fmt: skip
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def trial(self, text: str, number: int, of: int, steps: int) -> None:
        """A trial begins."""
        text = elide(one_line(text), 60)
        self._steps, self._told = steps, time.monotonic()
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(text, total=steps, number=f"{number}/{of}")
        else:
            self._log(f"replay {number}/{of}: {text}")

    def steps(self, done: int) -> None:
        """A trial has done so many steps."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)
        elif time.monotonic() - self._told > LOG_EVERY:
            self._told = time.monotonic()
            self._log(f"  step {done}/{self._steps}")

    def _log(self, text: str) -> None:
        if not self._quiet:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(f"gradientflow: {text}\n")
                self._stream.flush()
