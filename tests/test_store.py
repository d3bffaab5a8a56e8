"""A run on disk: what goes in comes out; a crash, a full disk or a damaged file loses no more than it must."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gradientflow import store
from gradientflow.apart import apart
from gradientflow.errors import OutputError, RecordError
from gradientflow.records import (
    ABSENT,
    GradStat,
    Meta,
    Note,
    Op,
    Operand,
    Optimizer,
    Param,
    ParamNorms,
    Probe,
    Run,
    Step,
    ValueStat,
)  # fmt: skip
from gradientflow.store import Store, opening, read, reading

META = Meta("train.py", ["train.py", "--lr", "1"], "/work", "2026-01-01T00:00:00+00:00", "3.11.7", "2.13.0")


def _step(n: int, loss: float | None, **more: Any) -> Step:
    return Step(
        step=n, at=n * 0.5, optimizer=0, loss=loss, **{"lr": 0.1, "grad": 1.0, "weight": 2.0, "update": 0.1, **more}
    )


def _probe(n: int) -> Probe:
    value = ValueStat([2, 3], "float32", 0.5, math.nan, -math.inf, math.inf, 0.0, 1, 2, absmin=0.0)
    grad = GradStat(math.inf, 0.1, 0.2, 0.0, 0, 1)
    op = Op(
        0,
        "sqrt",
        "singular",
        "train.py",
        7,
        "loss",
        "head.3",
        "Linear",
        [Operand(param=0, grad=grad, value=value)],
        value,
        grad,
    )
    return Probe(n, 0.5, "first", math.nan, 0, [op], [], notes=["θ ‖∇L‖ ✕"])


def _everything(folder: Path) -> list[Any]:
    """Write one of everything; return the records."""
    records = [
        _step(1, 2.5), _step(2, None, lr=None, grad=None), _step(3, math.nan, grad=math.inf, nonfinite=2, momentum=0.9),
        _step(4, -math.inf, weight=math.nan, update=5e-324), _step(5, 1e308, backwards=3),
        ParamNorms(1, 0, [0, 1], [1.0, ABSENT], [math.nan, 0.0], [math.inf, -math.inf]), _probe(1), Note("advice", "ünï\n", 1.0),
    ]  # fmt: skip
    with_store = Store(folder)
    meta = msgspec.structs.replace(
        META, params=[Param(0, "w", [2], "float32", True, True)], optimizers=[Optimizer(0, "SGD", {"lr": 0.1}, [0])]
    )
    with_store.meta(meta)
    with_store.source("a b'.py", "x = 'é'\n")
    for record in records:
        with_store.step(record) if isinstance(record, Step) else with_store.add(record)
    with_store.close()
    return records


def _same(one: Any, other: Any) -> bool:
    """Equal, NaN counting as equal to NaN."""
    return msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    folder = tmp_path / "a#b?c=%20 d é" / "run"
    records = _everything(folder)
    for place in (folder, folder / store.FILE):
        run = read(place)
        assert _same([*run.steps, *run.norms, *run.probes, *run.notes], records)
        assert math.isnan(run.steps[2].loss or 0.0)
        assert run.steps[3].loss == -math.inf
        assert run.steps[1].loss is None  # not seen, and not the same as not finite
        assert run.meta.sources == {"a b'.py": "x = 'é'\n"}
        assert run.meta.params[0].name == "w"


def test_the_comparison_notices_a_difference(tmp_path: Path) -> None:
    records = _everything(tmp_path)
    records[2] = _step(3, 0.0, grad=math.inf, nonfinite=2, momentum=0.9)
    run = read(tmp_path)
    assert not _same([*run.steps, *run.norms, *run.probes, *run.notes], records)


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no run"):
        read(tmp_path)
    writing = Store(tmp_path)
    with pytest.raises(RecordError, match="nothing is recorded in it yet"):
        read(tmp_path)
    writing.meta(META)
    for n in range(1, 6):
        writing.step(_step(n, float(n)))
        assert len(_steps(tmp_path)) == n - 1  # not yet committed
        writing.flush()
        assert len(read(tmp_path).steps) == n
    assert read(tmp_path).meta.ended is None
    assert read(tmp_path).meta.steps == 5  # the description lags; the rows count
    assert read(tmp_path).meta.elapsed == 2.5
    writing.close()


def test_what_is_read_is_one_moment_of_a_run_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that comes between two tables waits: its rows would name what the description read before says nothing of."""
    writing = Store(tmp_path)
    writing.meta(META)
    writing.step(_step(1, 1.0))
    writing.flush()
    meta_of = reading._meta

    def late(*told: Any) -> Any:
        writing.step(_step(2, 2.0))
        writing.flush()
        return meta_of(*told)

    monkeypatch.setattr(reading, "_meta", late)
    assert [s.step for s in read(tmp_path).steps] == [1]
    assert writing.error is not None and "locked" in writing.error
    monkeypatch.undo()
    writing.flush()
    assert writing.error is None
    assert [s.step for s in read(tmp_path).steps] == [1, 2]


