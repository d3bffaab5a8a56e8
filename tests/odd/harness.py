"""One command on one spoilt run: what it said, how it ended, how long it took; and what a sound answer is."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gradientflow import cli
from tests.odd.spoiling import Way
from tests.report.pages import Page

PATIENCE = 10.0  # seconds one command may take
MEMORY = 2 << 30  # bytes it may ask for, beyond what is there
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


class TooLongError(BaseException):
    """The command did not end in time; no `except Exception` may hold this back."""


@dataclass
class Answer:
    """What came of one command."""

    name: str
    code: int | None
    said: str
    raised: str  # the traceback, where something else than an exit came out
    seconds: float
    page: str | None = None

    @property
    def faults(self) -> list[str]:
        """What is wrong with this answer."""
        if self.raised:
            return [self.raised.strip().split("\n")[-1]]
        found = []
        if self.code not in (0, 2):
            found.append(f"exit code {self.code}")
        if not self.said.strip():
            found.append("nothing was said")
        if "Traceback" in self.said:
            found.append("a traceback was told")
        if _STEERS.search(self.said):
            found.append("a name steers the terminal")
        if self.code == 2 and (self.page is not None or self.said.count("\n") > 3 or len(self.said) > 2500):
            found.append("refused, but not in one sentence")
        if self.code == 0 and self.page is None:
            found.append("no page, and no word of it")
        if self.page is not None:
            found += _faults_of(self.page)
        return found


def _faults_of(page: str) -> list[str]:
    try:
        read = Page(page)
        if any("onclick" in attrs for _, attrs in read.tags):
            return ["a name became a tag of the page"]
        json.dumps(read.data)
    except BaseException as problem:  # pytest.fail is one
        return [f"the page is not well-formed: {type(problem).__name__}: {problem}"]
    return []


@contextlib.contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """A block that an alarm ends, and in which memory is limited."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"not done after {seconds:g} s, at {frame.f_code.co_qualname if frame else '?'}")

    before, limits = signal.signal(signal.SIGALRM, ring), resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError, ValueError, StopIteration):
        now = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, (int(now.split()[1]) * 1024 + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def ask(name: str, *command: str, folder: Path) -> Answer:
    """Call the command line in this process; anything but an exit is a fault."""
    said, raised, code = io.StringIO(), "", None
    (folder / "report.html").unlink(missing_ok=True)
    began, streams = time.perf_counter(), (sys.stdout, sys.stderr)
    try:
        with _bounded(PATIENCE):
            sys.stdout, sys.stderr = io.StringIO(), said
            cli.main(list(command))
    except SystemExit as stop:
        code = 0 if stop.code is None else int(stop.code)
    except BaseException:
        raised = traceback.format_exc()
    finally:
        sys.stdout, sys.stderr = streams
    page = folder / "report.html"
    return Answer(
        name, code, said.getvalue(), raised, time.perf_counter() - began, page.read_text() if page.is_file() else None
    )


def spoilt(way: Way, sound: Path, into: Path) -> Path:
    """A copy of a sound run, spoilt."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(sound, into)
    way.spoil(into)
    return into
