"""A run's database, opened for one transaction; a script that runs in the same process can neither hurt it nor be hurt by it.

Where the caller stands apart from the script's descriptors (`gradientflow.apart`), SQLite must keep nothing of ours beyond
that: its own locks are held for a whole process, and it puts off closing a file, or uses its number again, when a script has
the same file open. So it is told to lock nothing, and what it would lock is locked here, in the same bytes of the file: to
the script's own connection, and to other processes, we are another process.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

_LOCKS, _LENGTH = 0x40000000, 512  # SQLite's bytes: one for PENDING, one for RESERVED, 510 for SHARED
_AGAIN = 0.02  # seconds before a lock is tried again


@contextlib.contextmanager
def transaction(file: Path, alone: bool, patience: float) -> Iterator[sqlite3.Connection]:
    """Open a database and begin to write; what was done is there as a whole afterwards, or not at all.

    Args:
        file: the database; made if it is missing.
        alone: whether this thread has a table of descriptors of its own.
        patience: seconds to wait for whoever has locked it.

    Yields:
        The connection.

    Raises:
        sqlite3.Error: it is locked, or cannot be written.
        OSError: it cannot be opened.
    """
    with (
        _locked(file, patience) if alone else contextlib.nullcontext(),
        contextlib.closing(_connect(file, "rwc", nolock=alone, timeout=patience)) as db,
    ):
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def snapshot(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to read what stood in it at one moment, also while it is written.

    Args:
        file: the database.

    Yields:
        The connection.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    # A writer that was killed within a transaction has left a journal. It is undone by whoever comes next, if that one may write.
    with contextlib.closing(_connect(file, "rw" if _journal(file).exists() else "ro")) as db:
        db.execute("BEGIN")
        yield db


def _connect(file: Path, mode: str, nolock: bool = False, timeout: float = 5.0) -> sqlite3.Connection:
    uri = f"{file.resolve().as_uri()}?mode={mode}" + ("&nolock=1" if nolock else "")
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)


def _journal(file: Path) -> Path:
    return file.with_name(f"{file.name}-journal")


@contextlib.contextmanager
def _locked(file: Path, patience: float) -> Iterator[None]:
    """Hold all of SQLite's locks on a file, by a descriptor of this thread's own."""
    handle = _lock(file, patience)
    if _journal(file).exists():  # nobody writes, so it was left; a connection that locks nothing would not look at it
        try:
            with contextlib.closing(_connect(file, "rw", timeout=patience)) as db:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            os.close(handle)
        handle = _lock(file, patience)  # whoever closes a file lets go of all locks of its table on it
    try:
        yield
    finally:
        os.close(handle)


def _lock(file: Path, patience: float) -> int:
    import fcntl  # only where there are tables of one's own

    until = time.monotonic() + patience
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    while True:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, _LENGTH, _LOCKS)
            return handle
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= until:
                os.close(handle)
                raise sqlite3.OperationalError("database is locked") from None
            time.sleep(_AGAIN)
        except BaseException:
            os.close(handle)
            raise
