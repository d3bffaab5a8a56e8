"""Ways to spoil a run on disk: odd values in its rows, rows and tables that are wrong, a file that is damaged.

A way is a name and what it does to a run's folder. All that is drawn is drawn from a seeded generator: the same name does the
same to the same run.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gradientflow import store

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
Keys = tuple[str | int, ...]

_NO_TEXT = "half a letter: §§§§"  # what stands in its place in the row is no UTF-8
_DROPPED = object()
_TWICE = object()
_DEEP: Any = []
for _ in range(900):
    _DEEP = [_DEEP]

VALUES: dict[str, Any] = {
    "1e308": 1e308, "-1e308": -1e308, "5e-324": 5e-324, "inf": math.inf, "-inf": -math.inf, "nan": math.nan,
    "2**62": 2**62, "-1": -1, "0": 0, "7.5": 7.5, "none": None, "true": True,
    "text": "odd", "html": "</script><b onclick=alert(1)>&\"'", "escape": "\x1b[31mred\x1b]0;title\x07\r\u202egnp.exe\x00",
    "long": "x" * 5000, "no-utf8": _NO_TEXT, "blob": b"\x00\xff", "empty-list": [], "empty-map": {}, "deep": _DEEP,
    "million": [0] * 1_000_000, "dropped": _DROPPED, "twice": _TWICE,
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to spoil a run: its name, and what it does to the folder."""

    name: str
    spoil: Callable[[Path], None]


# ── odd values in records ────────────────────────────────────────────────────────────────────────────────────────────


def odd_values(run: Path, name: str) -> Iterator[Way]:
    for kind in ("Meta", "ParamNorms", "Probe", "Note"):
        rows = rows_of(run / store.FILE, kind)
        if not rows:
            continue
        fullest = max((unpack(data) for _, data in rows), key=lambda record: len(list(_places(record))))
        picked: dict[tuple[str, ...], Keys] = {}
        for keys in _places(fullest):
            picked[tuple("*" if isinstance(k, int) else k for k in keys)] = keys  # the last of its like
        for path, keys in picked.items():
            for word, value in VALUES.items():
                where = ".".join((kind, *path))
                yield Way(f"{name}: {where} = {word}", _setting(kind, keys, value, word))


def _setting(kind: str, keys: Keys, value: Any, word: str) -> Callable[[Path], None]:
    every = random.Random(f"{kind} {keys} {word}").random() < 0.5

    def spoil(folder: Path) -> None:
        rows = rows_of(folder / store.FILE, kind)
        for key, data in rows if every else rows[-1:]:
            record = unpack(data)
            if _put(record, keys, value):
                write_row(folder, kind, key, _packed(record))

    return spoil


def _packed(record: Any) -> bytes:
    return pack(record).replace(_NO_TEXT.encode(), b"\xff" * len(_NO_TEXT.encode()))


