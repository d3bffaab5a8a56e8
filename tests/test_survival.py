"""Whatever a script does to its surroundings, it runs as it would, and its verdict is there at the end."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.errors import RecordError
from tests.hostile.running import Errand, Warm
from tests.interrupts import heeds_ctrl_c

TRAIN = """
import os, shutil, sys, time
import torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
x = torch.randn(16, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
"""


@dataclass(frozen=True)
class Ran:
    """How a watched script ended, and what it said."""

    returncode: int | None
    stdout: str
    stderr: str


def script(folder: Path, body: str) -> Path:
    file = folder / "script.py"
    file.write_text(TRAIN + body)
    return file


def watch(warm: Warm, folder: Path, body: str, options: str, *, deaf: bool = False) -> Ran:
    """Run a script under watch in a folder."""
    file, streams = script(folder, body), folder / "streams"
    streams.mkdir()
    (streams / "stdin").write_bytes(b"")
    argv = ("run", *options.split(), str(file))
    code = warm.run(Errand(argv, True, str(folder), str(streams), {"OMP_NUM_THREADS": "1"}, 120.0, deaf))
    out, err = ((streams / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    return Ran(code, out, err)


def watch_after(before: str, folder: Path, body: str, options: str) -> subprocess.CompletedProcess[str]:
    """The same in a shell, after other commands in it."""
    command = f'{before}\nexec "{sys.executable}" -m gradientflow run {options} "{script(folder, body)}"'
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120, errors="replace",
        env=os.environ | {"OMP_NUM_THREADS": "1"}, preexec_fn=heeds_ctrl_c,
    )  # fmt: skip


def test_files_are_meant_from_where_the_command_was_given(warm: Warm, tmp_path: Path) -> None:
    options = "--out out --json v.json --format sarif --output v.sarif"
    ran = watch(warm, tmp_path, "os.makedirs('deep/er'); os.chdir('deep/er'); train(10)", options)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr
    assert json.loads((tmp_path / "v.json").read_text())["steps"] == 10
    assert json.loads((tmp_path / "v.sarif").read_text())["runs"]
    assert {"run.db", "verdict.json", "report.html"} <= {f.name for f in (tmp_path / "out").iterdir()}
    assert list((tmp_path / "deep" / "er").iterdir()) == []


@pytest.mark.parametrize("what", ["shutil.rmtree('out')", "os.unlink('out/run.db')"])
def test_a_record_that_the_script_removes(what: str, warm: Warm, tmp_path: Path) -> None:
    written = """
def rows():
    with contextlib.suppress(sqlite3.Error):
        with contextlib.closing(sqlite3.connect('file:out/run.db?mode=ro', uri=True)) as db:
            return db.execute('SELECT count(*) FROM steps').fetchone()[0]
    return 0
import contextlib, sqlite3
while not rows(): time.sleep(.05)
"""
    ran = watch(warm, tmp_path, f"train(40)\n{written}\n{what}; train(20)", "--out out --json v.json")
    assert ran.returncode == 0 and "Traceback" not in ran.stderr
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert verdict["steps"] == 60 and verdict["symptom"] == "healthy"
    assert "never took" not in verdict["summary"]
    assert "was removed" in ran.stderr
    assert len(store.read(tmp_path / "out").steps) == 60


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    """Some builds of PyTorch do not even start there: whatever the script alone does, it does under watch."""
    before = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone"
    ran = watch_after(before, tmp_path, "train(10); print('through')", f"--out {tmp_path}/out")
    alone = subprocess.run(
        ["bash", "-c", f'{before}\nexec "{sys.executable}" "{tmp_path}/script.py"'],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout) == (alone.returncode, alone.stdout) and "Traceback" not in ran.stderr
    if alone.returncode == 0:
        assert len(store.read(tmp_path / "out").steps) == 10


def test_a_working_directory_that_goes(warm: Warm, tmp_path: Path) -> None:
    ran = watch(
        warm, tmp_path, "os.mkdir('w'); os.chdir('w'); os.rmdir('../w'); train(10); print('through')", "--out out"
    )
    assert (ran.returncode, ran.stdout) == (0, "through\n") and "Traceback" not in ran.stderr
    assert len(store.read(tmp_path / "out").steps) == 10


SLEEPS = (
    "train(5); print(__import__('signal').getsignal(2) == __import__('signal').SIG_IGN, flush=True); time.sleep(90)"
)


@pytest.mark.parametrize("deaf", [False, True], ids=["plain", "ignored"])
def test_a_time_limit_wakes_a_script_that_sleeps(deaf: bool, warm: Warm, tmp_path: Path) -> None:
    began = time.monotonic()
    ran = watch(warm, tmp_path, SLEEPS, "--max-time 3 --out out", deaf=deaf)
    assert time.monotonic() - began < 60
    assert (ran.returncode, ran.stdout.strip()) == (0, str(deaf))
    assert store.read(tmp_path / "out").meta.ended == "max-time"


def test_a_signal_of_the_scripts_own_is_not_taken(warm: Warm, tmp_path: Path) -> None:
    body = """
import signal
mine = signal.SIGRTMAX - 1
signal.signal(mine, lambda *a: print('mine', flush=True))
signal.signal(signal.SIGINT, signal.SIG_IGN)
train(5); os.kill(os.getpid(), mine); time.sleep(90)
"""
    ran = watch(warm, tmp_path, body, "--max-time 3 --out out")
    assert (ran.returncode, ran.stdout) == (0, "mine\n")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_script_that_is_killed_leaves_a_record_that_opens(seed: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TRAIN + "train(10**6)")
    process = subprocess.Popen(
        [sys.executable, "-m", "gradientflow", "run", "-q", "--out", "out", "script.py"], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out = tmp_path / "out" / store.FILE
    while not out.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(2.0 * bool(seed), 2.0 + seed))
    process.send_signal(signal.SIGKILL)
    process.wait()
    if seed == 0:  # at once: nothing, or something
        with contextlib.suppress(RecordError):
            store.read(tmp_path / "out")
        return
    run = store.read(tmp_path / "out")
    assert run.meta.ended is None and [s.step for s in run.steps] == list(range(1, len(run.steps) + 1))


def test_a_full_disk_leaves_the_verdict_of_before(warm: Warm, tmp_path: Path) -> None:
    ran = watch(warm, tmp_path, "train(5)", "--json /dev/full --out out")
    assert ran.returncode == 0 and "Traceback" not in ran.stderr
    assert "could not be written to /dev/full" in ran.stderr
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["steps"] == 5


def test_names_that_no_encoding_knows(warm: Warm, tmp_path: Path) -> None:
    body = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_module('half\\udc80', nn.Linear(8, 2))
    def forward(self, x):
        return getattr(self, 'half\\udc80')(x)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train(5)
raise RuntimeError('half \\udfff')
"""
    ran = watch(warm, tmp_path, body, "--out out --json v.json")
    assert ran.returncode == 1 and "gradientflow/" not in ran.stderr.partition("RuntimeError")[0]
    assert json.loads((tmp_path / "v.json").read_text())["steps"] == 5
    assert "half" in store.read(tmp_path / "out").meta.params[-1].name
