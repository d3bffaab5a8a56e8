"""What every command needs: exit codes, and the console for what is told."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from gradientflow.report import clean, shown

EXIT_USAGE = 2
EXIT_FAILED_ON = 3
EXIT_BROKEN = 4
EXIT_NOT_THERE = 5
EXIT_INTERRUPTED = 130
LONGEST_WORD = 400  # letters; paths are shorter
_SIGNALLED = 128  # and the signal's number: what a shell tells of a process that a signal ended


def told_on(stream: TextIO | None = None) -> Console:
    """Return the console of the verdict: standard error, so that the script's own output stays what it is; or another."""
    file = stream or sys.stderr  # as it is now: the script may put something else in its place
    terminal = file.isatty()
    return Console(file=file, soft_wrap=False, width=None if terminal else 100, no_color=None if terminal else True)


def say(console: Console, text: str) -> None:
    """Tell a sentence; a name of thousands of letters is told by its ends, and no letter of it steers the terminal."""
    told = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: shown(word[0], LONGEST_WORD // 2), clean(text))
    console.print(f"gradientflow: {told}", markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def busy(text: str, *, quiet: bool) -> Iterator[None]:
    """A turning sign on a terminal, for work that does not tell how far it is."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    turning = Spinner("dots", f" {text}")
    with Live(turning, console=Console(file=sys.stderr), transient=True, redirect_stdout=sys.stdout.isatty()):
        yield


class SignalledError(KeyboardInterrupt):
    """A signal that asks to end arrived, as Ctrl-C does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = _SIGNALLED + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A block that SIGTERM and SIGHUP end as Ctrl-C does: what has begun is ended too, and what was measured is kept.

    A signal that is ignored (as under nohup) stays ignored; outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if n is not None]
    before = {n: signal.signal(n, _raise) for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: ending takes a moment
    raise SignalledError(number)
