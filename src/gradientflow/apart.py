"""Work on files where no other thread can reach them: in a thread that has a table of file descriptors of its own.

A script may close descriptors that are not its own (daemons close all there are) and open files under their numbers, in any
thread and at any moment. What we write through a descriptor that is shared with it could then land in its files, and what we
close could be its own. On Linux a thread can leave the table that it shares (`CLOSE_RANGE_UNSHARE`, since 5.9;
`CLONE_FILES` before): from then on a number means one thing here and another there. Its table begins empty, so nothing of the
script's is kept open by it either: who waits for the end of a pipe sees that end.

What is opened in such a thread must be closed in it too: its number means nothing elsewhere.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from gradientflow.garbage import uncollected

_CLOSE_RANGE, _UNSHARE_RANGE = 436, 2  # close_range(2) has one number on every architecture; CLOSE_RANGE_UNSHARE
_CLONE_FILES = 0x400  # of unshare(2)
_ALL = 0xFFFFFFFF
# (once, ahead of the script: to load it again would leave rubbish behind that the script can count)
_SYSTEM = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_T = TypeVar("_T")


def apart(work: Callable[[bool], _T]) -> _T:
    """Do work on files in a thread with a table of descriptors of its own, and wait for it.

    Args:
        work: what to do; it is told whether the table is its own. Where no thread can be had, or the system has no such
            tables, it is done with those of the caller.

    Returns:
        What the work returns.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:  # its number means nothing there
        ...     apart(lambda alone: os.path.exists(f"/proc/thread-self/fd/{file.fileno()}"))
        False
    """
    done, came = _thread.allocate_lock(), _Came()
    done.acquire()

    def run() -> None:
        try:
            came.value = work(_leave())
        except BaseException as problem:
            came.problem = _let_go(problem)
        finally:
            done.release()

    with uncollected():  # a file of the script's that was collected there would be flushed to a number of ours
        try:
            _thread.start_new_thread(
                run, ()
            )  # no `threading.Thread`: a script that counts or traces those sees none of ours
        except RuntimeError:  # of threads there are as many as there may be
            return work(False)
        done.acquire()
    if came.problem is not None:
        raise came.problem
    return came.value  # type: ignore[no-any-return]


class _Came:
    """What came of some work."""

    value: Any = None
    problem: BaseException | None = None


def _let_go(problem: BaseException) -> BaseException:
    """Clear the frames that an exception remembers: what they hold is closed in this thread, not where it is caught."""
    seen: list[BaseException] = []
    waiting = [problem]
    while waiting:
        one = waiting.pop()
        if all(one is not s for s in seen):
            seen.append(one)
            traceback.clear_frames(one.__traceback__)
            waiting += [p for p in (one.__context__, one.__cause__) if p is not None]
    return problem


def _leave() -> bool:
    """Give this thread an empty table of descriptors of its own; False, and nothing has changed, where that cannot be done."""
    system = _SYSTEM
    if system is None:
        return False
    try:
        whole = (ctypes.c_long(_CLOSE_RANGE), ctypes.c_uint(0), ctypes.c_uint(_ALL), ctypes.c_uint(_UNSHARE_RANGE))
        if system.syscall(*whole) != 0:
            if system.unshare(_CLONE_FILES) != 0:
                return False
            os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    except (OSError, AttributeError):
        return False
    with contextlib.suppress(OSError):
        for _ in range(3):  # 0, 1 and 2: what is written there by chance must not get into a file of ours
            os.open(os.devnull, os.O_RDWR)
    return True
