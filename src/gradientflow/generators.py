"""The global generators of random numbers belong to the whole process.

Whoever puts them into a state of its own, and back, holds `HELD` meanwhile: another thread that does the same would else draw from
that state, or give back one that is not its own.
"""

from __future__ import annotations

import threading

HELD = threading.RLock()
