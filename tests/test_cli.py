"""The command line: in this process where that is enough, as a true subprocess where signals and children matter."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gradientflow
from gradientflow import cli
from gradientflow.records import SCHEMA, Meta, Step, Verdict
from gradientflow.store import Store, read
from tests.depth.scripts import sandbox, write
from tests.interrupts import heeds_ctrl_c
from tests.report.pages import unpacked

SOURCE = str(Path(gradientflow.__file__).parents[1])

TRAINING = """
import sys, time
import torch
torch.manual_seed(0)
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.01)
print("ready", flush=True)
for step in range({steps}):
    optimizer.zero_grad()
    loss = {loss}
    loss.backward()
    optimizer.step()
    time.sleep({pause})
{end}
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with sandbox():
        yield


def _script(folder: Path, steps: int = 6, loss: str = "(w ** 2).sum()", pause: float = 0.0, end: str = "") -> Path:
    return write(folder, TRAINING.format(steps=steps, loss=loss, pause=pause, end=end), "train.py")


def _command(*args: str) -> list[str]:
    return [sys.executable, "-m", "gradientflow", *args]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "", **more}


def _run(*args: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(args), capture_output=True, env=_environment(**more), timeout=400)


def _here(*args: str) -> int:
    """Call the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(args))
    return int(stop.value.code or 0)


# ── as a subprocess ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_modules_of_the_working_directory_are_not_taken_for_ours(tmp_path, monkeypatch):
    (tmp_path / "typer.py").write_text("raise SystemExit('of the working directory')\n")
    monkeypatch.chdir(tmp_path)
    done = _run(*_command("--version"))
    assert (done.returncode, done.stdout.decode().split()[0]) == (0, "gradientflow")


WORKERS = """
import multiprocessing, os, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def child(queue):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    queue.put(model.weight.detach().shape[1])

def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = TensorDataset(torch.randn(32, 4), torch.randn(32, 1))
    for method, workers in (("fork", 2), ("spawn", 1)):
        for x, y in DataLoader(data, batch_size=8, shuffle=True, num_workers=workers, multiprocessing_context=method):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            print(f"{loss.item():.17g}")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print("child", queue.get(timeout=60))
    process.join()
    print("child's code", process.exitcode)
    torch.save(model, "model.pt")
    sys.stdout.flush()
    os.write(1, b"raw \\xff\\x00 bytes\\n")
    print(sys.argv, __name__, sys.path[0] == os.path.dirname(os.path.abspath(__file__)))
    print("to stderr", file=sys.stderr)
    sys.exit(7)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_workers_children_output_and_exit_code_are_pythons(tmp_path: Path) -> None:
    write(tmp_path, WORKERS, "workers.py")
    found = _run(*_command("run", "--probe-every", "2", "workers.py", "--out", "mine", "-q"))
    saved = (tmp_path / "model.pt").read_bytes()
    alone = _run(sys.executable, "workers.py", "--out", "mine", "-q", PYTHONPATH="")
    assert alone.returncode == 7, alone.stderr
    assert (found.returncode, found.stdout) == (7, alone.stdout)
    assert b"raw \xff\x00 bytes" in found.stdout
    assert b"child's code 0" in found.stdout
    assert found.stderr.count(b"to stderr") == 1
    assert b"gradientflow" not in saved
    assert saved == (tmp_path / "model.pt").read_bytes()
    (verdict,) = (tmp_path / "runs").rglob("verdict.json")  # one, not one per process
    told = json.loads(verdict.read_bytes())
    assert told["schema"] == SCHEMA
    assert told["steps"] == 8
    assert told["watch"]["errors"] == []
    assert told["watch"]["probed_steps"] == 5
    assert str(verdict.parent.relative_to(tmp_path)) in found.stderr.decode()


