"""The processes that a trial starts, and their end: no trial leaves one behind.

On Linux the process that forks the trials becomes the parent of whatever loses its own (a subreaper). So every descendant
of a trial can be found under it, also one in a session of its own. Elsewhere only the trial's own process group can be
found: a descendant that left it for a group or session of its own lives on. Out of reach everywhere: what others started
at the trial's request (a job scheduler, a container's daemon), and what runs as another user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

GRACE = 2.0  # seconds between being asked to end and being ended
_PATIENCE = 5.0  # seconds for what was killed to be gone: a process inside a call to a disk may take its time
_TICK = 0.02
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


def adopt_orphans() -> bool:
    """Make this process the parent of descendants whose own parent ends; return whether the system can do that."""
    return _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have this process killed when the one that forked it ends, however that ends; where the system can do that."""
    _prctl(_SET_PDEATHSIG, int(signal.SIGKILL))


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def end(group: int, grace: float = GRACE) -> None:
    """End every process of a trial that can be found: asked first, killed after a grace.

    Args:
        group: the trial's process group.
        grace: seconds in between.
    """
    asked: set[int] = set()
    kill = time.monotonic() + grace
    give_up = kill + _PATIENCE
    while True:
        reap()
        left = descendants(os.getpid()) if sys.platform == "linux" else {}
        now = time.monotonic()
        if (not left and not _signal_group(group, 0)) or now > give_up:
            return
        how = signal.SIGKILL if now >= kill else signal.SIGTERM
        fresh = set(left) if how == signal.SIGKILL else set(left) - asked
        for pid in fresh:
            _signal(pid, how)
        if how == signal.SIGKILL or group not in asked:
            _signal_group(group, how)
        asked |= fresh | {group}
        time.sleep(_TICK)


def descendants(of: int) -> dict[int, int]:
    """Return the processes that descend from one, with their parents, as /proc shows them; those that are dead are left out.

    Example:
        >>> os.getpid() in descendants(os.getppid()) or sys.platform != "linux"
        True
        >>> os.getppid() in descendants(os.getpid())
        False
    """
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]  # (a name may hold spaces and brackets)
                if state not in "ZX":
                    parents[int(name)] = int(parent)
    found: dict[int, int] = {}
    near = {of}
    while near:
        near = {pid for pid, parent in parents.items() if parent in near and pid not in found}
        found |= {pid: parents[pid] for pid in near}
    return found


def reap() -> dict[int, int]:
    """Take note of the children that have ended: pid → exit code, negative for a signal."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def _signal(pid: int, how: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, how)


def _signal_group(group: int, how: int) -> bool:
    """Send a signal to a process group (0 only asks); return whether there is still one of it that can be reached."""
    try:
        os.killpg(group, how)
    except (ProcessLookupError, PermissionError):
        return False
    return True
