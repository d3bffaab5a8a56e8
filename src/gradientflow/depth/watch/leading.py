"""Of several threads that train at once only one is watched: what belongs to another's model may be written to while we
read it.
"""

from __future__ import annotations

import threading
import time

from gradientflow.torch_internals import frames_of_threads

_AT_REST = 1.0  # seconds without a step after which another thread may be watched instead


class Leader:
    """The thread that is watched: the first to come to a step, until it is over, waits for others, or is long at rest."""

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._stirred: float | None = None  # when it last came to an optimizer's step
        self._taking = threading.Lock()  # several threads may come to their first step at once: one of them is it

    def leads(self) -> bool:
        """Whether the thread that asks is the one that is watched; it has stirred, then."""
        if threading.current_thread() is not self._thread:
            return False
        self._stirred = time.perf_counter()
        return True

    def take_over(self) -> bool:
        """Put the thread that asks in the place of one that is at rest; return whether it was."""
        with self._taking:
            if (
                self._stirred is not None
                and not _waits(self._thread)
                and time.perf_counter() - self._stirred <= _AT_REST
            ):
                return False
            self._thread, self._stirred = threading.current_thread(), time.perf_counter()
            return True


def _waits(thread: threading.Thread) -> bool:
    """Whether a thread has ended, or waits for another one to begin or to end."""
    frame = frames_of_threads().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code.co_name in ("join", "start"):
            return True
        frame = frame.f_back
    return not thread.is_alive()
