"""Work apart from the script's descriptors: whatever is closed and opened elsewhere meanwhile, neither side is hurt."""

from __future__ import annotations

import _thread
import ctypes
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from gradientflow import store
from gradientflow.apart import apart
from gradientflow.garbage import uncollected

linux = pytest.mark.skipif(sys.platform != "linux", reason="tables of one's own are Linux's")


def _numbers() -> list[str]:
    return sorted(os.listdir("/proc/thread-self/fd"))


@linux
def test_the_table_is_empty_and_its_own(tmp_path: Path) -> None:
    with open(tmp_path / "ours", "w") as ours:

        def work(alone: bool) -> tuple[bool, list[str]]:
            numbers = _numbers()
            os.closerange(3, 4096)  # closes nothing of anybody else's
            return alone, numbers

        assert apart(work) == (True, ["0", "1", "2", "3"])  # nowhere, three times; and the folder that was listed
        ours.write("still open")
    assert (tmp_path / "ours").read_text() == "still open"
    assert apart(lambda alone: os.readlink("/proc/thread-self/fd/2")) == os.devnull


def test_no_file_of_the_scripts_is_collected_there(tmp_path: Path) -> None:
    """Garbage with a file in it: flushed by a finaliser in a thread whose numbers are others, its text would be lost."""

    class Circle:
        def __init__(self, number: int) -> None:
            self.own, self.number = self, number

        def __del__(self) -> None:
            os.write(self.number, b"kept")
            os.close(self.number)

    def leave(name: str) -> None:
        Circle(os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT))

    def work(alone: bool) -> None:
        for _ in range(5000):  # containers that stay: enough of them to set a collection off
            held.append([])

    held: list[list[Any]] = []
    gc.collect()
    leave("a")
    apart(work)
    gc.collect()
    assert (tmp_path / "a").read_text() == "kept" and gc.isenabled()


def test_blocks_without_collection_overlap_and_leave_it_as_it_was() -> None:
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_goes_wrong_is_raised_and_holds_nothing_from_there() -> None:
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def inner() -> None:
        thing = Held()
        held.append(weakref.ref(thing))
        raise KeyError("inner")

    def work(alone: bool) -> None:
        try:
            inner()
        except KeyError:
            raise ValueError("outer") from None

    with pytest.raises(ValueError, match="outer") as problem:
        apart(work)
    assert problem.value.__context__ is not None
    assert held[0]() is None


def test_where_no_thread_can_be_had_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    here = _thread.get_ident()
    assert apart(lambda alone: _thread.get_ident()) != here
    monkeypatch.setattr(_thread, "start_new_thread", none)
    assert apart(lambda alone: (alone, _thread.get_ident())) == (False, here)


class _Old:
    """A system without close_range(2); `refused`: and without unshare(2)."""

    def __init__(self, refused: bool) -> None:
        self.system, self.refused = ctypes.CDLL(None), refused

    def syscall(self, *_: Any) -> int:
        return -1

    def unshare(self, flags: int) -> int:
        return -1 if self.refused else int(self.system.unshare(flags))


