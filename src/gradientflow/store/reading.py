"""Reading a run, finished or not, whole or damaged: what cannot be read is left out and told, and costs nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gradientflow.errors import RecordError
from gradientflow.records import Meta, Note, Optimizer, Other, Param, Record, Run, Step
from gradientflow.store.layout import FILE, KINDS, STEP_COLUMNS
from gradientflow.store.opening import snapshot
from gradientflow.store.sound import MOST_PARAMS, described, unknown, wrong_with

_NOT_FINITE = ("nan", "inf", "-inf")  # kept as text, as SQLite would make a NULL of a NaN
_unpack = msgspec.msgpack.decode
_T = TypeVar("_T", Param, Optimizer)


class _Losses:
    """What was left out of a run: how many rows of which table, and why the first of each; and tables, or the end of them."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._tables: list[str] = []

    def add(self, table: str, why: object) -> None:
        self._found.setdefault(table, []).append(_short(why))

    def of_table(self, table: str, what: str, why: object) -> None:
        self._tables.append(f"{what} of table {table} left out ({_short(why)})")

    def told(self, path: Path) -> list[Note]:
        rows = [f"{len(why)} of table {table} left out (the first: {why[0]})" for table, why in self._found.items()]
        return [Note("record", f"{path.name} is damaged: {one}") for one in [*self._tables, *rows]]


