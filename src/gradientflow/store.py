"""A run on disk: one folder per run, holding `run.db` (SQLite in WAL mode), `report.html` and `verdict.json`.

Rows are committed as they come, so a run that is killed can be read up to its last moment, and a run can be read while
it is written. Steps are plain columns, for anybody's own queries; probes, norms and notes are msgpack blobs of the
types in `records`.

A replay of remedies is kept beside it as `replay.json`, the runs of its trials under `replay/`.

    meta(key, data)   steps(step, at, optimizer, lr, loss, grad, weight, update_norm, ...)   rows(id, kind, step, data)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.errors import OutputError, RecordError
from gradientflow.records import Meta, Note, ParamNorms, Probe, Replay, Run, Step

FILE = "run.db"
REPLAY, TRIALS = "replay.json", "replay"
_STEP_COLUMNS = (
    "step", "at", "optimizer", "lr", "loss", "grad", "weight", "update_norm", "nonfinite", "backwards", "momentum", "along",
)  # fmt: skip
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS steps ({", ".join(_STEP_COLUMNS)});
CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, kind TEXT, step INTEGER, data BLOB);
"""
_pack = msgspec.msgpack.Encoder().encode


class Store:
    """Writes one run. Never raises once open: what could not be written is kept in `error` and in memory.

    Args:
        folder: the run's folder; made if it is missing.

    Raises:
        OutputError: the folder or the database cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: str | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        self._lost: list[Step | ParamNorms | Probe | Note] = []
        self._sources: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / FILE, check_same_thread=False, isolation_level=None)
            begun = self._db.execute("SELECT count(*) FROM sqlite_master WHERE name='meta'").fetchone()[0]
            if begun and self._db.execute("SELECT count(*) FROM meta").fetchone()[0]:
                self._db.close()
                raise OutputError(
                    f"{folder} already holds a run. Expected a new or empty folder for --out; "
                    f"choose another, or remove it, or leave --out away for a fresh folder under runs/."
                )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as problem:
            raise OutputError(
                f"cannot write a run into {folder}: {problem}. Expected a folder that can be written; "
                f"name another one with --out DIR."
            ) from problem

    def step(self, step: Step) -> None:
        """Add one optimizer step."""
        values = (step.step, step.at, step.optimizer, step.lr, step.loss, step.grad, step.weight, step.update)
        self._add(
            f"INSERT INTO steps VALUES ({','.join('?' * len(_STEP_COLUMNS))})",
            (*(_storable(v) for v in values), step.nonfinite, step.backwards, step.momentum, step.along),
            step,
        )

    def add(self, record: ParamNorms | Probe | Note) -> None:
        """Add one record of another kind."""
        kind = type(record).__name__
        step = getattr(record, "step", None)
        self._add("INSERT INTO rows (kind, step, data) VALUES (?,?,?)", (kind, step, _pack(record)), record)

    def meta(self, meta: Meta) -> None:
        """Write the run's description, replacing the one before."""
        self._add("INSERT OR REPLACE INTO meta VALUES ('meta', ?)", (_pack(meta),), None)

    def source(self, file: str, text: str) -> None:
        """Keep the text of a source file that the trace names, for reports on other machines."""
        self._sources[file] = text
        self._add("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"source:{file}", text.encode()), None)

    def _add(self, sql: str, values: tuple[Any, ...], record: Step | ParamNorms | Probe | Note | None) -> None:
        if os.getpid() != self._pid:
            return
        if self.error is not None:
            if record is not None:
                self._lost.append(record)
            return
        with self._lock:
            self._pending.append((sql, values))
            if record is not None:
                self._lost.append(record)

    def flush(self) -> None:
        """Commit what is pending; on a full or failing disk keep it in memory and say so in `error`."""
        if os.getpid() != self._pid or self.error is not None:
            return
        with self._lock:
            pending, self._pending = self._pending, []
            if not pending:
                return
            try:
                self._db.execute("BEGIN")
                for sql, values in pending:
                    self._db.execute(sql, values)
                self._db.execute("COMMIT")
                self._lost.clear()
            except (sqlite3.Error, OSError) as problem:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                self.error = f"{self.folder / FILE}: {problem}"

    def close(self) -> None:
        """Commit and close."""
        self.flush()
        if os.getpid() == self._pid:
            with contextlib.suppress(sqlite3.Error):
                if self.error is None:  # one file, which also opens where nothing can be written beside it
                    self._db.execute("PRAGMA journal_mode=DELETE")
            with contextlib.suppress(sqlite3.Error):
                self._db.close()

    def run(self, meta: Meta) -> Run:
        """Return the whole run as seen so far, from disk and from what the disk refused."""
        self.flush()
        try:
            run = read(self.folder)
        except RecordError:
            run = Run(meta)
        sources = run.meta.sources
        run.meta = msgspec.structs.replace(meta, sources={**sources, **self._sources, **meta.sources})
        for record in self._lost:
            _file(run, record)
        return run


def _storable(value: Any) -> Any:
    """SQLite turns NaN into NULL; keep non-finite numbers as text so that NULL means 'not seen'."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    return value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _file(run: Run, record: Step | ParamNorms | Probe | Note) -> None:
    match record:
        case Step():
            run.steps.append(record)
        case ParamNorms():
            run.norms.append(record)
        case Probe():
            run.probes.append(record)
        case Note():
            run.notes.append(record)


def read(folder: Path) -> Run:
    """Read a run from its folder, finished or not, also while it is being written.

    Args:
        folder: the run's folder, or the path of its `run.db`.

    Returns:
        The run.

    Raises:
        RecordError: there is no run there, or it cannot be read.
    """
    path = folder if folder.name == FILE else folder / FILE
    if not path.is_file():
        raise RecordError(
            f"{folder} holds no run: expected a file {FILE} in it. Pass the folder that `gradientflow run` printed, "
            f"for example runs/train-20260101-120000."
        )
    types: dict[str, type[ParamNorms] | type[Probe] | type[Note]] = {t.__name__: t for t in (ParamNorms, Probe, Note)}
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            found = db.execute("SELECT data FROM meta WHERE key='meta'").fetchone()
            if found is None:
                raise RecordError(f"{path} was begun but nothing was recorded in it yet")
            run = Run(msgspec.msgpack.decode(found[0], type=Meta))
            for key, data in db.execute("SELECT key, data FROM meta WHERE key LIKE 'source:%'"):
                run.meta.sources[key.removeprefix("source:")] = data.decode(errors="replace")
            for row in db.execute(f"SELECT {','.join(_STEP_COLUMNS)} FROM steps ORDER BY rowid"):
                run.steps.append(Step(*(_number(v) for v in row)))
            for kind, data in db.execute("SELECT kind, data FROM rows ORDER BY id"):
                _file(run, msgspec.msgpack.decode(data, type=types[kind]))
    except (sqlite3.Error, msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as problem:
        raise RecordError(f"{path} cannot be read as a run of gradientflow: {problem}") from problem
    if run.meta.ended is None:  # killed: the description lags behind the rows
        run.meta.steps = max(run.meta.steps, run.steps[-1].step if run.steps else 0)
        run.meta.elapsed = max([run.meta.elapsed, *(s.at for s in run.steps[-1:]), *(p.at for p in run.probes[-1:])])
    return run


def keep_replay(folder: Path, replay: Replay) -> None:
    """Write what a replay found so far into a run's folder; a half-written file is never left behind.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / REPLAY
    part = path.with_suffix(".part")
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(replay), indent=2) + b"\n")
        os.replace(part, path)
    except OSError as problem:
        raise OutputError(
            f"cannot write the replay to {path}: {problem.strerror}. Expected the run's folder to be writable."
        ) from problem


def read_replay(folder: Path) -> Replay | None:
    """Read the replay of a run; None where nothing was replayed.

    Raises:
        RecordError: there is one that cannot be read.
    """
    path = (folder if folder.is_dir() else folder.parent) / REPLAY
    try:
        return msgspec.json.decode(path.read_bytes(), type=Replay)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as problem:
        raise RecordError(
            f"{path} cannot be read as a replay of gradientflow: {problem}. Remove it and replay anew."
        ) from problem
