"""A status line at the bottom of the terminal while the user's script runs.

The script's output is neither intercepted nor delayed. The bottom row is taken out of the scrolling region (DECSTBM, as
apt and dpkg do), and each redraw is one single write that saves the cursor, paints that row, and puts the cursor back;
so what the script prints scrolls above, byte for byte as it was written.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import math
import os
import time
from collections.abc import Callable
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradientflow.report import words
from gradientflow.report.bars import INK, ink

MIN_ROWS, MIN_COLUMNS = 4, 24
PER_SECOND = 8

_SAVE, _RESTORE = "\x1b7", "\x1b8"  # DECSC, DECRC: cursor and style
# IND, RI: one row down and back up. Where the cursor is in the bottom row this scrolls, so that nothing of the script's
# is painted over; anywhere else it changes nothing.
_OFF_BOTTOM = "\x1bD\x1bM"


def _let_go() -> str:
    """Undo the region after the terminal was resized.

    Where the line has gone only the terminal knows, but it is below the cursor: so all rows below it are cleared.
    """
    return f"{_SAVE}\x1b[r{_RESTORE}{_OFF_BOTTOM}{_SAVE}\x1b[B\x1b[G\x1b[0m\x1b[J{_RESTORE}"


class LiveLine:
    """One line of status in the bottom row of a terminal; does nothing where there is no terminal.

    No method ever raises: a status line must not end a training run.

    Args:
        stream: where to draw, best `sys.stderr` or an own handle on the terminal.
        clock: seconds, for the limit of redraws.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._fd: int | None = None
        self._size: os.terminal_size | None = None  # for which the region is set; None: no region is set
        self._drawn = -math.inf
        self._pid = os.getpid()

    @property
    def active(self) -> bool:
        """Whether a line is reserved."""
        return self._size is not None

    def open(self) -> None:
        """Reserve the bottom row, if the stream is a terminal that can do it."""
        with contextlib.suppress(OSError, ValueError):
            if self._fd is not None or not self._stream.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
                return
            self._fd = self._stream.fileno()
            self._pid = os.getpid()
            atexit.register(self.close)
            self._reserve()

    def update(self, step: int, loss: float | None, symptom: str, overhead: float, elapsed: float) -> None:
        """Redraw the line; calls that come too fast are dropped.

        Args:
            step: steps seen.
            loss: the last loss.
            symptom: the verdict so far.
            overhead: cost of watching, as a fraction of the script's own time.
            elapsed: seconds since the run began.
        """
        if self._fd is None or os.getpid() != self._pid:
            return
        now = self._clock()
        if now - self._drawn < 1 / PER_SECOND:
            return
        self._drawn = now
        with contextlib.suppress(OSError, ValueError):
            self._reserve()
            if self._size is not None:
                columns, rows = self._size
                line = self._render(status(step, loss, symptom, overhead, elapsed, columns - 1), columns)
                # the region is set anew each time, should the script have run something that reset it
                self._write(f"{_SAVE}\x1b[1;{rows - 1}r\x1b[{rows};1H\x1b[0m\x1b[2K{line}\x1b[0m{_RESTORE}")

    def close(self) -> None:
        """Give the row back: no region, the row empty, the cursor where the script left it."""
        if self._fd is None:
            return
        atexit.unregister(self.close)
        if self._size is not None and os.getpid() == self._pid:
            with contextlib.suppress(OSError, ValueError):
                still = os.get_terminal_size(self._fd) == self._size
                clear = f"{_SAVE}\x1b[r\x1b[{self._size.lines};1H\x1b[0m\x1b[2K{_RESTORE}"
                self._write(clear if still else _let_go())
        self._fd = self._size = None

    def _reserve(self) -> None:
        """Set the scrolling region to the terminal's present size; let go of it where the terminal is too small."""
        if self._fd is None:
            return
        size = os.get_terminal_size(self._fd)
        wanted = size if size.lines >= MIN_ROWS and size.columns >= MIN_COLUMNS else None
        if wanted == self._size:
            return
        hold = f"{_SAVE}\x1b[1;{size.lines - 1}r{_RESTORE}" if wanted else ""
        self._write((_OFF_BOTTOM if self._size is None else _let_go()) + hold)
        self._size = wanted

    def _write(self, text: str) -> None:
        """Everything in one write to the terminal, so that the script's writes cannot fall in between."""
        self._stream.flush()
        data = text.encode("utf-8", "replace")
        while data and self._fd is not None:
            data = data[os.write(self._fd, data) :]

    def _render(self, text: Text, columns: int) -> str:
        """The styled line as a string for this terminal."""
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=columns, legacy_windows=False, highlight=False)
        console.print(text, end="", no_wrap=True, overflow="crop", soft_wrap=True)
        return out.getvalue()


def status(step: int, loss: float | None, symptom: str, overhead: float, elapsed: float, width: int) -> Text:
    """The line itself, at most `width` cells: the symptom with its mark, then what fits of the numbers.

    Args:
        step: steps seen.
        loss: the last loss.
        symptom: the verdict so far.
        overhead: cost of watching, as a fraction of the script's own time.
        elapsed: seconds since the run began.
        width: cells.

    Returns:
        The styled text.
    """
    name = words.elide(words.one_line(symptom), max(width - 4, 1))
    text = Text.assemble((f" {words.mark(symptom)} {name} ", f"bold #ffffff on {ink(symptom)}"))
    bad = loss is not None and not math.isfinite(loss)
    parts = [
        Text.assemble(("step ", "dim"), words.number(step)),
        Text.assemble(
            ("loss ", "dim"), (("✕ " if bad else "") + words.number(loss, 4), INK["not-finite"] if bad else "")
        ),
        Text.assemble(("watching costs ", "dim"), words.percent(overhead)),
        Text.assemble((words.seconds(elapsed), "dim")),
        Text("gradientflow", "dim"),
    ]
    for k, part in enumerate(parts):
        room = width - cell_len(text.plain) - cell_len(part.plain) - 2
        if room < 0:
            break
        if k == len(parts) - 1:
            text.append(" " * room)
        text.append("  ").append_text(part)
    text.truncate(width)
    return text
