"""What every command needs: exit codes, the console for what is told, and files checked before the work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from gradientflow.errors import OutputError
from gradientflow.files import clean, reason, settled
from gradientflow.report import shown

EXIT_USAGE = 2
EXIT_FAILED_ON = 3
EXIT_BROKEN = 4
EXIT_NOT_THERE = 5
EXIT_INTERRUPTED = 130


def told_on() -> Console:
    """Return the console of the verdict: standard error, so that the script's own output stays what it is."""
    terminal = sys.stderr.isatty()
    file = sys.stderr  # as it is now: the script may put something else in its place
    return Console(file=file, soft_wrap=False, width=None if terminal else 100, no_color=None if terminal else True)


def say(console: Console, text: str) -> None:
    console.print(f"gradientflow: {clean(text)}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def busy(text: str, *, quiet: bool) -> Iterator[None]:
    """A turning sign on a terminal, for work that does not tell how far it is."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    turning = Spinner("dots", f" {text}")
    with Live(turning, console=Console(file=sys.stderr), transient=True, redirect_stdout=sys.stdout.isatty()):
        yield


def writable(option: str, file: Path | None) -> Path | None:
    """Refuse a file that cannot be written before the work is begun, not after; return it as it is meant now."""
    if file is None:
        return None
    if str(file) in ("", "."):
        raise OutputError(f"{option}: expected the name of a file, got an empty one; as in {option} verdict.json")
    try:
        with open(file, "a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as problem:
        said = reason(problem) if isinstance(problem, OSError) else str(problem)
        raise OutputError(
            f"{option}: cannot write {shown(file)}: {said}. Expected a file in a folder that exists and can be written."
        ) from problem
    return settled(file)
