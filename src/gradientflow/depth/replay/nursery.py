"""Processes for trials: a fresh one each, forked from one that has imported PyTorch already, where that can be done.

Importing PyTorch takes seconds, and a replay needs many processes. So one process imports it and does nothing else; it
forks for each trial. At that moment it has no other thread, has drawn no random number and touched no device. Where
there is no `fork` (Windows), each trial starts from nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Imports of ours come before the script's folder is looked into, as with `gradientflow run`.
_OURS = "import sys; sys.path.pop(0); from gradientflow.depth.replay import child, nursery; sys.path.insert(0, ''); "
_ALONE = _OURS + "child.main(sys.argv[1])"
_KEEP = _OURS + "nursery.keep()"
_BEAT = 0.4  # seconds


class Nursery:
    """Runs errands, one at a time.

    Args:
        cwd: the folder to run in.
    """

    def __init__(self, cwd: str) -> None:
        self.cwd = cwd
        self._mother: subprocess.Popen[str] | None = None

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that forks."""
        mother, self._mother = self._mother, None
        if mother is not None:
            with contextlib.suppress(OSError):
                if mother.stdin is not None:
                    mother.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                mother.wait(timeout=2.0)
            mother.kill()
            mother.wait()
            if mother.stdout is not None:
                mother.stdout.close()

    def run(self, errand: Path, log: Path, seconds: float, beat: Callable[[], None]) -> int | None:
        """Run one errand to its end.

        Args:
            errand: the file that says what is to be done.
            log: where what the script prints goes.
            seconds: how long it may take.
            beat: called a few times a second.

        Returns:
            The exit code; None where it had to be killed.
        """
        end = time.monotonic() + seconds
        return self._forked(errand, log, end, beat) if hasattr(os, "fork") else self._alone(errand, log, end, beat)

    def _alone(self, errand: Path, log: Path, end: float, beat: Callable[[], None]) -> int | None:
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", _ALONE, str(errand)],
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            try:
                while time.monotonic() < end:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return process.wait(timeout=_BEAT)
                    beat()
                return None
            finally:
                process.kill()
                process.wait()

    def _forked(self, errand: Path, log: Path, end: float, beat: Callable[[], None]) -> int | None:
        if self._mother is None or self._mother.poll() is not None:
            self._mother = subprocess.Popen(
                [sys.executable, "-c", _KEEP], cwd=self.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        mother = self._mother
        if mother.stdin is None or mother.stdout is None:
            return None
        mother.stdin.write(f"{errand}\0{log}\n")
        mother.stdin.flush()
        pid = 0
        try:
            while time.monotonic() < end:
                if not select.select([mother.stdout], [], [], _BEAT)[0]:
                    beat()
                    continue
                word, _, number = mother.stdout.readline().partition(" ")
                if word == "ended":
                    pid = 0
                    return int(number)
                if word != "began":  # the mother is gone
                    return mother.wait()
                pid = int(number)
            return None
        finally:
            if pid:  # not ended: it ran out of its time, or we are interrupted
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self.close()


def keep() -> None:
    """Wait for errands on standard input and fork for each: the life of the process that forks."""
    from gradientflow.depth.remedies import install  # noqa: F401  (imported once, here)
    from gradientflow.depth.watch import session  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends us
    for line in sys.stdin:
        errand, _, log = line.rstrip("\n").partition("\0")
        pid = os.fork()
        if pid == 0:
            _work(errand, log)
        print(f"began {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


def _work(errand: str, log: str) -> None:
    """Be the child: a group of its own, no input, output into the log; never return."""
    from gradientflow.depth.replay import child

    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        child.main(errand)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
