"""`gradientflow replay` and `run --replay` as a user types them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from gradientflow import store
from gradientflow.records import Meta, Step
from tests.depth.scripts import sandbox, write
from tests.interrupts import heeds_ctrl_c
from tests.report.pages import unpacked
from tests.test_cli import _command, _environment, _here, _run

DIVERGES = """
import time, torch
torch.manual_seed(0)
x = torch.randn(64, 8)
y = x @ torch.randn(8, 1)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
for step in range(40):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    time.sleep({pause})
print("the script's own last line")
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with sandbox():
        yield


def test_run_and_replay_in_one_go(tmp_path: Path) -> None:
    write(tmp_path, DIVERGES.format(pause=0), "train.py")
    done = _run(*_command("run", "--replay", "--out", "out", "train.py"))
    told = done.stderr.decode()
    assert done.returncode == 0
    assert done.stdout.decode() == "the script's own last line\n"  # once: trials keep their output to themselves
    assert "tried on this script" in told and "✓ lower-step" in told
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    replay = verdict["replay"]
    best = replay["trials"][replay["best"]]
    assert replay["reproducible"] is True
    assert (best["changes"][0]["kind"], best["outcome"], best["gone"]) == ("lower-step", "win", True)
    assert best["diff_tried"] is True and "lr=0.7)" in best["diff"]
    assert unpacked((tmp_path / "out" / "report.html").read_text()).view.tried[0][0] == "✓"
    assert _here("report", "out", "--quiet") == 0  # judged again, it keeps what was replayed
    again = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert again["replay"] == replay


def test_interrupted_it_keeps_the_trials_it_had(tmp_path: Path) -> None:
    write(tmp_path, DIVERGES.format(pause=0.01), "train.py")
    process = subprocess.Popen(
        _command("run", "--replay", "--out", "out", "train.py"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env=_environment(), text=True, preexec_fn=heeds_ctrl_c,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "replay 3/" in line:  # the baseline and one remedy are done
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 130
    assert "tried on this script" in told
    kept = store.read_replay(tmp_path / "out")
    assert kept is not None and len(kept.trials) == 1
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert len(verdict["replay"]["trials"]) == 1


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    folder = tmp_path / "healthy"
    kept = store.Store(folder)
    kept.meta(Meta(script="t.py", argv=["t.py"], cwd=str(tmp_path), started="", python="", torch=""))
    kept.step(Step(1, 0.1, 0, 0.1, 1.0, 1.0, 1.0, 0.1))
    kept.close()
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "nowhere"], "holds no run"),
        (["replay", "healthy"], "nothing to replay"),
        (
            ["replay", "--remedy", "pray", "healthy"],
            "unknown remedy pray. Expected a comma-separated list of swap-activation",
        ),
        (["replay", "--remedy", "", "healthy"], "unknown remedy (none given)"),
        (["replay", "--budget", "0", "healthy"], "--budget '0': expected a finite number of seconds, 1 or more"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], words: str, healthy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _here(*arguments) == 2
    assert words in " ".join(capfd.readouterr().err.replace("│", " ").split())


def test_a_replay_file_that_is_broken_costs_the_replay_only(healthy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (healthy / store.REPLAY).write_text("{")
    assert _here("report", str(healthy)) == 0
    assert "cannot be read as a replay" in " ".join(capfd.readouterr().err.split())
    for file in ("report.html", "verdict.json"):
        assert "cannot be read as a replay" in (healthy / file).read_text()


def test_help_teaches_replay(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("replay", "--help") == 0
    text = capfd.readouterr().out
    assert "no proven win" in text and "--budget" in text and "--remedy" in text
