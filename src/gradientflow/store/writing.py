"""Writing a run: rows are committed as they come, by whoever calls `flush`; what cannot be written waits in memory."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.apart import apart
from gradientflow.errors import OutputError, RecordError
from gradientflow.files import clean, encoded, settled
from gradientflow.records import Meta, Other, ParamNorms, Record, Run, Step
from gradientflow.store.layout import FILE, SCHEMA, STEP_COLUMNS
from gradientflow.store.opening import snapshot, transaction
from gradientflow.store.reading import taken

MOST_WAITING = 200_000  # rows in memory, for a database that cannot be written
AT_THE_END = 3.0  # seconds for a database that another process has locked
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class _Row:
    """One row that waits: its table, the statement with its values, and the record it was made from."""

    table: str
    sql: str
    values: tuple[Any, ...]
    record: Record | None


class Store:
    """Writes one run. Never raises once open: what could not be written is kept in `error` and in memory.

    The database is opened for each batch of rows and closed behind it, apart from the script's descriptors (`opening.py`): a
    script that closes all there are (as daemons do) and opens files of its own never finds our rows in them. Where the
    database is locked, rows wait in memory for the next batch; where it was removed, it is begun anew.

    Args:
        folder: the run's folder; made if it is missing.

    Raises:
        OutputError: the folder or the database cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = settled(folder)
        self.error: str | None = None  # why rows still wait
        self.lost: str | None = None  # what became of rows that had been written
        self._lock = threading.Lock()  # of the rows that wait: held for a moment, also by the script's own thread
        self._writing = threading.Lock()  # of the database: held while it is written, never waited for by the script
        self._pid = os.getpid()
        self._pending: list[_Row] = []
        self._fixed: dict[str, _Row] = {}  # the last of what is kept once: the description, texts of source files
        self._sources: dict[str, str] = {}
        self._written = {"steps": 0, "rows": 0}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if apart(lambda alone: self._begin(alone)):
                raise OutputError(
                    f"{folder} already holds a run. Expected a new or empty folder for --out; "
                    f"choose another, or remove it, or leave --out away for a fresh folder under runs/."
                )
        except (OSError, sqlite3.Error, ValueError) as problem:
            raise OutputError(
                f"cannot write a run into {folder}: {problem}. Expected a folder that can be written; "
                f"name another one with --out DIR."
            ) from problem

    def _begin(self, alone: bool) -> bool:
        """Make the tables; whether something is recorded in them already, which is left as it is."""
        file = self.folder / FILE
        if file.is_file():
            with snapshot(file) as db:
                begun = db.execute("SELECT count(*) FROM sqlite_master WHERE name='meta'").fetchone()[0]
                if begun and db.execute("SELECT count(*) FROM meta").fetchone()[0]:
                    return True
        with transaction(file, alone, 1.0) as db:
            for table in SCHEMA:
                db.execute(table)
        return False

    def step(self, step: Step) -> None:
        """Add one optimizer step."""
        values = (step.step, step.at, step.optimizer, step.lr, step.loss, step.grad, step.weight, step.update)
        self._add(
            _Row(
                "steps",
                f"INSERT INTO steps VALUES ({','.join('?' * len(STEP_COLUMNS))})",
                (*(_storable(v) for v in values), step.nonfinite, step.backwards, step.momentum, step.along),
                step,
            )
        )

    def add(self, record: Other) -> None:
        """Add one record of another kind."""
        kind, step = type(record).__name__, getattr(record, "step", None)
        packed = encoded(record, _pack)
        self._add(_Row("rows", "INSERT INTO rows (kind, step, data) VALUES (?,?,?)", (kind, step, packed), record))

    def meta(self, meta: Meta) -> None:
        """Write the run's description, replacing the one before."""
        self._fix("meta", encoded(meta, _pack))

    def source(self, file: str, text: str) -> None:
        """Keep the text of a source file that the trace names, for reports on other machines."""
        self._sources[file] = text
        self._fix(f"source:{clean(file)}", clean(text).encode())

    def _fix(self, key: str, data: bytes) -> None:
        row = _Row("meta", "INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, data), None)
        self._fixed[key] = row
        self._add(row)

    def _add(self, row: _Row) -> None:
        if os.getpid() != self._pid:
            return
        with self._lock:
            if row.table == "meta":  # only the last of them is of use
                self._pending = [r for r in self._pending if r.table != "meta" or r.values[0] != row.values[0]]
            self._pending.append(row)
            if len(self._pending) > MOST_WAITING:
                self._thin()

    def _thin(self) -> None:
        """Too many rows wait for a database that cannot be written: every other one of what is drawn only is dropped."""
        norms = [i for i, r in enumerate(self._pending) if isinstance(r.record, ParamNorms)] or list(
            range(len(self._pending))
        )
        dropped = set(norms[1::2])
        self._pending = [r for i, r in enumerate(self._pending) if i not in dropped]

    def flush(self, patience: float = 0.0) -> None:
        """Write what waits; what cannot be written now waits on, and `error` says why.

        Args:
            patience: seconds to wait for a database that another process has locked.
        """
        if os.getpid() == self._pid:
            apart(lambda alone: self._flush(alone, patience))

    def _flush(self, alone: bool, patience: float) -> None:
        if not self._writing.acquire(blocking=patience > 0):
            return
        try:
            with self._lock:
                batch = self._pending[:]
            if not batch:
                return
            try:
                self._write(batch, alone, patience)
            except (sqlite3.Error, OSError) as problem:
                self.error = f"{self.folder / FILE}: {problem}"
                return
            with self._lock:
                done = set(map(id, batch))
                self._pending = [r for r in self._pending if id(r) not in done]
            self.error = None
        finally:
            self._writing.release()

    def _write(self, batch: list[_Row], alone: bool, patience: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with transaction(self.folder / FILE, alone, patience) as db:
            for table in SCHEMA:
                db.execute(table)
            if not db.execute("SELECT count(*) FROM meta").fetchone()[0]:  # the first batch, or a file that is new
                self._written = {"steps": 0, "rows": 0}
                for row in self._fixed.values():
                    db.execute(row.sql, row.values)
            for row in batch:
                db.execute(row.sql, row.values)
        for row in batch:
            if row.table in self._written:
                self._written[row.table] += 1

    def close(self) -> None:
        """Write what waits."""
        self.flush(patience=AT_THE_END)

    def run(self, meta: Meta, recent: Run | None = None) -> Run:
        """Return the whole run as seen so far, from disk and from what the disk refused.

        Args:
            meta: its description.
            recent: what is held in memory beside it, for what can be read no more.
        """
        self.flush(patience=AT_THE_END)
        try:
            run = apart(self._read)
        except (RecordError, sqlite3.Error, OSError):
            run = Run(meta)
        sources = run.meta.sources
        run.meta = msgspec.structs.replace(meta, sources={**sources, **self._sources, **meta.sources})
        for row in self._pending:
            if row.record is not None:
                run.add(row.record)
        if recent is not None and len(run.steps) < len(recent.steps):  # the file was removed while the script ran
            self._restore(run, recent)
        return run

    def _read(self, alone: bool) -> Run:
        with transaction(self.folder / FILE, alone, AT_THE_END) as db:
            return taken(db, self.folder / FILE)

    def _restore(self, run: Run, recent: Run) -> None:
        """Put what is in memory into a record that was begun anew, and into the run."""
        there = {(s.step, s.optimizer) for s in run.steps} | {("probe", p.step) for p in run.probes}
        for step in recent.steps:
            if (step.step, step.optimizer) not in there:
                self.step(step)
        for probe in recent.probes:
            if ("probe", probe.step) not in there:
                self.add(probe)
        run.steps, run.probes, run.notes = recent.steps, recent.probes, recent.notes
        self.lost = f"{self.folder / FILE} was removed or replaced while the script ran; it was made anew from what was in memory"


def _storable(value: Any) -> Any:
    """SQLite turns NaN into NULL; keep non-finite numbers as text so that NULL means 'not seen'."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    return value
