"""A script that is watched beside the app: `gradientflow run` in a process of its own, in the same terminal."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from gradientflow import store

ASKED = 10.0  # seconds after Ctrl-C, which the terminal sends to both, until the script is asked once more
GRACE = 30.0  # seconds that it may take then to write its verdict


class Script:
    """The script; what it prints stays in the terminal, and what is typed is its own.

    Args:
        command: of the command line, `run` first.
        folder: where its record goes.
        say: tells the user a line.
    """

    def __init__(self, command: list[str], folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self._say = folder, say
        self._process = subprocess.Popen([sys.executable, "-m", "gradientflow", *command])
        self._ending = False

    def listen(self, ended: Callable[[], None]) -> None:
        """Tell how the script ended, and call `ended` where it left no record to look at."""
        threading.Thread(target=self._wait, args=(ended,), daemon=True).start()

    def end(self) -> int:
        """End the script where it still runs; return its exit code."""
        self._ending = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._left(self._process.wait(ASKED))
        for ask, seconds in ((signal.SIGINT, GRACE), (signal.SIGTERM, ASKED)):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired, ValueError):
                self._process.send_signal(ask)
                return self._left(self._process.wait(seconds))
        self._process.kill()
        return self._left(self._process.wait())

    def _wait(self, ended: Callable[[], None]) -> None:
        code = self._process.wait()
        if self._ending:
            return
        if not (store.of_job(self.folder) / store.FILE).exists():
            ended()
        else:
            self._say(f"the script ended with exit code {_said(code)}. The app goes on; Ctrl-C ends it.")

    def _left(self, code: int) -> int:
        """The exit code as a shell has it; a folder in which nothing was written is taken away."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return 128 - code if code < 0 else code


def _said(code: int) -> str:
    return str(code) if code >= 0 else f"{128 - code} (signal {-code})"
