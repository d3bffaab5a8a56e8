"""Launchers that `gradientflow run` is given in place of a script: what is started in the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch.distributed.run

from gradientflow.cli.launcher import watched

RUN = [sys.executable, "-m", "torch.distributed.run"]
OURS = {"out": None, "probe_every": 5, "replay": False, "quiet": True, "format": "text"}
WRITTEN = ["gradientflow", "run", "--probe-every=5", "--quiet", "--format=text"]


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("pass")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "torchrun").write_text("from torch.distributed.run import main")


@pytest.mark.parametrize(
    ("target", "module"),
    [("torch.distributed.run", True), ("bin/torchrun", False), (torch.distributed.run.__file__, False)],
)
def test_the_watcher_stands_in_front_of_the_script_behind_the_launchers_options(target: str, module: bool) -> None:
    found = watched([target, "--nproc-per-node", "2", "train.py", "--lr", "1", "-m"], module, OURS)
    assert found == [*RUN, "--nproc-per-node", "2", "-m", *WRITTEN, "train.py", "--lr", "1", "-m"]


def test_a_module_stays_one(tmp_path: Path) -> None:
    found = watched(["torch.distributed.run", "-m", "train", "--lr=1"], True, {"out": Path("o")})
    assert found == [*RUN, "-m", "gradientflow", "run", f"--out={tmp_path / 'o'}", "-m", "train", "--lr=1"]


@pytest.mark.parametrize("target", [["train.py", "torchrun"], ["run.py"], ["torch.distributed.run", "train.py"]])
def test_a_script_is_no_launcher(target: list[str]) -> None:
    Path("run.py").write_text("pass")
    assert watched(target, False, OURS) is None
    assert watched(["torch.distributed.rpc", "train.py"], True, OURS) is None


def test_what_starts_no_python_is_left_as_it_is() -> None:
    assert watched(["torch.distributed.run", "--no-python", "echo", "train.py"], True, OURS) is None
