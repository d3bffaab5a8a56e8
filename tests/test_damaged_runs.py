"""Runs whose record is damaged in any way: a report is made of what is left, or one sentence says why not; never a traceback.

Each damage is drawn from a seed: bytes turned over, a file cut off, tables dropped, columns that hold something else, and
inside the records numbers, texts, lists and indices that make no sense.
"""

from __future__ import annotations

import contextlib
import copy
import io
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gradientflow.cli import main
from gradientflow.records import Run
from gradientflow.store import FILE, read
from gradientflow.store.sound import MOST_PARAMS
from tests.depth.scripts import sandbox, watched, write

PLAIN = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(*[l for _ in range(3) for l in (nn.Linear(8, 8), nn.Sigmoid())], nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(16, 8), torch.randint(2, (16,))
for i in range(12):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
"""
RECURRENT = """
import torch
from torch import nn
torch.manual_seed(0)
memory, head = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 1)
optimizer = torch.optim.Adam([*memory.parameters(), *head.parameters()], lr=0.01)
x = torch.randn(4, 9, 4)
for i in range(8):
    optimizer.zero_grad()
    loss = head(memory(x)[0][:, -1]).pow(2).mean() * (float("nan") if i == 5 else 1.0)
    loss.backward()
    optimizer.step()
"""
STORES = 180
SECONDS = 20  # in which each report must end
COLUMNS: list[Any] = [
    1e308, -1e308, float("inf"), None, "text", "", -1, 2**53, -(2**63), 2**62, 10**6, 0, b"\xff\x00", "x" * 5000, 1.5,
    "\x1b[31m<script>alert(1)</script>",
]  # fmt: skip
VALUES: list[Any] = [*COLUMNS, True, float("nan"), [], {}, [1, 2, 3], [[[]]], {"a": 1}, [None], [-1]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs as they should be."""
    folders = []
    with sandbox():
        for name, script in (("plain", PLAIN), ("recurrent", RECURRENT)):
            left = watched(write(tmp_path_factory.mktemp(name), script))
            assert left.outcome is not None
            folders.append(left.outcome.folder)
    return folders


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    entries = value.items() if isinstance(value, dict) else enumerate(value[:40]) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*way, key))


def spoil(value: Any, draw: random.Random) -> None:
    """Change something somewhere in a record."""
    *way, last = draw.choice(list(places(value)))
    for key in way:
        value = value[key]
    how = draw.random()
    if how < 0.75:
        value[last] = copy.deepcopy(draw.choice(VALUES))
    elif how < 0.9:
        del value[last]
    elif isinstance(value, list):
        value.append(copy.deepcopy(value[last]))
    else:
        value["more"] = 1


def damage(file: Path, seed: int) -> None:
    """Damage a database."""
    draw = random.Random(seed)
    kind = draw.randrange(10)
    if kind == 0:
        data = bytearray(file.read_bytes())
        for _ in range(draw.choice([1, 20, 400])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data)
        return
    if kind == 1:
        file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
        return
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        if kind == 2:
            table = draw.choice(["meta", "steps", "rows"])
            db.execute(draw.choice([f"DROP TABLE {table}", f"DELETE FROM {table}"]))
        elif kind in (3, 4):
            names = [row[1] for row in db.execute("PRAGMA table_info(steps)")]
            for _ in range(draw.choice([1, 3])):
                every = draw.random() < 0.3
                db.execute(
                    f"UPDATE steps SET {draw.choice(names)} = ? WHERE rowid = 3 OR ?", (draw.choice(COLUMNS), every)
                )
        elif kind == 5:
            table, column = draw.choice([("rows", "data"), ("meta", "data"), ("rows", "kind"), ("rows", "step")])
            which = draw.choice([row[0] for row in db.execute(f"SELECT rowid FROM {table}")])
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (draw.choice(COLUMNS), which))
        else:
            table = draw.choice(["meta", "rows"])
            found = f"SELECT rowid, data FROM {table} WHERE " + (
                "key = 'meta'" if table == "meta" else "kind != 'Note'"
            )
            which, data = draw.choice(list(db.execute(found)))
            record = msgspec.msgpack.decode(data)
            for _ in range(draw.choice([1, 2, 6])):
                spoil(record, draw)
            db.execute(f"UPDATE {table} SET data = ? WHERE rowid = ?", (msgspec.msgpack.encode(record), which))