@pytest.mark.slow
def test_one_interrupt_stops_the_script_and_gives_the_verdict(tmp_path: Path) -> None:
    _script(tmp_path, steps=100_000, pause=0.005)
    with subprocess.Popen(
        _command("run", "--out", "here", "train.py"), stdout=-1, stderr=-1, env=_environment(), preexec_fn=heeds_ctrl_c
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    verdict = msgspec.json.decode((tmp_path / "here" / "verdict.json").read_bytes(), type=Verdict)
    assert verdict.steps > 10
    assert read(tmp_path / "here").meta.ended == "interrupted"
    assert b"report.html" in err
    assert b"Traceback" not in err


@pytest.mark.slow
def test_killed_outright_it_still_tells_what_was_seen(tmp_path: Path) -> None:
    stamp = "log.write(b'%d\\n' % (step + 1))"
    script = _script(tmp_path, steps=100_000, pause=0.005, loss=f"({stamp}, (w ** 2).sum())[1]")
    script.write_text(script.read_text().replace("print(", "log = open('last', 'ab', buffering=0)\nprint("))
    with subprocess.Popen(
        _command("run", "--out", "here", "train.py"), stdout=-1, stderr=-1, env=_environment(), preexec_fn=heeds_ctrl_c
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        patience = time.monotonic() + 30
        while not (running := read(tmp_path / "here")).steps and time.monotonic() < patience:  # while it is written
            time.sleep(0.2)
        assert running.meta.ended is None
        time.sleep(0.5)
        time.sleep(1.0)
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "here" / "verdict.json").exists()
    seen = read(tmp_path / "here")
    assert len(seen.steps) > len(running.steps) > 0
    begun = int((tmp_path / "last").read_text().split("\n")[-2])
    assert begun - seen.steps[-1].step <= 1.0 / 0.005  # nothing older than a second is missing
    rate = (seen.steps[-1].step - seen.steps[10].step) / (seen.steps[-1].at - seen.steps[10].at)
    assert (begun - seen.steps[-1].step) / rate < 1.0
    told = _run(*_command("report", "here"))
    assert told.returncode == 0, told.stderr
    verdict = msgspec.json.decode((tmp_path / "here" / "verdict.json").read_bytes(), type=Verdict)
    assert verdict.steps == len(seen.steps)
    assert verdict.loss.first == 3.0
    assert (tmp_path / "here" / "report.html").stat().st_size > 1000


BLOCKED = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, NoTorch())
from gradientflow import cli
cli.main(sys.argv[1:])
"""


def test_a_report_is_made_without_torch(tmp_path: Path) -> None:
    from tests.report.cases import CASES

    case = CASES["vanishing"]()
    writing = Store(tmp_path / "here")
    writing.meta(case.run.meta)
    for step in case.run.steps:
        writing.step(step)
    for record in [*case.run.norms, *case.run.probes]:
        writing.add(record)
    writing.close()
    write(tmp_path, BLOCKED, "blocked.py")
    found = _run(sys.executable, "blocked.py", "report", "here", "--json", "v.json")
    assert found.returncode == 0, found.stderr
    assert json.loads((tmp_path / "v.json").read_bytes())["steps"] == len(case.run.steps)
    assert (tmp_path / "here" / "report.html").exists()
    _script(tmp_path)
    found = _run(sys.executable, "blocked.py", "run", "train.py")  # negative control: the blocker blocks
    assert found.returncode != 0
    assert b"blocked" in found.stderr


# ── in this process ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_do_what_they_say(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _script(tmp_path, steps=50, loss="(w ** 2).sum() * (float('nan') if step == 4 else 1.0)")
    code = _here(
        "run",
        "--max-steps",
        "9",
        "--fail-on",
        "exploding,not-finite",
        "--json",
        "v.json",
        "--out",
        "o/p",
        "-q",
        "train.py",
    )
    out, err = capfd.readouterr()
    assert code == cli.EXIT_FAILED_ON == 3
    assert out == "ready\n"
    assert err.strip() == "gradientflow: --fail-on: found not-finite"
    told = json.loads((tmp_path / "v.json").read_bytes())
    assert told == json.loads((tmp_path / "o/p/verdict.json").read_bytes())
    assert (told["schema"], told["steps"], told["symptom"]) == (SCHEMA, 9, "not-finite")
    assert not (tmp_path / "runs").exists()
    assert {f.name for f in (tmp_path / "o/p").iterdir()} == {"run.db", "report.html", "verdict.json"}
    assert _here("run", "--fail-on", "vanishing", "-q", "--max-steps", "9", "train.py") == 0  # not what was found
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"train-\d{8}-\d{6}", folder.name)
    capfd.readouterr()
    assert _here("run", "--max-steps", "9", "train.py") == 0
    out, err = capfd.readouterr()
    assert out == "ready\n"
    assert "not finite" in err.lower() or "not-finite" in err.lower()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["run", "--fail-on", "vanising", "train.py"],
            ["unknown symptom vanising", "vanishing, exploding, not-finite", "any"],
        ),
        (["run", "--fail-on", "", "train.py"], ["none given"]),
        (["run", "--fail-on", "healthy", "train.py"], ["unknown symptom healthy"]),
        (["run", "--json", "no/such/folder.json", "train.py"], ["--json", "no/such/folder.json"]),
        (["run", "--json", ".", "train.py"], ["--json"]),
        (["run", "trian.py"], ["no such script: trian.py", "train.py"]),
        (["run", "--out", "train.py/x", "train.py"], ["cannot write", "--out DIR"]),
        (["run", "-m", "nothing.here"], ["nothing.here"]),
        (["run", "--max-steps", "0", "train.py"], ["--max-steps"]),
        (["run", "--no-such-option", "train.py"], ["--no-such-option"]),
        (["report", "nowhere"], ["nowhere holds no run", "gradientflow run"]),
        (["report", "bad"], ["bad/run.db", "cannot be read"]),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    args: list[str], words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "open('ran', 'w').close()", "train.py")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.db").write_bytes(b"garbage " * 500)
    assert _here(*args) == cli.EXIT_USAGE == 2
    out, err = capfd.readouterr()
    told = " ".join(err.replace("│", " ").split())
    for word in words:
        assert word in told
    assert out == ""
    assert "Traceback" not in err
    assert not (tmp_path / "ran").exists()


def test_a_script_that_fails_keeps_its_code_and_gets_its_verdict(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _script(tmp_path, end="import no_such_package")
    assert _here("run", "--out", "here", "--fail-on", "any", "train.py") == 1
    _, err = capfd.readouterr()
    assert "ModuleNotFoundError: No module named 'no_such_package'" in err
    assert "-m pip install no_such_package" in " ".join(err.split())
    assert "gradientflow/depth" not in err
    verdict = err.partition("✗ The script failed after 6 steps: ModuleNotFoundError")[2]
    assert "healthy" in verdict and "healthy" not in err.partition("✗ The script failed")[0], "the failure leads"
    assert "The script failed after 6 steps" in (tmp_path / "here" / "report.html").read_text()
    assert read(tmp_path / "here").meta.ended == "exception"
    assert json.loads((tmp_path / "here" / "verdict.json").read_bytes())["steps"] == 6


@pytest.mark.parametrize(
    ("args", "end", "told"),
    [
        (["--max-steps", "2"], "", "--max-steps stands behind train.py"),
        (["--max-time=3", "--replay"], "", "--max-time, --replay stand behind train.py"),
        (["--max-steps", "2"], "max_steps = 2", None),  # the script's own
        (["--epochs", "2"], "", None),
    ],
)
def test_an_option_of_ours_behind_the_scripts_name_gets_a_note(
    args: list[str], end: str, told: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _script(tmp_path, end=end)
    assert _here("run", "--out", "here", "-q", "train.py", *args) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert (told in said) if told is not None else ("behind train.py" not in said)


def test_a_disk_that_is_full_at_the_end_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _script(tmp_path)
    assert _here("run", "--out", "here", "--json", "/dev/full", "train.py") == 0
    _, err = capfd.readouterr()
    assert "could not be written to /dev/full: No space left on device" in " ".join(err.split())
    assert json.loads((tmp_path / "here" / "verdict.json").read_bytes())["steps"] == 6  # the rest is there


def test_a_report_that_cannot_be_made_costs_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(cli.report, "write_html", fail)
    _script(tmp_path, end="sys.exit(5)")
    assert _here("run", "--out", "here", "train.py") == 5
    _, err = capfd.readouterr()
    assert "planted" in err
    assert (tmp_path / "here" / "verdict.json").exists()


def test_a_script_that_takes_the_streams_still_gets_its_verdict(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _script(tmp_path, end="sys.stderr = open('log', 'w')\nprint('mine', file=sys.stderr)\nsys.stdout = None")
    assert _here("run", "--out", "here", "train.py") == 0
    sys.stderr.close()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    _, err = capfd.readouterr()
    assert "report.html" in err
    assert (tmp_path / "log").read_text() == "mine\n"


def test_a_run_that_is_still_going_on_can_be_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    writing = Store(tmp_path / "here")
    writing.meta(Meta("train.py", ["train.py"], str(tmp_path), "2026-01-01T00:00:00+00:00", "3.11", "2.13"))
    for n in range(1, 20):
        writing.step(Step(n, n * 0.1, 0, 0.1, 1.0 / n, 1.0, 1.0, 0.1))
    writing.flush()
    assert _here("report", "here") == 0
    assert json.loads((tmp_path / "here" / "verdict.json").read_bytes())["steps"] == 19
    writing.step(Step(20, 2.0, 0, 0.1, 0.05, 1.0, 1.0, 0.1))  # reading it has not disturbed the writer
    writing.close()
    assert writing.error is None
    assert _here("report", "here/run.db", "-q") == 0
    assert json.loads((tmp_path / "here" / "verdict.json").read_bytes())["steps"] == 20
    capfd.readouterr()


def test_help_teaches(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("run", "--help") == 0
    out, _ = capfd.readouterr()
    for word in (
        "train.py --epochs 3",
        "--fail-on",
        "--max-steps",
        "--max-time",
        "--json",
        "--out",
        "--probe-every",
        "Ctrl-C",
    ):
        assert word in out
    assert _here("--version") == 0
    assert capfd.readouterr().out.startswith("gradientflow ")


LAYERS = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    net(torch.ones(3, 4)).square().sum().backward()
    optimizer.step()
"""


def test_jacobian_measures_singular_values_and_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = write(tmp_path, LAYERS, "layers.py")
    assert _here("run", "--jacobian", "--out", "with", str(script)) == 0
    told = capsys.readouterr().err
    assert "singular values of the Jacobians" in told
    assert "2 → 4" in told
    view = read(tmp_path / "with").probes[0].isometry
    assert view is not None
    assert len(view.stretches) == 2
    page = unpacked((tmp_path / "with" / "report.html").read_text(encoding="utf-8"))
    assert len(page.view.jacobians[0].rows) == 3
    assert _here("run", "--out", "without", str(script)) == 0  # only on request
    assert "singular values" not in capsys.readouterr().err
    assert all(p.isometry is None for p in read(tmp_path / "without").probes)
