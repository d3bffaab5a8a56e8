"""A block in which no garbage is collected, so that no finaliser of the script's runs in a thread or at a moment of ours.

A finaliser that ran in a thread whose table of descriptors is another would close, or flush a file to, a number that means
something else there; and one that runs while CPython holds a lock of its own can lock the process up.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.RLock()  # (a finaliser may come back here from within, in the same thread)
_inside = 0
_collected = True  # whether collection was on when the first block began


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Switch collection off for the length of a block; blocks may overlap, in several threads.

    Example:
        >>> with uncollected():
        ...     gc.isenabled()
        False
    """
    global _inside, _collected
    with _lock:
        if not _inside:
            _collected = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _collected:
                gc.enable()