def reported(folder: Path) -> tuple[int, str]:
    """Run `gradientflow report`; return its exit code and all that it said. It must end within its time."""

    def late(*_: object) -> None:
        raise TimeoutError("the report does not end")

    told = io.StringIO()
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            main(["report", str(folder)])
    except SystemExit as stop:
        return int(stop.code or 0), told.getvalue()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    raise AssertionError("the command did not exit")


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs alarms")
def test_a_report_of_a_damaged_run_is_made_or_refused(sound: list[Path], tmp_path: Path) -> None:
    codes = {0: 0, 2: 0}
    for seed in range(STORES):
        folder = tmp_path / str(seed)
        shutil.copytree(sound[seed % 2], folder)
        damage(folder / FILE, seed)
        code, told = reported(folder)
        assert code in codes, (seed, told)
        assert "Traceback" not in told, (seed, told)
        assert code == 0 or "run.db" in told, (seed, told)
        page = folder / "report.html"
        assert code or "<script>alert(1)" not in page.read_text(encoding="utf-8"), seed
        codes[code] += 1
        shutil.rmtree(folder)
    assert codes[0] > 0.75 * STORES  # most damages cost what they hit
    assert codes[2] > 0.05 * STORES  # some leave nothing


def test_control_a_fault_in_the_reading_is_noticed(sound: list[Path], tmp_path: Path, monkeypatch: Any) -> None:
    """Without the look at indices a record that leads in a circle reaches what follows the way back."""
    folder = tmp_path / "circle"
    shutil.copytree(sound[0], folder)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as db, db:
        for which, data in list(db.execute("SELECT rowid, data FROM rows WHERE kind = 'Probe'")):
            probe = msgspec.msgpack.decode(data)
            for op in probe["ops"]:
                op["operands"] = [{"op": len(probe["ops"]) - 1}]
            db.execute("UPDATE rows SET data = ? WHERE rowid = ?", (msgspec.msgpack.encode(probe), which))
    run = read(folder)
    assert not run.probes
    assert "takes operation" in run.notes[-1].text
    assert reported(folder)[0] == 0
    monkeypatch.setattr("gradientflow.store.reading.wrong_with", lambda record: None)
    assert read(folder).probes


def with_norms(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first norms on record."""
    with contextlib.closing(sqlite3.connect(folder / FILE)) as db, db:
        which, data = db.execute("SELECT rowid, data FROM rows WHERE kind = 'ParamNorms' LIMIT 1").fetchone()
        norms = msgspec.msgpack.decode(data)
        change(norms)
        db.execute("UPDATE rows SET data = ? WHERE rowid = ?", (msgspec.msgpack.encode(norms), which))


def test_a_parameter_that_only_rows_know_is_added_and_an_absurd_index_refused(
    sound: list[Path], tmp_path: Path
) -> None:
    known = read(sound[0])

    def names(index: int) -> Run:
        folder = tmp_path / str(index)
        shutil.copytree(sound[0], folder)
        with_norms(folder, lambda norms: norms["params"].__setitem__(0, index))
        return read(folder)

    added = names(len(known.meta.params) + 2)
    assert [p.index for p in added.meta.params] == list(range(len(known.meta.params) + 3))
    assert len(added.norms) == len(known.norms)
    assert len(names(MOST_PARAMS - 1).norms) == len(known.norms)
    absurd = names(MOST_PARAMS)
    assert len(absurd.norms) == len(known.norms) - 1
    assert absurd.meta.params == known.meta.params
    assert f"it names parameter {MOST_PARAMS}" in absurd.notes[-1].text


def test_columns_that_differ_in_length_are_left_out(sound: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "short"
    shutil.copytree(sound[0], folder)
    with_norms(folder, lambda norms: norms["grad"].pop())
    assert "its columns differ in length" in read(folder).notes[-1].text


def test_a_report_is_made_within_a_bounded_time_of_a_count_in_the_millions(sound: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "large"
    shutil.copytree(sound[0], folder)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute("UPDATE steps SET step = 9007199254740000 WHERE rowid = 5")
    began = time.monotonic()
    assert reported(folder)[0] == 0
    assert time.monotonic() - began < SECONDS
