"""Reading a run: the one place where rows become records, and where an odd one is left out and told.

What is read is sound: every record has the types it must have, and points to nothing that is not there (`records.sound`).
A row that is not costs itself; a table that is missing, or a file that is damaged in the middle, costs what cannot be read
of it. What was left out stands in a note of the run, of kind "record".
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.errors import RecordError
from gradientflow.files import clean
from gradientflow.records import Meta, Note, ParamNorms, Probe, Run, Step
from gradientflow.records.sound import NOT_RECORDED, fault_of, sound_meta
from gradientflow.store.tables import COLUMNS, FILE, FORMAT, meant

Record = Step | ParamNorms | Probe | Note
_KINDS: dict[str, type[ParamNorms] | type[Probe] | type[Note]] = {t.__name__: t for t in (ParamNorms, Probe, Note)}
_LONGEST = 160  # characters of a reason


def read(folder: Path, meta: Meta | None = None) -> Run:
    """Read a run from its folder, finished or not, also while it is being written.

    Args:
        folder: the run's folder, or the path of its `run.db`.
        meta: the description, where it is known better than the folder does; None: the folder's.

    Returns:
        The run. What was left out of it, because it is damaged, stands in its notes.

    Raises:
        RecordError: there is no run there, or nothing of it can be read.
    """
    path = folder if folder.name == FILE else folder / FILE
    if not path.is_file():
        raise RecordError(
            f"{folder} holds no run: expected a file {FILE} in it. Pass the folder that `gradientflow run` printed, "
            f"for example runs/train-20260101-120000."
        )
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.text_factory = lambda raw: raw.decode(errors="replace")  # text that is none costs its value, not the table
            run = _Reading(db, path).run(meta)
    except (sqlite3.Error, OSError) as problem:
        raise RecordError(
            f"{path} cannot be read as a run of gradientflow: {type(problem).__name__}: {problem}. It is damaged, or was written by "
            f"another version; run the script again."
        ) from problem
    if run.meta.ended is None:  # killed: the description lags behind the rows
        run.meta.steps = max(run.meta.steps, run.steps[-1].step if run.steps else 0)
        run.meta.elapsed = max([run.meta.elapsed, *(s.at for s in run.steps[-1:]), *(p.at for p in run.probes[-1:])])
    return run


def filed(run: Run, record: Record) -> None:
    """Put a record where it belongs in a run."""
    match record:
        case Step():
            run.steps.append(record)
        case ParamNorms():
            run.norms.append(record)
        case Probe():
            run.probes.append(record)
        case Note():
            run.notes.append(record)


class _Reading:
    """One database, read from top to bottom; `left` gathers what is left out of it, in sentences."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.db, self.path = db, path
        self.left: list[str] = []
        found = db.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()  # (a view may never end)
        self.tables = {str(name) for (name,) in found}

    def run(self, known: Meta | None) -> Run:
        """Everything that can be read, with notes of what cannot."""
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            self.left.append(f"it was written by a newer version (format {version}, this one reads {FORMAT}): what is new is not told")
        described, sources = self._meta()
        steps = list(self._table("steps", "rowid", COLUMNS))
        rows = list(self._table("rows", "id", ("kind", "data")))
        if described is None and not steps and not rows:
            self._nothing()
        told = described or Meta(NOT_RECORDED, [], "", "", "", "")
        run = Run(known if known is not None else told)
        told.sources.update(sources)
        if known is not None:
            run.meta = msgspec.structs.replace(known, sources={**told.sources, **known.sources})
        self._file(run, "steps", [(number, _step, values) for number, *values in steps])
        self._file(run, "rows", [(number, _record, values) for number, *values in rows])
        run.notes.extend(Note("record", f"{self.path.name}: {text}.") for text in self.left)
        return run

    def _nothing(self) -> None:
        if self.left and self.tables:
            raise RecordError(
                f"{self.path}: nothing of the run can be read: {'; '.join(self.left)}. It is damaged, or no run of gradientflow; run the "
                f"script again."
            )
        raise RecordError(
            f"{self.path} was begun, but nothing is recorded in it yet: it was killed at once, or has just started."
        )

    def _meta(self) -> tuple[Meta | None, dict[str, str]]:
        """The description, as far as it can be read, and the texts of source files."""
        found: Meta | None = None
        sources: dict[str, str] = {}
        for _, key, data in self._table("meta", "rowid", ("key", "data")):
            name = str(key)
            if name == "meta":
                found, lost = sound_meta(data)
                if lost:
                    self.left.append(f"table meta, row 'meta': left out {', '.join(lost)}")
            elif name.startswith("source:") and isinstance(data, bytes):
                sources[name.removeprefix("source:")] = data.decode(errors="replace")
            elif name.startswith("source:"):
                self.left.append(f"table meta, row {_short(repr(name))}: left out, it is no text of a file")
        if found is None and "meta" in self.tables:
            self.left.append("table meta: the row 'meta' is missing, which says what was run")
        return found, sources

    def _table(self, table: str, key: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """Rows of a table in order, their key first; ends early where the file cannot be read on."""
        if table not in self.tables:
            self.left.append(f"the table {table} is missing")
            return
        count = 0
        try:
            there = {str(row[1]) for row in self.db.execute(f"PRAGMA table_info({table})")}
            if lost := [c for c in columns if c not in there]:
                self.left.append(f"table {table}: the column {', '.join(lost)} is missing")
            wanted = ", ".join(c if c in there else f"NULL AS {c}" for c in columns)
            for row in self.db.execute(f"SELECT {key}, {wanted} FROM {table} ORDER BY {key}"):
                count += 1
                yield row
        except (sqlite3.Error, OverflowError, MemoryError) as problem:
            self.left.append(f"table {table}: what comes after {count} rows cannot be read ({_short(problem)})")

    def _file(self, run: Run, table: str, rows: list[tuple[Any, Any, list[Any]]]) -> None:
        """Make records of rows; those that are none, or that are not sound, are left out."""
        bad: list[tuple[Any, str]] = []
        for number, make, values in rows:
            try:
                record: Record = make(*values)
                fault = fault_of(record, run.meta)
            except Exception as problem:  # msgspec may raise any of a dozen kinds
                fault = f"{type(problem).__name__}: {problem}"
            if fault:
                bad.append((number, fault))
            else:
                filed(run, record)
        if bad:
            number, why = bad[0]
            many = "" if len(bad) == 1 else " the first of them,"
            self.left.append(f"table {table}: left out {len(bad)} of {len(rows)} rows;{many} row {number}: {_short(why)}")


def _step(*values: Any) -> Step:
    fields = dict(zip(Step.__struct_fields__, map(meant, values), strict=True))
    return msgspec.convert(fields, Step)


def _record(kind: Any, data: Any) -> Record:
    if kind not in _KINDS:
        raise ValueError(f"unknown kind {_short(repr(kind))}")
    return msgspec.msgpack.decode(data, type=_KINDS[kind])


def _short(text: object) -> str:
    said = " ".join(clean(str(text)).split())
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
