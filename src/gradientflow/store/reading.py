"""Reading a run, finished or not, whole or damaged: what cannot be read is left out and told, and costs nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.errors import RecordError
from gradientflow.records import Meta, Note, Optimizer, Other, Param, Record, Run, Step
from gradientflow.store.layout import FILE, KINDS, STEP_COLUMNS
from gradientflow.store.sound import described, unknown, wrong_with

_NOT_FINITE = ("nan", "inf", "-inf")  # kept as text, as SQLite would make a NULL of a NaN
_unpack = msgspec.msgpack.decode


class _Losses:
    """What was left out of a run: how many rows of which table, and why the first of each."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, table: str, why: object) -> None:
        self._found.setdefault(table, []).append(f"{why}".splitlines()[0][:200] if f"{why}" else type(why).__name__)

    def told(self, path: Path) -> list[Note]:
        return [
            Note("record", f"{path.name} is damaged: {len(why)} of table {table} left out (the first: {why[0]})")
            for table, why in self._found.items()
        ]


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
    losses = _Losses()
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.text_factory = lambda text: text.decode(errors="replace")
            tables = db.execute("SELECT name FROM sqlite_master WHERE name IN ('meta', 'steps', 'rows')").fetchall()
            run = _run(db, path, losses) if tables else None
    except RecordError:
        raise
    except Exception as problem:  # a damaged file may fail in any way
        raise RecordError(
            f"{path} cannot be read as a run of gradientflow: {type(problem).__name__}: {problem}. It is damaged, or was written by "
            f"another version; run the script again."
        ) from problem
    if run is None:
        raise RecordError(
            f"{path} was begun, but nothing is recorded in it yet: it was killed at once, or has just started."
        )
    described(run.meta, [*run.norms, *run.probes])
    run.notes += losses.told(path)
    if run.meta.ended is None:  # killed: the description lags behind the rows
        run.meta.steps = max(run.meta.steps, run.steps[-1].step if run.steps else 0)
        run.meta.elapsed = max([run.meta.elapsed, *(s.at for s in run.steps[-1:]), *(p.at for p in run.probes[-1:])])
    return run


def _run(db: sqlite3.Connection, path: Path, losses: _Losses) -> Run | None:
    """Return what can be read; None where nothing was recorded yet."""
    found = dict(_rows(db, "meta", "SELECT key, data FROM meta", losses))
    described_as = found.pop("meta", None)
    run = Run(_meta(described_as, losses) if described_as is not None else _described_by_nothing())
    for key, data in found.items():
        if isinstance(key, str) and key.startswith("source:") and isinstance(data, bytes):
            run.meta.sources[key.removeprefix("source:")] = data.decode(errors="replace")
        else:
            losses.add("meta", f"key {key!r:.40}")
    for row in _rows(db, "steps", f"SELECT {','.join(STEP_COLUMNS)} FROM steps ORDER BY rowid", losses):
        _take(run, "steps", partial(_step, row), losses)
    for kind, data in _rows(db, "rows", "SELECT kind, data FROM rows ORDER BY id", losses):
        _take(run, "rows", partial(_record, kind, data), losses)
    recorded = described_as is not None or found or run.steps or run.norms or run.probes or run.notes
    return run if recorded or losses.told(path) else None


def _rows(db: sqlite3.Connection, table: str, query: str, losses: _Losses) -> Iterator[Any]:
    """Yield a table's rows as far as the file can be read."""
    try:
        yield from db.execute(query)
    except sqlite3.Error as problem:
        losses.add(table, problem)


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
    try:
        found = msgspec.convert(entry, Param)
        if found.index == index:
            return found
        losses.add("meta", f"parameter {index} says that it is {found.index}")
    except Exception as problem:
        losses.add("meta", f"parameter {index}: {problem}")
    return unknown(index)


def _optimizers(entries: list[Any], losses: _Losses) -> list[Optimizer]:
    found: list[Optimizer] = []
    for i, entry in enumerate(entries):
        try:
            one = msgspec.convert(entry, Optimizer)
            if one.index != i:
                losses.add("meta", f"optimizer {i} says that it is {one.index}")
            found.append(msgspec.structs.replace(one, index=i))
        except Exception as problem:
            losses.add("meta", f"optimizer {i}: {problem}")
            found.append(Optimizer(i, "?", {}, []))
    return found
