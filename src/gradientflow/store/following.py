"""Following a run that is being written: read once as a whole, afterwards only what came since."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from gradientflow.records import Run
from gradientflow.store.layout import FILE
from gradientflow.store.opening import snapshot
from gradientflow.store.reading import read, taken

_Sign = tuple[int, int, int]


class Following:
    """A run that may grow. Each state that it was read in is left as it is, so that other threads can go on with it.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder if folder.name == FILE else folder / FILE
        self.run: Run | None = None
        self.version = 0
        self._sign: _Sign | None = None
        self._beyond: tuple[int, int] | None = None  # the last rows read; None: it cannot be read on, only as a whole

    def more(self) -> bool:
        """Read what came since; whether there was anything.

        Raises:
            RecordError: there is no run there, or nothing of it can be read.
        """
        sign = self._signed()
        if self.run is not None and sign is not None and sign == self._sign:
            return False
        same = sign is not None and self._sign is not None and sign[0] == self._sign[0]
        before = self.run if same and self._beyond is not None else None
        last: tuple[int, int] | None
        try:
            run, last = self._read(before)
        except sqlite3.OperationalError as problem:
            if before is not None and "lock" in str(problem):
                return False  # whoever writes has it: the next time, then
            run, last = self._whole()
        except Exception:
            run, last = self._whole()
        self.run, self._beyond, self._sign, self.version = run, last, sign, self.version + 1
        return True

    def _read(self, before: Run | None) -> tuple[Run, tuple[int, int]]:
        """Read what came behind `before`; all of it where this is another run by now, in a file by the same name."""
        with snapshot(self.path) as db:
            last = _last(db)
            beyond = self._beyond
            if before is not None and beyond is not None and last[0] >= beyond[0] and last[1] >= beyond[1]:
                run = taken(db, self.path, before, beyond)
                if run.meta.started == before.meta.started:
                    return run, last
            return taken(db, self.path), last

    def _whole(self) -> tuple[Run, None]:
        """Read a run that could not be read on: it may be damaged, and then `read` tells why, or it was taken away."""
        self.run, self._sign = None, None
        return read(self.path), None

    def age(self) -> float:
        """Seconds since the record was written to."""
        with contextlib.suppress(OSError):
            return max(0.0, time.time() - self.path.stat().st_mtime)
        return float("inf")

    def _signed(self) -> _Sign | None:
        """What changes with the file: which one it is, its length, and when it was written."""
        with contextlib.suppress(OSError):
            about = self.path.stat()
            return about.st_ino, about.st_size, about.st_mtime_ns
        return None


def _last(db: sqlite3.Connection) -> tuple[int, int]:
    """The last row of the steps and of the other records; 0 where there is no such table."""
    there = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    found = [
        db.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] if table in there else 0
        for table in ("steps", "rows")
    ]
    return int(found[0] or 0), int(found[1] or 0)
