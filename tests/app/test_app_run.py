"""`gradientflow app run SCRIPT`: a script watched beside the app, in one terminal, and both ended by one Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gradientflow import app, store
from gradientflow.app.beside import Script
from gradientflow.app.start import Call
from gradientflow.cli import main
from gradientflow.errors import RecordError
from tests.interrupts import heeds_ctrl_c

SCRIPT = """
import sys, time, torch
print("mine:", sys.argv[1:], flush=True)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(int(sys.argv[2])):
    optimizer.zero_grad()
    model(torch.ones(8, 4)).square().mean().backward()
    optimizer.step()
    time.sleep(0.01)
sys.exit(7)
"""
Called = list[Call]


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Called:
    monkeypatch.chdir(tmp_path)
    found: Called = []
    monkeypatch.setattr(app, "start", lambda call: (found.append(call), 3)[1])
    return found


def asked(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main(["app", *arguments])
    return stop.value.code


def test_options_behind_the_word_are_those_of_run_or_the_script(called: Called, tmp_path: Path) -> None:
    assert asked("--port", "9000", "run", "--max-steps", "5", "go.py", "--port", "3", "--no-open") == 3
    (call,) = called
    assert (call.port, call.browse, call.target) == (9000, True, None)
    assert call.run is not None and call.run.parent == tmp_path / "runs" and call.run.is_dir()
    assert list(call.script) == ["run", "--out", str(call.run), "--max-steps", "5", "go.py", "--port", "3", "--no-open"]
    assert asked("--no-open", "run", "--out", "here", "-m", "package") == 3
    assert called[1].run == tmp_path / "here" and not called[1].browse
    assert asked("himmelblau", "--no-open") in (None, 0)  # any other argument as it was
    assert (called[2].target, called[2].browse, list(called[2].script)) == ("himmelblau", False, [])


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "--max-steps", "none", "go.py"], ["himmelblau", "saddle"], ["run", "--no-such", "go.py"]],
)
def test_what_is_wrong_is_said_and_nothing_is_started(
    called: Called, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = asked(*arguments)
    told = "".join(capfd.readouterr())
    assert called == [] and (code == 2 or "Usage" in told) and not Path("runs").exists()
    assert any(word in told for word in ("Usage", "--max-steps", "one RUN or TARGET"))


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command as a terminal does: in a group of its own, to which Ctrl-C is sent as a whole."""
    running: list[Any] = []
    (tmp_path / "go.py").write_text(SCRIPT, encoding="utf-8")

    def begin(*arguments: str) -> subprocess.Popen[str]:
        env = os.environ | {"XDG_STATE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "gradientflow", "app", "--no-open", "run", "--out", "out", *arguments]
        running.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path, start_new_session=True,
                preexec_fn=heeds_ctrl_c,
            )
        )  # fmt: skip
        return running[-1]

    yield begin
    for one in running:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
        one.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a signal")
def test_the_app_goes_on_when_the_script_has_ended_and_tells_how(start: Start, tmp_path: Path) -> None:
    both = start("--quiet", "go.py", "--n", "20")
    assert both.stderr is not None
    told = ""
    while "ended with exit code 7" not in told:
        line = both.stderr.readline()
        assert line, told
        told += line
    assert "#depth" in told and both.poll() is None
    os.killpg(both.pid, signal.SIGINT)
    out, more = both.communicate(timeout=30)
    assert both.returncode == 7 and out == "mine: ['--n', '20']\n" and "Traceback" not in more
    assert len(store.read(tmp_path / "out").steps) == 20


def _steps(run: Path) -> int:
    try:
        return len(store.read(run).steps)
    except RecordError:  # nothing is written yet
        return 0


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_ends_both_and_the_verdict_is_kept(start: Start, tmp_path: Path) -> None:
    both = start("go.py", "--n", "100000")
    assert both.stdout is not None
    assert both.stdout.readline().startswith("mine:")
    while not _steps(tmp_path / "out"):
        assert both.poll() is None
        time.sleep(0.05)
    os.killpg(both.pid, signal.SIGINT)
    _, told = both.communicate(timeout=60)
    assert both.returncode == 130 and (tmp_path / "out" / "verdict.json").exists()
    assert "what was proven" in told or "verdict" in told or "not measured" in told
    assert store.read(tmp_path / "out").meta.ended == "interrupted"


def test_where_nothing_was_recorded_the_app_is_ended_and_no_folder_left(tmp_path: Path) -> None:
    folder, ended, said = tmp_path / "out", threading.Event(), list[str]()
    folder.mkdir()
    script = Script(["no-such-command"], folder, said.append)
    script.listen(ended.set)
    assert ended.wait(60) and said == []
    assert script.end() == 2 and not folder.exists()