def _places(record: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Where something stands in a record, at any depth."""
    if keys:
        yield keys
    if isinstance(record, dict):
        for key, value in record.items():
            yield from _places(value, (*keys, key))
    elif isinstance(record, list):
        for number, value in enumerate(record):
            yield from _places(value, (*keys, number))


def _put(record: Any, keys: Keys, value: Any) -> bool:
    """Set what stands at a place; False where this record has no such place."""
    *way, last = keys
    try:
        for key in way:
            record = record[key]
        record[last]
    except (LookupError, TypeError):
        return False
    if value is _DROPPED:
        del record[last]
    elif value is _TWICE and isinstance(record, list):
        record.insert(int(last), record[int(last)])
    elif value is _TWICE:
        record[f"{last}_too"] = record[last]
    else:
        record[last] = value
    return True


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(file: Path, kind: str) -> list[tuple[Any, bytes]]:
    with closing(sqlite3.connect(file)) as db:
        if kind == "Meta":
            return db.execute("SELECT key, data FROM meta WHERE key='meta'").fetchall()
        return db.execute("SELECT id, data FROM rows WHERE kind=? ORDER BY id", (kind,)).fetchall()


def write_row(folder: Path, kind: str, key: Any, data: bytes) -> None:
    table, column = ("meta", "key") if kind == "Meta" else ("rows", "id")
    _execute(f"UPDATE {table} SET data=? WHERE {column}=?", (data, key))(folder)


def _execute(*statements: Any) -> Callable[[Path], None]:
    """A way that executes SQL; a tuple behind a statement holds its values."""

    def spoil(folder: Path) -> None:
        with closing(sqlite3.connect(folder / store.FILE)) as db, db:
            for k, statement in enumerate(statements):
                if isinstance(statement, str):
                    values = statements[k + 1] if k + 1 < len(statements) else ()
                    db.execute(statement, values if isinstance(values, tuple) else ())

    return spoil


_COLUMNS = ("step", "at", "optimizer", "lr", "loss", "grad", "weight", "update_norm", "nonfinite", "backwards", "momentum", "along")  # fmt: skip
_CELLS: dict[str, Any] = {
    "1e308": 1e308, "-1e308": -1e308, "5e-324": 5e-324, "inf": "inf", "-inf": "-inf", "nan": "nan", "2**63-1": 2**63 - 1, "-1": -1,
    "0": 0, "7.5": 7.5, "none": None, "text": "odd", "digits": "1" * 400, "many-digits": "1" * 5000, "blob": b"\x00\xff",
    "escape": "\x1b[31m", "long": "x" * 5000,
}  # fmt: skip


def odd_columns(name: str, draw: random.Random, values: int) -> Iterator[Way]:
    odd = [(c, w, which) for c in _COLUMNS for w in _CELLS for which in ("every", "last", "odd")]
    for column, word, which in draw.sample(odd, values) if values else odd:
        where = {"every": "", "last": " WHERE rowid=(SELECT max(rowid) FROM steps)", "odd": " WHERE rowid % 2"}[which]
        yield Way(
            f"{name}: {which} steps.{column} = {word}", _execute(f"UPDATE steps SET {column}=?{where}", (_CELLS[word],))
        )


def _unlike(column: str) -> Way:
    """The column of one table is not there."""
    return Way(f"no column steps.{column}", _execute(f"ALTER TABLE steps DROP COLUMN {column}"))


TABLES = (
    *(Way(f"no table {t}", _execute(f"DROP TABLE {t}")) for t in ("meta", "steps", "rows")),
    *(Way(f"table {t} is empty", _execute(f"DELETE FROM {t}")) for t in ("meta", "steps", "rows")),
    Way("no table at all", _execute("DROP TABLE meta", "DROP TABLE steps", "DROP TABLE rows")),
    Way("all tables are empty", _execute("DELETE FROM meta", "DELETE FROM steps", "DELETE FROM rows")),
    Way("no description", _execute("DELETE FROM meta WHERE key='meta'")),
    *map(_unlike, ("step", "at", "loss", "along")),
    Way("no column rows.data", _execute("ALTER TABLE rows DROP COLUMN data")),
    Way("no column rows.kind", _execute("ALTER TABLE rows DROP COLUMN kind")),
    Way("no column meta.data", _execute("ALTER TABLE meta DROP COLUMN data")),
    Way("another column", _execute("ALTER TABLE steps ADD COLUMN more DEFAULT 'x'")),
    Way("another table", _execute("CREATE TABLE more (x)", "INSERT INTO more VALUES (1)")),
    Way("a newer version", _execute("PRAGMA user_version=9999")),
    Way("every step twice", _execute("INSERT INTO steps SELECT * FROM steps")),
    Way("every row twice", _execute("INSERT INTO rows (kind, step, data) SELECT kind, step, data FROM rows")),
    Way("steps run backwards", _execute("UPDATE steps SET step=-step, at=-at")),
    Way("steps of all optimizers", _execute("UPDATE steps SET optimizer=rowid")),
    Way("rows of an unknown kind", _execute("UPDATE rows SET kind='Odd'")),
    Way("a row of an unknown kind", _execute("INSERT INTO rows (kind, step, data) VALUES ('Odd', 1, x'c0')")),
    Way("a kind that is no text", _execute("UPDATE rows SET kind=x'00ff' WHERE id%2")),
    Way("probes for notes", _execute("UPDATE rows SET kind='Note' WHERE kind='Probe'")),
    Way("rows without data", _execute("UPDATE rows SET data=NULL")),
    Way("rows of text", _execute("UPDATE rows SET data='text' WHERE id%2")),
    Way("rows of numbers", _execute("UPDATE rows SET data=7")),
    Way("rows of noise", _execute("UPDATE rows SET data=randomblob(300) WHERE id%3=0")),
    Way("rows cut short", _execute("UPDATE rows SET data=substr(data, 1, length(data)/2)")),
    Way("rows that promise a list of billions", _execute("UPDATE rows SET data=x'ddffffffff'")),
    Way("rows of ten megabytes", _execute("UPDATE rows SET data=zeroblob(10000000) WHERE id<4")),
    Way("a description of text", _execute("UPDATE meta SET data='text' WHERE key='meta'")),
    Way("a description of none", _execute("UPDATE meta SET data=NULL WHERE key='meta'")),
    Way("a description of noise", _execute("UPDATE meta SET data=randomblob(300) WHERE key='meta'")),
    Way("a description cut short", _execute("UPDATE meta SET data=substr(data, 1, length(data)/2) WHERE key='meta'")),
    Way("a description that is empty", _execute("UPDATE meta SET data=x'80' WHERE key='meta'")),
    Way("a description that is a list", _execute("UPDATE meta SET data=x'90' WHERE key='meta'")),
    Way("no sources", _execute("DELETE FROM meta WHERE key LIKE 'source:%'")),
    Way("sources are no text", _execute("UPDATE meta SET data=x'00fffe' WHERE key LIKE 'source:%'")),
    Way("sources are numbers", _execute("UPDATE meta SET data=7 WHERE key LIKE 'source:%'")),
    Way("a source without a name", _execute("INSERT INTO meta VALUES ('source:', x'41')")),
    Way("keys are no text", _execute("UPDATE meta SET key=CAST(x'736f757263653aff' AS TEXT) WHERE key LIKE 'source:%'")),
    Way(
        "a table that never ends",
        _execute(
            "DROP TABLE steps",
            f"CREATE VIEW steps AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT "
            f"{', '.join(f'x AS {c}' for c in _COLUMNS)}, x AS rowid FROM n",
        ),
    ),
    Way(
        "steps that mean nothing",
        _execute("DELETE FROM steps", "INSERT INTO steps SELECT " + ", ".join("NULL" for _ in _COLUMNS)),
    ),
)  # fmt: skip


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bytes(change: Callable[[bytes, random.Random], bytes], seed: int = 0) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / store.FILE
        file.write_bytes(change(file.read_bytes(), random.Random(seed)))

    return spoil


def _flipped(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(20):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def _overwritten(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(100, len(data) - 3000)
    return data[:start] + draw.randbytes(3000) + data[start + 3000 :]


def _folder(folder: Path) -> None:
    (folder / store.FILE).unlink()
    (folder / store.FILE).mkdir()


FILES = (
    Way("the file is empty", _bytes(lambda data, draw: b"")),
    Way("the file is a text", _bytes(lambda data, draw: b"no run at all\n" * 99)),
    Way("the file is noise", _bytes(lambda data, draw: draw.randbytes(5000))),
    Way("only a header", _bytes(lambda data, draw: data[:100])),
    *(Way(f"cut at {k}/5", _bytes(lambda data, draw, k=k: data[: len(data) * k // 5])) for k in range(1, 5)),  # type: ignore[misc]
    *(Way(f"20 bits flipped, {seed}", _bytes(_flipped, seed)) for seed in range(12)),
    *(Way(f"3000 bytes overwritten, {seed}", _bytes(_overwritten, seed)) for seed in range(8)),
    Way("a folder in its place", _folder),
    Way("no file", lambda folder: (folder / store.FILE).unlink()),
    Way("a log of noise beside it", lambda folder: (folder / f"{store.FILE}-wal").write_bytes(b"\x37\x7f\x06\x82" * 999) and None),  # type: ignore[func-returns-value]
)  # fmt: skip
