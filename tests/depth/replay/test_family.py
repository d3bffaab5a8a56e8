"""A trial leaves no process behind, however it ends; what is not of its family is left alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.depth.replay import family
from gradientflow.depth.replay.nursery import Nursery

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")

# a child in the trial's group, one in a session of its own, one that is deaf to SIGTERM, and a daemon's grandchild
SCRIPT = """
import os, subprocess, sys, time
import torch
SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]
DEAF = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"]
FORKS = [sys.executable, "-c", "import os, time; pid = os.fork(); pid and print(pid, flush=True); pid and os._exit(0); os.setsid(); time.sleep(300)"]
deaf = subprocess.Popen(DEAF, stdout=subprocess.PIPE, start_new_session=True)
deaf.stdout.readline()
daemon = int(subprocess.Popen(FORKS, stdout=subprocess.PIPE, start_new_session=True).stdout.readline())
found = [os.getpid(), subprocess.Popen(SLEEP).pid, subprocess.Popen(SLEEP, start_new_session=True).pid, deaf.pid, daemon]
with open("pids.tmp", "w") as file:
    print(*found, file=file)
os.rename("pids.tmp", "pids")
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    (w ** 2).sum().backward()
    optimizer.step()
    time.sleep({pause})
"""


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def running(pids: list[int], within: float = 0.0) -> list[int]:
    """Those that still run, after so many seconds at most."""
    end = time.monotonic() + within
    while (left := [p for p in pids if alive(p)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


@pytest.fixture
def outsider() -> Iterator[int]:
    """A process of somebody else's: a sleep that the test itself started."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield other.pid
    other.kill()
    other.wait()


def started(folder: Path, within: float = 120.0) -> list[int]:
    """The processes of the script, once it has started them all."""
    end = time.monotonic() + within
    while not (folder / "pids").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return [int(p) for p in (folder / "pids").read_text().split()]


def errand(folder: Path, pause: float) -> Path:
    (folder / "train.py").write_text(SCRIPT.replace("{pause}", str(pause)))
    paper = folder / "errand.json"
    paper.write_text(
        json.dumps({"target": ["train.py"], "module": False, "out": str(folder / f"out-{time.monotonic_ns()}")})
    )
    return paper


def test_a_trial_that_finishes_leaves_nothing_running(tmp_path: Path, outsider: int) -> None:
    with Nursery(str(tmp_path)) as nursery:
        for _ in range(2):  # the process that forks goes on to the next
            (tmp_path / "pids").unlink(missing_ok=True)
            assert nursery.run(errand(tmp_path, 0.0), tmp_path / "log", 120.0, lambda: None) == 0
            pids = started(tmp_path, 0.0)
            assert len(set(pids)) == 5
            assert running(pids) == []
    assert len(store.read(next(tmp_path.glob("out-*"))).steps) == 5
    assert alive(outsider)


def test_a_trial_out_of_time_leaves_nothing_running_and_the_next_one_runs(tmp_path: Path, outsider: int) -> None:
    with Nursery(str(tmp_path)) as nursery:
        assert (
            nursery.run(errand(tmp_path, 0.0), tmp_path / "log", 120.0, lambda: None) == 0
        )  # (PyTorch is imported now)
        (tmp_path / "pids").unlink()
        mother = nursery._mother
        assert nursery.run(errand(tmp_path, 300.0), tmp_path / "log", 8.0, lambda: None) is None
        assert running(started(tmp_path, 0.0)) == []
        assert nursery.run(errand(tmp_path, 0.0), tmp_path / "log", 120.0, lambda: None) == 0
        assert nursery._mother is mother
    assert alive(outsider)


def test_an_interrupt_ends_the_trial_and_its_family(tmp_path: Path, outsider: int) -> None:
    def beat() -> None:
        if (tmp_path / "pids").exists():
            raise KeyboardInterrupt

    with Nursery(str(tmp_path)) as nursery, pytest.raises(KeyboardInterrupt):
        nursery.run(errand(tmp_path, 300.0), tmp_path / "log", 120.0, beat)
    assert running(started(tmp_path, 0.0)) == []
    assert alive(outsider)


def test_without_fork_the_group_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outsider: int) -> None:
    monkeypatch.delattr(os, "fork")
    with Nursery(str(tmp_path)) as nursery:
        assert nursery.run(errand(tmp_path, 0.0), tmp_path / "log", 120.0, lambda: None) == 0
    pids = started(tmp_path, 0.0)
    try:
        assert running(pids[:2], within=5.0) == []  # (killed, not waited for)
        assert alive(outsider)
    finally:
        for pid in running(pids):  # sessions of their own are out of reach there, as the docs say
            os.kill(pid, signal.SIGKILL)


PARENT = """
import sys
from pathlib import Path
from gradientflow.depth.replay.nursery import Nursery
with Nursery(".") as nursery:
    nursery.run(Path("errand.json").absolute(), Path("log").absolute(), 300.0, lambda: None)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_parent_that_is_killed_takes_the_trial_along_and_nothing_is_said(
    how: signal.Signals, tmp_path: Path, outsider: int
) -> None:
    errand(tmp_path, 300.0)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, stderr=subprocess.PIPE)
    pids = started(tmp_path)
    mother = list(family.descendants(parent.pid).values())
    assert set(pids) <= set(family.descendants(parent.pid))
    parent.send_signal(how)
    _, said = parent.communicate(timeout=30)
    assert parent.returncode == -how
    assert running([*pids, *mother], within=15.0) == []
    assert b"Traceback" not in said and b"BrokenPipe" not in said and b"gradientflow" not in said
    assert alive(outsider)


def test_the_process_that_forks_ends_its_trial_when_it_is_asked_to_end(tmp_path: Path) -> None:
    """As a job scheduler does that signals every process of a job."""
    errand(tmp_path, 300.0)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, stderr=subprocess.PIPE)
    pids = started(tmp_path)
    mother = family.descendants(parent.pid)[pids[0]]
    os.kill(mother, signal.SIGTERM)
    _, said = parent.communicate(timeout=30)
    assert parent.returncode == 0
    assert running(pids) == []
    assert b"Traceback" not in said and b"BrokenPipe" not in said and b"gradientflow" not in said


def test_who_descends_from_whom() -> None:
    mine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert family.descendants(os.getpid()).get(mine.pid) == os.getpid()
        assert mine.pid not in family.descendants(mine.pid)
        mine.kill()
        os.waitid(os.P_PID, mine.pid, os.WEXITED | os.WNOWAIT)
        assert mine.pid not in family.descendants(os.getpid())  # a zombie runs no more
    finally:
        mine.kill()
        mine.wait()
