"""One thread at a time on a field that cannot be evaluated by two: a module's parameters are put into it while it runs.

Whoever takes long says between two pieces of its work that others may go first (`let_by`); who must answer at once stands at the
head of the queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock with a queue.

    Args:
        shared: the field can be evaluated by several threads: nobody waits.

    Example:
        >>> turns = Turns()
        >>> with turns.mine():
        ...     turns.let_by()
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self._change = threading.Condition()
        self._queue: deque[object] = deque()
        self._holder: int | None = None
        self._urgent = False

    @contextmanager
    def mine(self, *, urgent: bool = False) -> Iterator[None]:
        """Wait for one's turn, and have it for the length of a block.

        Args:
            urgent: go before those who wait, and let nobody by.
        """
        if self.shared:
            yield
            return
        with self._change:
            self._wait(urgent)
        try:
            yield
        finally:
            with self._change:
                self._leave()

    def let_by(self) -> None:
        """Let those who wait go first, where one has a turn and is not in a hurry oneself."""
        if self.shared or self._holder != threading.get_ident() or self._urgent or not self._queue:
            return
        with self._change:
            self._leave()
            self._wait(False)

    def _wait(self, urgent: bool) -> None:
        me = object()
        if urgent:
            self._queue.appendleft(me)
        else:
            self._queue.append(me)
        while self._holder is not None or self._queue[0] is not me:
            self._change.wait()
        self._queue.popleft()
        self._holder, self._urgent = threading.get_ident(), urgent

    def _leave(self) -> None:
        self._holder = None
        self._change.notify_all()
