"""What every command needs: exit codes, and the console for what is told."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


def told_on() -> Console:
    """Return the console of the verdict: standard error, so that the script's own output stays what it is."""
    terminal = sys.stderr.isatty()
    file = sys.stderr  # as it is now: the script may put something else in its place
    return Console(file=file, soft_wrap=False, width=None if terminal else 100, no_color=None if terminal else True)


def say(console: Console, text: str) -> None:
    """Tell a sentence; a name of thousands of letters is told by its ends, and no letter of it steers the terminal."""
    told = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: shown(word[0], LONGEST_WORD // 2), clean(text))
    console.print(f"gradientflow: {told}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def busy(text: str, *, quiet: bool) -> Iterator[None]:
    """A turning sign on a terminal, for work that does not tell how far it is."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    turning = Spinner("dots", f" {text}")
    with Live(turning, console=Console(file=sys.stderr), transient=True, redirect_stdout=sys.stdout.isatty()):
        yield
