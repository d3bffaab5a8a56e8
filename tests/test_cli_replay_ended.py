"""A replay that a signal ends: its trials end with it, what was measured is kept, and nothing of ours is thrown at the user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.cli.common import SignalledError, ended_by_signals
from gradientflow.depth.replay import family

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")

SCRIPT = """
import os, subprocess, sys, time
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
with open("helpers", "a") as file:
    print(helper.pid, file=file, flush=True)
x = torch.randn(64, 8)
y = x @ torch.randn(8, 1)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
for step in range(60):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    time.sleep(float(os.environ.get("PAUSE", "0")))
helper.kill()
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_sigterm_ends_the_trials_and_keeps_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "gradientflow"]
    subprocess.run([*command, "run", "-q", "--out", "run", "train.py"], cwd=tmp_path, check=True, timeout=240)
    (tmp_path / "helpers").unlink()
    outsider = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    replay = subprocess.Popen(
        [*command, "replay", "run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ | {"PAUSE": "0.05"}
    )
    try:
        end = time.monotonic() + 240
        while time.monotonic() < end and replay.poll() is None:  # one trial is measured, the next is on its way
            kept, helpers = store.read_replay(tmp_path / "run"), tmp_path / "helpers"
            if kept is not None and helpers.exists() and len(helpers.read_text().split()) > 2:
                break
            time.sleep(0.1)
        trials = list(family.descendants(replay.pid))
        assert len(trials) >= 2
        replay.send_signal(signal.SIGTERM)
        _, said = replay.communicate(timeout=60)
        assert replay.returncode == 128 + signal.SIGTERM
        assert "Traceback" not in said and "BrokenPipe" not in said
        left = [p for p in (*trials, *map(int, (tmp_path / "helpers").read_text().split())) if alive(p)]
        assert left == []
        told = json.loads((tmp_path / "run" / "verdict.json").read_text())["replay"]
        assert told["trials"] and told["baseline"]["steps"] == 60
        assert outsider.poll() is None  # what is not of the family is left alone
    finally:
        for process in (replay, outsider):
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_block_once_and_an_ignored_one_does_not(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SignalledError) as stop, ended_by_signals():
            signal.raise_signal(number)
        assert stop.value.code == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # as under nohup
        with ended_by_signals():
            signal.raise_signal(number)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