def read(folder: Path) -> Run:
    """Read a run from its folder, finished or not, also while it is being written.

    Args:
        folder: the run's folder, or the path of its `run.db`.

    Returns:
        The run, without rows that are damaged; a note says how many there were.

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
        with snapshot(path) as db:
            return taken(db, path)
    except RecordError:
        raise
    except Exception as problem:  # a damaged file may fail in any way
        raise RecordError(
            f"{path} cannot be read as a run of gradientflow: {type(problem).__name__}: {problem}. It is damaged, or was written by "
            f"another version; run the script again."
        ) from problem


def taken(db: sqlite3.Connection, path: Path, before: Run | None = None, beyond: tuple[int, int] = (0, 0)) -> Run:
    """Return the run that an open database holds.

    Args:
        db: the database.
        path: its file, to be named where something is damaged.
        before: what was read of it before; it is left as it is.
        beyond: the last row of the steps, and of the other records, that were read then.

    Returns:
        The run, as `read` does.

    Raises:
        RecordError: nothing is recorded in it yet.
        sqlite3.Error: it cannot be read.
    """
    losses = _Losses()
    db.text_factory = lambda text: text.decode(errors="replace")
    begun = any(_columns(db, table) for table in ("meta", "steps", "rows"))
    run = _run(db, path, losses, before, beyond) if begun else None
    if run is None:
        raise RecordError(
            f"{path} was begun, but nothing is recorded in it yet: it was killed at once, or has just started."
        )
    added = described(run.meta, [*run.norms, *run.probes])
    if added and run.meta.ended is not None:
        losses.of_table("meta", "what rows name", f"{added} parameters of which it says nothing")
    run.notes += [note for note in losses.told(path) if note not in run.notes]
    if run.meta.ended is None:  # killed: the description lags behind the rows
        run.meta.steps = max(run.meta.steps, run.steps[-1].step if run.steps else 0)
        run.meta.elapsed = max([run.meta.elapsed, *(s.at for s in run.steps[-1:]), *(p.at for p in run.probes[-1:])])
    return run


def _run(
    db: sqlite3.Connection, path: Path, losses: _Losses, before: Run | None, beyond: tuple[int, int]
) -> Run | None:
    """Return what can be read; None where nothing was recorded yet."""
    found = dict(_rows(db, "meta", ("key", "data"), "rowid", losses))
    is_described = "meta" in found
    run = Run(_meta(found.pop("meta"), losses) if is_described else _described_by_nothing())
    if before is not None:
        run.steps, run.norms, run.probes = list(before.steps), list(before.norms), list(before.probes)
        run.notes, run.rewrites = list(before.notes), list(before.rewrites)
    for key, data in found.items():
        if isinstance(key, str) and key.startswith("source:") and isinstance(data, bytes):
            run.meta.sources[key.removeprefix("source:")] = data.decode(errors="replace")
        else:
            losses.add("meta", f"key {key!r:.40}")
    for row in _rows(db, "steps", STEP_COLUMNS, "rowid", losses, beyond[0]):
        _take(run, "steps", partial(_step, row), losses)
    for kind, data in _rows(db, "rows", ("kind", "data"), "id", losses, beyond[1]):
        _take(run, "rows", partial(_record, kind, data), losses)
    if not (is_described or found or run.steps or run.norms or run.probes or run.notes or losses.told(path)):
        return None
    if not is_described and _columns(db, "meta"):
        losses.of_table("meta", "row 'meta'", "it is missing: it says what was run")
    return run


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    """Return a table's columns; none where there is no such table. (A view is none: it may never end.)"""
    found = db.execute("SELECT name FROM sqlite_master WHERE type='table' AND name=?", (table,)).fetchone()
    return {str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")} if found else set()


def _rows(
    db: sqlite3.Connection, table: str, columns: tuple[str, ...], order: str, losses: _Losses, beyond: int = 0
) -> Iterator[tuple[Any, ...]]:
    """Yield a table's rows as far as the file can be read; NULL stands for a column that is missing."""
    count = 0
    try:
        there = _columns(db, table)
        if not there:
            losses.of_table(table, "all", "it is missing")
            return
        if missing := [name for name in columns if name not in there]:
            losses.of_table(table, f"column {', '.join(missing)}", "it is missing")
        newer = f"WHERE rowid > {int(beyond)}" if beyond else ""
        wanted = ", ".join(name if name in there else "NULL" for name in columns)
        with contextlib.closing(db.execute(f"SELECT {wanted} FROM {table} {newer} ORDER BY {order}")) as found:
            for row in found:
                count += 1
                yield row
    except (sqlite3.Error, OverflowError, MemoryError) as problem:
        losses.of_table(table, f"what stands behind {count} rows", problem)


def _step(row: tuple[Any, ...]) -> Step:
    fields = {
        "update" if name == "update_norm" else name: _number(v) for name, v in zip(STEP_COLUMNS, row, strict=True)
    }
    return msgspec.convert(fields, Step)


def _record(kind: Any, data: Any) -> Other:
    return _unpack(data, type=KINDS[kind])


def _take(run: Run, table: str, decode: Callable[[], Record], losses: _Losses) -> None:
    try:
        record = decode()
    except KeyError as problem:
        losses.add(table, f"a kind {problem!s:.40} is not known")
        return
    except Exception as problem:  # bytes that stand for anything
        losses.add(table, problem)
        return
    wrong = wrong_with(record)
    if wrong is None:
        run.add(record)
    else:
        losses.add(table, wrong)


def _short(why: object) -> str:
    return f"{why}".splitlines()[0][:200] if f"{why}" else type(why).__name__


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else value


# ── the description ──────────────────────────────────────────────────────────────────────────────────────────────


def _described_by_nothing() -> Meta:
    return Meta(script="", argv=[], cwd="", started="", python="?", torch="?")


def _meta(data: Any, losses: _Losses) -> Meta:
    """Return a run's description; of a damaged one each field that can be read."""
    with contextlib.suppress(Exception):
        found: Meta = _unpack(data, type=Meta)
        if all(p.index == i for i, p in enumerate(found.params)) and all(
            o.index == i for i, o in enumerate(found.optimizers)
        ):
            return found
    meta = _described_by_nothing()
    try:
        fields = _unpack(data)
    except Exception as problem:
        losses.add("meta", problem)
        return meta
    for info in msgspec.structs.fields(Meta):
        if not isinstance(fields, dict) or info.name not in fields:
            losses.add("meta", f"the description has no {info.name}")
            continue
        value = fields[info.name]
        if isinstance(value, list) and len(value) > MOST_PARAMS:
            losses.add("meta", f"{info.name} are {len(value)}")
            continue
        if info.name == "params" and isinstance(value, list):
            meta.params = [_param(i, entry, losses) for i, entry in enumerate(value)]
            continue
        if info.name == "optimizers" and isinstance(value, list):
            meta.optimizers = _optimizers(value, losses)
            continue
        try:
            setattr(meta, info.name, msgspec.convert(value, info.type))
        except Exception as problem:
            losses.add("meta", f"{info.name}: {problem}")
    return meta


def _param(index: int, entry: Any, losses: _Losses) -> Param:
    found = _salvaged(Param, entry, f"parameter {index}", losses)
    if found is not None and found.index == index:
        return found
    if found is not None:
        losses.add("meta", f"parameter {index} says that it is {found.index}")
    return unknown(index)


def _optimizers(entries: list[Any], losses: _Losses) -> list[Optimizer]:
    found: list[Optimizer] = []
    for i, entry in enumerate(entries):
        one = _salvaged(Optimizer, entry, f"optimizer {i}", losses) or Optimizer(i, "?", {}, [])
        if one.index != i:
            losses.add("meta", f"optimizer {i} says that it is {one.index}")
        found.append(msgspec.structs.replace(one, index=i))
    return found


def _salvaged(kind: type[_T], entry: Any, name: str, losses: _Losses) -> _T | None:
    """Return an entry of the description without the fields that are damaged; None where it cannot do without one of them."""
    if not isinstance(entry, dict):
        losses.add("meta", f"{name} is no entry")
        return None
    kept: dict[str, Any] = {}
    for info in msgspec.structs.fields(kind):
        if info.name in entry:
            try:
                kept[info.name] = msgspec.convert(entry[info.name], info.type)
            except Exception as problem:  # a value that stands for anything
                losses.add("meta", f"{info.name} of {name}: {problem}")
    try:
        return kind(**kept)
    except TypeError as problem:
        losses.add("meta", f"{name}: {problem}")
        return None