@linux
@pytest.mark.parametrize("refused", [False, True])
def test_an_old_system_is_asked_otherwise_and_one_that_refuses_is_told_from_it(
    refused: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = _Old(refused)
    monkeypatch.setattr("gradientflow.apart._SYSTEM", old)
    with open(tmp_path / "ours", "w") as ours:
        alone, numbers = apart(lambda alone: (alone, _numbers()))
        assert alone is not refused
        assert (str(ours.fileno()) in numbers) is refused or ours.fileno() == 3
        ours.write("still open")
        ours.flush()


# ── the window, forced: all is closed and opened anew between our opening and our writing ────────────────────────────

_FORCED = """
import os, sqlite3, sys, tempfile, threading
from pathlib import Path
from gradientflow import files, store
from gradientflow.records import Meta, Step
from gradientflow.store import opening, writing

how, what = sys.argv[1:]
if how == "shared":  # the control: as if there were no table of one's own
    writing.apart = files.apart = lambda work: work(False)
asked, done, times = threading.Event(), threading.Event(), 0

def trap(*_):
    if threading.current_thread() is not threading.main_thread():
        done.clear(); asked.set(); assert done.wait(20)

class Trapped(sqlite3.Connection):
    count = 0
    def execute(self, *args):
        Trapped.count += 1
        if args[0].startswith("COMMIT") or Trapped.count % 50 == 0:
            trap()
        return super().execute(*args)

connect, mkstemp = sqlite3.connect, tempfile.mkstemp
def made(*args, **more):
    found = mkstemp(*args, **more)
    trap()
    return found

Path("run").mkdir()
written = store.Store(Path("run"))
written.meta(Meta("t.py", ["t.py"], "", "", "", ""))
for n in range(1, 401):
    written.step(Step(n, n * 0.5, 0, 0.1, 1.0, 1.0, 1.0, 0.1))
sqlite3.connect = lambda *args, **more: connect(*args, **more, factory=Trapped)
tempfile.mkstemp = made
failed = []
def work():
    try:
        written.flush() if what == "rows" else files.write(Path("run/verdict.json"), "V" * 9000)
    except BaseException as problem:
        failed.append(problem)
worker = threading.Thread(target=work)
worker.start()
users = []
while worker.is_alive():
    if asked.wait(0.02):
        asked.clear()
        os.closerange(3, 256)
        users = [os.open(f"user{k}.bin", os.O_RDWR | os.O_CREAT | os.O_TRUNC) for k in range(12)]
        for number in users:
            os.write(number, b"A" * 8192)
        times += 1
        done.set()
worker.join()
sqlite3.connect, tempfile.mkstemp = connect, mkstemp
assert times >= (5 if (how, what) == ("apart", "rows") else 1), times
hurt = 0
for k, number in enumerate(users):
    try:
        os.write(number, b"B")
    except OSError:
        hurt += 1
    hurt += Path(f"user{k}.bin").read_bytes() != b"A" * 8192 + b"B"
try:
    whole = len(store.read(Path("run")).steps) == 400 if what == "rows" else Path("run/verdict.json").read_text() == "V" * 9000
except Exception:
    whole = False
print(hurt, whole, written.error, failed)
"""


def _forced(folder: Path, how: str, what: str) -> tuple[int, bool, str]:
    ran = subprocess.run(
        [sys.executable, "-c", _FORCED, how, what], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout, ran.stderr
    hurt, whole, *told = ran.stdout.split(" ", 2)
    return int(hurt), whole == "True", " ".join(told)


@linux
@pytest.mark.parametrize("what", ["rows", "verdict"])
def test_what_a_script_closes_and_opens_while_we_write_is_not_hurt_and_neither_are_we(
    what: str, tmp_path: Path
) -> None:
    assert _forced(tmp_path, "apart", what) == (0, True, "None []\n")


@pytest.mark.parametrize("what", ["rows", "verdict"])
def test_control_with_the_scripts_own_descriptors_one_of_both_is_hurt(what: str, tmp_path: Path) -> None:
    hurt, whole, _ = _forced(tmp_path, "shared", what)
    assert hurt > 0 and not whole


# ── a script that opens the run's database itself, in the same process ───────────────────────────────────────────────


@linux
def test_a_connection_of_the_scripts_own_is_another_process_to_us(tmp_path: Path) -> None:
    import sqlite3

    from tests.test_store import META, _step

    writing = store.Store(tmp_path)
    writing.meta(META)
    writing.flush()
    theirs = sqlite3.connect(tmp_path / store.FILE, isolation_level=None)
    theirs.execute("BEGIN")
    theirs.execute("SELECT * FROM meta").fetchall()
    writing.step(_step(1, 1.0))
    writing.flush()
    assert writing.error is not None and "locked" in writing.error  # they read: nothing is changed beneath them
    theirs.execute("COMMIT")
    writing.flush()
    assert writing.error is None
    assert theirs.execute("SELECT count(*) FROM steps").fetchone() == (1,)
    handles = [os.open(tmp_path / f"user{k}", os.O_CREAT | os.O_RDWR) for k in range(8)]
    theirs.execute("BEGIN IMMEDIATE")
    writing.step(_step(2, 1.0))
    writing.flush()
    theirs.close()  # what SQLite still held for us would be closed now, by numbers that are the script's
    for handle in handles:
        os.close(handle)  # each is still open
    writing.flush()
    assert [s.step for s in store.read(tmp_path).steps] == [1, 2]


@linux
@pytest.mark.parametrize("who", ["reader", "writer"])
def test_a_transaction_that_was_killed_is_undone_by_whoever_comes_next(who: str, tmp_path: Path) -> None:
    from tests.test_store import META, _step

    writing = store.Store(tmp_path)
    writing.meta(META)
    writing.step(_step(1, 1.0))
    writing.flush()
    killed = (
        "import os, sys\nfrom pathlib import Path\nfrom gradientflow.apart import apart\n"
        "from gradientflow.store import opening\n"
        "def work(alone):\n"
        "    with opening.transaction(Path(sys.argv[1]), alone, 1.0) as db:\n"
        "        db.execute('PRAGMA cache_size=2')\n"  # so that pages are on the disk before it ends
        "        db.execute('DELETE FROM steps')\n"
        "        for n in range(300): db.execute('INSERT INTO rows (kind, step, data) VALUES (?,?,?)', ('Odd', n, b'x' * 900))\n"
        "        os._exit(7)\n"
        "apart(work)\n"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path / store.FILE)], timeout=120).returncode == 7
    journal = tmp_path / f"{store.FILE}-journal"
    assert journal.stat().st_size > 512  # the control: something was to be undone
    if who == "writer":
        writing.step(_step(2, 1.0))
        writing.flush()
        assert writing.error is None
    run = store.read(tmp_path)
    assert [s.step for s in run.steps] == ([1, 2] if who == "writer" else [1])
    assert run.notes == []
    assert not journal.exists()
