"""The progress of a path while it is solved, and of a count: one line that is redrawn on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from typing import Protocol, Self, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gradientflow.report.bars import EIGHTHS, INK
from gradientflow.report.words import elide, number, one_line, seconds

PER_SECOND = 8
LOG_EVERY = 5.0  # seconds
PATIENCE = 0.3  # seconds before anything is shown: what is done at once needs no bar


class Moment(Protocol):
    """What the loop tells on the way; None or NaN where a number is not known."""

    @property
    def t(self) -> float: ...
    @property
    def t_end(self) -> float: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def step(self) -> float: ...
    @property
    def stages(self) -> int: ...
    @property
    def sharpness(self) -> float: ...
    @property
    def gradients(self) -> float: ...
    @property
    def remaining(self) -> float: ...
    @property
    def method(self) -> str: ...


class OneLine:
    """A line that is drawn again and again, and taken away at the end; in a log a line now and then.

    No method raises because of the stream: progress must not end a solve.

    Args:
        stream: where to draw, best `sys.stderr`.
        label: which work it is: "flow", "SGD lr=0.1".
        clock: seconds.
    """

    def __init__(self, stream: TextIO, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._clock = one_line(label), clock
        self._terminal = stream.isatty()
        self._console = Console(file=stream, highlight=False, soft_wrap=True) if self._terminal else None
        self._stream = stream
        self._live: Live | None = None
        self._began = clock()
        self._drawn = self._began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, line: Callable[[int], Text], logged: Callable[[], str]) -> None:
        """Draw a line of at most so many cells, or write one; calls that come too fast are dropped."""
        now = self._clock()
        with contextlib.suppress(OSError, ValueError):
            if self._console is None:
                if now - self._drawn >= LOG_EVERY:
                    self._drawn = now
                    self._stream.write(logged() + "\n")
                    self._stream.flush()
                return
            if now - self._began < PATIENCE or (self._live is not None and now - self._drawn < 1 / PER_SECOND):
                return
            self._drawn = now
            text = line(self._console.width - 1)
            if self._live is None:
                self._live = Live(
                    text, console=self._console, auto_refresh=False, transient=True,
                    redirect_stdout=sys.stdout.isatty(),  # what a loss prints into a pipe stays there
                )  # fmt: skip
                self._live.start()
            self._live.update(text, refresh=True)

    def close(self) -> None:
        """Take the line away; the cursor stands where it stood before."""
        if self._live is not None:
            with contextlib.suppress(OSError, ValueError):
                self._live.stop()
            self._live = None


class FlowLive(OneLine):
    """Shows the progress of a path; call it with each moment."""

    def __init__(self, stream: TextIO, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, label, clock)
        self._t = 0.0

    def __call__(self, moment: Moment) -> None:
        """Show a moment; calls that come too fast are dropped."""
        if moment.t < self._t and "check" not in self._label:  # it begins again: the second run, which checks the first
            self._label += ", check"
        self._t = moment.t
        self.show(lambda width: status(self._label, moment, width), lambda: log_line(self._label, moment))


class CountLive(OneLine):
    """Shows how many of how many gradients of a grid are made; finer grids begin again."""

    def __call__(self, done: int, total: int) -> None:
        """Show a count."""
        told = f"{number(done)} of {number(total)} gradients of this grid"
        self.show(
            lambda width: bar(self._label, done / max(total, 1), [("", told)], width), lambda: f"{self._label}: {told}"
        )  # fmt: skip


def parts(moment: Moment) -> list[tuple[str, str]]:
    """The numbers of a moment, the most wanted first: (name, value)."""
    found = [("t", f"{number(moment.t)} of {number(moment.t_end)}")]
    if moment.loss is not None:
        found.append(("loss", ("" if math.isfinite(moment.loss) else "✕ ") + number(moment.loss, 4)))
    found.append(("", f"{number(round(moment.gradients))} gradients"))
    if math.isfinite(moment.remaining):
        found.append(("", f"{seconds(max(moment.remaining, 0.0))} left"))
    stages = f" × {number(moment.stages)} stages" if moment.stages > 1 else ""
    found.append(("step", number(moment.step, 2) + stages))
    if math.isfinite(moment.sharpness):
        found.append(("λ", number(moment.sharpness)))
    if moment.method:
        found.append(("", one_line(moment.method)))
    return found


def status(label: str, moment: Moment, width: int) -> Text:
    """The line of a path on a terminal, at most `width` cells."""
    return bar(label, share_of(moment), parts(moment), width)


def bar(label: str, share: float, pieces: list[tuple[str, str]], width: int) -> Text:
    """A bar, then what fits of the numbers, (name, value)."""
    name = elide(label, max(width // 4, 4))
    room = 24 if width >= 110 else 14 if width >= 60 else 8
    eighths = round(8 * room * share)
    text = Text.assemble((name, "bold"), " ")
    text.append("█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else ""), INK["left"])
    text.append("·" * (room - (eighths + 7) // 8), "dim")
    text.append(f" {100 * share:3.0f} %")
    for key, value in pieces:
        piece = Text.assemble("  ", (f"{key} " if key else "", "dim"), value)
        if cell_len(text.plain) + cell_len(piece.plain) > width:
            break
        text.append_text(piece)
    text.truncate(width)
    return text


def log_line(label: str, moment: Moment) -> str:
    """The line in a log."""
    told = ", ".join(f"{key} {value}".strip() for key, value in parts(moment))
    return f"{label}: {100 * share_of(moment):.0f} %, {told}"


def share_of(moment: Moment) -> float:
    """How much of the flow time is done, 0..1."""
    if not (moment.t_end > 0 and math.isfinite(moment.t)):
        return 0.0
    return min(max(moment.t / moment.t_end, 0.0), 1.0)
