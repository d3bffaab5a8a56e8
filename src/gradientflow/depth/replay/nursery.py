"""Processes for trials: a fresh one each, forked from one that has imported PyTorch already, where that can be done.

Importing PyTorch takes seconds, and a replay needs many processes. So one process imports it and does nothing else; it
forks for each trial. At that moment it has no other thread, has drawn no random number and touched no device. Where
there is no `fork` (Windows), each trial starts from nothing.

The process that forks also sees to it that a trial leaves nothing running (see `family`): when the trial ends by itself,
when it is told to end it, and when its own parent is gone, however that went.
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
from types import FrameType

from gradientflow.depth.replay import family

# Imports of ours come before the script's folder is looked into, as with `gradientflow run`.
_OURS = "import sys; sys.path.pop(0); from gradientflow.depth.replay import child, nursery; sys.path.insert(0, ''); "
_ALONE = _OURS + "child.main(sys.argv[1])"
_KEEP = _OURS + "nursery.keep()"
_BEAT = 0.4  # seconds
_GLANCE = 0.05  # seconds between two looks whether a trial has ended
_CLOSING = family.GRACE + 3.0  # seconds that the process that forks may take to end a trial and itself
_END = "end"


class Nursery:
    """Runs errands, one at a time.

    Args:
        cwd: the folder to run in.
    """

    def __init__(self, cwd: str) -> None:
        self.cwd = cwd
        self._mother: subprocess.Popen[bytes] | None = None
        self._trial = 0  # the process that an errand runs in; 0 where none does

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that forks, and what it has running."""
        mother, self._mother = self._mother, None
        trial, self._trial = self._trial, 0
        if mother is None:
            return
        with contextlib.suppress(OSError):
            if mother.stdin is not None:
                mother.stdin.close()  # it ends its trial then, and itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            mother.wait(timeout=_CLOSING)
        if mother.poll() != 0 and trial:  # it could not do so itself
            _kill_group(trial)
        mother.kill()
        mother.wait()
        if mother.stdout is not None:
            mother.stdout.close()

    def run(self, errand: Path, log: Path, seconds: float, beat: Callable[[], None]) -> int | None:
        """Run one errand to its end; nothing that it started runs on after that.

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
                start_new_session=True,
            )
            try:
                while time.monotonic() < end:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return process.wait(timeout=_BEAT)
                    beat()
                return None
            finally:
                _kill_group(process.pid)
                process.kill()
                process.wait()

    def _forked(self, errand: Path, log: Path, end: float, beat: Callable[[], None]) -> int | None:
        if self._mother is None or self._mother.poll() is not None:
            self._mother = subprocess.Popen(
                [sys.executable, "-c", _KEEP],
                cwd=self.cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a signal to our group is ours to pass on
            )
        try:
            code = self._attended(self._mother, f"{errand}\0{log}", end, beat)
        except BaseException:
            self.close()
            raise
        if self._trial:  # neither ended by itself nor as it was told to
            self.close()
        return code

    def _attended(
        self, mother: subprocess.Popen[bytes], order: str, end: float, beat: Callable[[], None]
    ) -> int | None:
        """Give an order, and wait until it is done or its time is over: then it is ended, for which there is a little more."""
        _say(mother, order)
        told = False
        while True:
            now = time.monotonic()
            if now > end and not told:
                told = True
                end = now + _CLOSING
                _say(mother, _END)
            elif now > end:
                return None
            if mother.stdout is None or not select.select([mother.stdout], [], [], _BEAT)[0]:
                beat()
                continue
            word, _, number = mother.stdout.readline().decode().partition(" ")
            if word == "ended":
                self._trial = 0
                return None if told else int(number)
            if word != "began":  # the mother is gone
                return mother.wait()
            self._trial = int(number)


def _say(mother: subprocess.Popen[bytes], order: str) -> None:
    with contextlib.suppress(OSError):  # (where it is gone, that is seen when it does not answer)
        if mother.stdin is not None:
            mother.stdin.write(f"{order}\n".encode(errors="surrogateescape"))


def _kill_group(group: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.killpg(group, signal.SIGKILL)


# ── the process that forks ───────────────────────────────────────────────────────────────────────────────────────────


def keep() -> None:
    """Wait for errands on standard input and fork for each: the life of the process that forks."""
    from gradientflow.depth.remedies import install  # noqa: F401  (imported once, here)
    from gradientflow.depth.watch import session  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends us
    before = {
        s: signal.signal(s, _leave) for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN
    }
    family.adopt_orphans()
    orders = _Orders()
    pid = 0
    try:
        while (order := orders.next()) is not None:
            if order == _END:  # what it was for has ended in the meantime
                continue
            errand, _, log = order.partition("\0")
            signal.pthread_sigmask(signal.SIG_BLOCK, before)
            pid = os.fork()
            if pid == 0:
                for s, handler in before.items():
                    signal.signal(s, handler)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
                _work(errand, log)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)  # (as the child does itself: whoever comes first)
            _tell(f"began {pid}")
            code = _ended(pid, orders)
            family.end(pid)
            pid = 0
            _tell(f"ended {code}")
    except (BrokenPipeError, _Leaving):
        pass
    finally:
        for s in before:
            signal.signal(s, signal.SIG_IGN)
        if pid:
            family.end(pid)


class _Leaving(BaseException):
    """We were asked to end."""


def _leave(number: int, frame: FrameType | None) -> None:
    raise _Leaving


class _Orders:
    """Lines on standard input, without reading ahead of what `select` can see."""

    def __init__(self) -> None:
        self._rest = b""
        self.over = False

    def next(self) -> str | None:
        """Wait for the next line; None at the end."""
        while b"\n" not in self._rest and not self.over:
            more = os.read(0, 65536)
            self._rest += more
            self.over = not more
        line, found, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="surrogateescape") if found else None

    def waiting(self, seconds: float) -> bool:
        """Wait some time for a line, or for the end; return whether one is there."""
        return bool(self._rest) or bool(select.select([0], [], [], seconds)[0])


def _ended(pid: int, orders: _Orders) -> int:
    """Wait until a trial has ended, or is to be ended; return its exit code, that of a kill where it is still there."""
    while True:
        code = family.reap().get(pid)
        if code is not None:
            return code
        if orders.waiting(_GLANCE) and orders.next() in (_END, None):
            return -signal.SIGKILL


def _tell(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def _work(errand: str, log: str) -> None:
    """Be the child: a group of its own, no input, output into the log; never return."""
    from gradientflow.depth.replay import child

    code = 1
    try:
        os.setpgid(0, 0)
        family.die_with_parent()
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