def _steps(folder: Path) -> list[Step]:
    try:
        return read(folder).steps
    except RecordError:
        return []


def test_a_finished_run_is_one_file(tmp_path: Path) -> None:
    _everything(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [store.FILE]
    data = (tmp_path / store.FILE).read_bytes()
    assert data[18:20] == b"\x01\x01"  # no write-ahead log: it opens on a medium that cannot be written


def test_a_full_disk_loses_nothing_of_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = Store(tmp_path)
    writing.meta(META)
    for n in range(1, 11):
        writing.step(_step(n, float(n)))
    writing.flush()
    connected = opening._connect

    def small(*args: Any, **more: Any) -> sqlite3.Connection:
        db = connected(*args, **more)
        pages = max(db.execute("PRAGMA page_count").fetchone()[0], 8)
        db.execute(f"PRAGMA max_page_count={pages}")  # a genuine SQLITE_FULL
        return db

    monkeypatch.setattr(opening, "_connect", small)
    for n in range(11, 2001):
        writing.step(_step(n, float(n)))
        if n % 100 == 0:
            writing.add(_probe(n))
            writing.flush()
    assert writing.error is not None
    assert "full" in writing.error
    assert str(tmp_path) in writing.error
    writing.source("late.py", "y = 1")
    run = writing.run(META)
    assert [s.step for s in run.steps] == list(range(1, 2001))  # nothing lost, nothing twice
    assert [p.step for p in run.probes] == list(range(100, 2001, 100))
    assert run.meta.sources == {"late.py": "y = 1"}
    writing.close()
    assert 10 <= len(read(tmp_path).steps) < 2000  # what the disk took is whole


def test_a_disk_that_is_not_full_is_not_called_full(tmp_path: Path) -> None:
    writing = Store(tmp_path)
    writing.meta(META)
    for n in range(1, 2001):
        writing.step(_step(n, float(n)))
    assert len(writing.run(META).steps) == 2000
    assert writing.error is None


@pytest.mark.parametrize("where", ["file/x", "/proc/gradientflow-test/x", "/dev/null"])
def test_a_folder_that_cannot_be_written_says_so(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--out DIR") as caught:
        Store(tmp_path / where if not where.startswith("/") else Path(where))
    assert "Expected a folder that can be written" in str(caught.value)


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    _everything(tmp_path)
    before = (tmp_path / store.FILE).read_bytes()
    with pytest.raises(OutputError, match="already holds a run"):
        Store(tmp_path)
    assert (tmp_path / store.FILE).read_bytes() == before


def _damage(folder: Path, how: str) -> None:
    file = folder / store.FILE
    if how == "not a database":
        file.write_bytes(b"this is not a database" * 100)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut off":
        file.write_bytes(file.read_bytes()[:5000])
    elif how == "a folder":
        file.unlink()
        file.mkdir()
    else:
        with sqlite3.connect(file) as db:
            db.execute(how)
        db.close()


@pytest.mark.parametrize("how", ["not a database", "empty", "cut off", "a folder"])
def test_a_file_that_is_no_run_is_an_error_with_a_name(how: str, tmp_path: Path) -> None:
    _everything(tmp_path)
    _damage(tmp_path, how)
    with pytest.raises(RecordError) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("how", "told", "left"),
    [
        ("DROP TABLE steps", "all of table steps left out (it is missing)", (0, 1, 1)),
        ("DELETE FROM meta", "row 'meta' of table meta left out", (5, 1, 1)),
        ("UPDATE meta SET data = x'c1'", "1 of table meta left out", (5, 1, 1)),
        ("UPDATE meta SET data = NULL", "of table meta left out", (5, 1, 1)),
        ("UPDATE steps SET loss = 'abc' WHERE step = 2", "1 of table steps left out (the first: Expected `float", (4, 1, 1)),
        ("UPDATE steps SET step = -1", "5 of table steps left out (the first: its step is -1)", (0, 1, 1)),
        ("UPDATE rows SET kind = 'Later' WHERE kind = 'Probe'", "1 of table rows left out (the first: a kind 'Later'", (5, 0, 1)),
        ("UPDATE rows SET data = x'00ff' WHERE kind = 'ParamNorms'", "1 of table rows left out", (5, 1, 0)),
    ],
)  # fmt: skip
def test_a_damaged_row_costs_itself_and_is_told(
    how: str, told: str | None, left: tuple[int, int, int], tmp_path: Path
) -> None:
    _everything(tmp_path)
    _damage(tmp_path, how)
    run = read(tmp_path)
    assert (len(run.steps), len(run.probes), len(run.norms)) == left
    assert [told in n.text for n in run.notes if n.kind == "record" and told is not None] == [True] * (told is not None)


def test_a_sound_run_is_not_called_damaged(tmp_path: Path) -> None:
    _everything(tmp_path)
    assert not [n for n in read(tmp_path).notes if n.kind == "record"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_no_file_of_ours_is_open_among_the_scripts_also_not_within_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither between two batches nor within one; and nothing is left in the thread that wrote it, whatever came of it."""
    connected, left_by = opening._connect, apart
    among: list[set[str]] = []
    theirs: list[set[str]] = []
    left: list[set[str]] = []

    def looked(*args: Any, **more: Any) -> sqlite3.Connection:
        db = connected(*args, **more)
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        among.append(_open_files("self"))
        theirs.append(_open_files("thread-self"))
        return db

    def checked(work: Callable[[bool], Any]) -> Any:
        def whole(alone: bool) -> Any:
            try:
                return work(alone)
            finally:
                left.append(_open_files("thread-self"))

        return left_by(whole)

    monkeypatch.setattr(opening, "_connect", looked)
    monkeypatch.setattr("gradientflow.store.writing.apart", checked)
    place = str(tmp_path / store.FILE)
    writing = Store(tmp_path)
    writing.meta(META)
    for n in range(1, 4):
        writing.step(_step(n, float(n)))
        writing.flush()
    other = sqlite3.connect(tmp_path / store.FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing.step(_step(4, 4.0))
    writing.flush()
    assert writing.error is not None
    other.execute("ROLLBACK")
    other.close()
    assert len(writing.run(META).steps) == 4
    writing.close()
    assert len(left) >= 7 and len(among) >= 6
    assert all(place in files for files in theirs), "the control: an open database is seen"
    assert not any(place in files for files in [*among, *left])


def _open_files(whose: str) -> set[str]:
    place, found = f"/proc/{whose}/fd", set()
    for number in os.listdir(place):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"{place}/{number}"))
    return found


def test_a_locked_database_is_written_once_it_is_free(tmp_path: Path) -> None:
    writing = Store(tmp_path)
    writing.meta(META)
    writing.flush()
    other = sqlite3.connect(tmp_path / store.FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for n in range(1, 51):
        writing.step(_step(n, float(n)))
        writing.flush()
    assert writing.error is not None and "locked" in writing.error
    assert read(tmp_path).steps == []
    other.execute("COMMIT")
    other.close()
    writing.step(_step(51, 1.0))
    writing.flush()
    assert [s.step for s in read(tmp_path).steps] == list(range(1, 52))
    assert writing.error is None


def test_the_script_never_waits_for_the_database(tmp_path: Path) -> None:
    writing = Store(tmp_path)
    with writing._writing:  # another thread writes at this moment, however slowly
        writing.step(_step(1, 1.0))
        writing.add(_probe(1))
        writing.flush()
        assert writing._lock.acquire(timeout=0)
        writing._lock.release()
        assert _steps(tmp_path) == []
    writing.meta(META)
    writing.flush()
    assert len(_steps(tmp_path)) == 1


def test_rows_that_wait_are_bounded_and_losses_are_the_last_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradientflow.store.writing.MOST_WAITING", 100)
    writing = Store(tmp_path)
    with writing._writing:
        for n in range(1, 81):
            writing.step(_step(n, 1.0))
            writing.add(ParamNorms(n, 0, [0], [1.0], [1.0], [1.0]))
        assert len(writing._pending) <= 100
        assert sum(isinstance(r.record, Step) for r in writing._pending) == 80
        assert 0 < sum(isinstance(r.record, ParamNorms) for r in writing._pending) < 80


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_a_record_that_is_removed_is_begun_anew(gone: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    writing = Store(folder)
    writing.meta(META)
    writing.source("net.py", "x = 1")
    steps = [_step(n, float(n)) for n in range(1, 61)]
    for step in steps[:40]:
        writing.step(step)
    writing.flush()
    shutil.rmtree(folder) if gone == "folder" else (folder / store.FILE).unlink()
    for step in steps[40:]:
        writing.step(step)
    writing.flush()
    assert [s.step for s in read(folder).steps] == list(range(41, 61))
    assert read(folder).meta.sources == {"net.py": "x = 1"}
    run = writing.run(META, Run(META, steps))
    assert [s.step for s in run.steps] == list(range(1, 61)), "what was in memory still counts"
    assert writing.lost is not None and "was removed" in writing.lost
    writing.close()
    assert sorted(s.step for s in read(folder).steps) == list(range(1, 61)), "and is written again"
    assert [f.name for f in folder.iterdir()] == [store.FILE]


def test_text_that_no_encoding_takes_is_written_out(tmp_path: Path) -> None:
    writing = Store(tmp_path)
    writing.meta(msgspec.structs.replace(META, script="tr\udcffain.py"))
    writing.source("n\udc80t.py", "s = '\ud800'")
    writing.add(Note("advice", "half a character: \udfff"))
    writing.close()
    run = read(tmp_path)
    assert writing.error is None
    assert run.meta.script == "tr\\udcffain.py" and run.notes[0].text.endswith("\\udfff")
    assert run.meta.sources == {"n\\udc80t.py": "s = '\\ud800'"}
