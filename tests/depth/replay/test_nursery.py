"""A trial's process: forked or started anew it computes the same bits; what hangs is killed; what fails is told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.depth.replay.nursery import Nursery
from gradientflow.depth.replay.trial import Trials
from gradientflow.records import Meta

SCRIPT = """
import os, time, torch
torch.manual_seed(int(os.environ.get("SEED", 1)))
w = torch.randn(5, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(20):
    optimizer.zero_grad()
    ((w - torch.randn(5)) ** 2).sum().backward()
    optimizer.step()
    {pause}
"""


def trials(folder: Path, nursery: Nursery, text: str = SCRIPT.format(pause="pass"), steps: int = 20) -> Trials:
    (folder / "train.py").write_text(text)
    meta = Meta(script="train.py", argv=["train.py"], cwd=str(folder), started="", python="", torch="")
    return Trials(meta, folder / "trials", steps, nursery)


def test_forked_or_not_it_computes_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Nursery(str(tmp_path)) as nursery:
        runner = trials(tmp_path, nursery)
        forked = runner.attempt("forked", seconds=60)
        other = runner.attempt("other", shift=1, seconds=60)
        monkeypatch.delattr(os, "fork")
        alone = runner.attempt("alone", seconds=60)
        again = runner.attempt("forked", seconds=60)  # in the folder of the first: a second replay of the same run
    assert again.failure is None and again.losses == forked.losses
    assert forked.failure is None and alone.failure is None
    assert len(forked.losses) == 20
    assert forked.losses == alone.losses
    assert forked.losses != other.losses  # another draw: the comparison can fail


def test_what_hangs_is_killed_and_the_next_one_runs(tmp_path: Path) -> None:
    with Nursery(str(tmp_path)) as nursery:
        log = tmp_path / "log"
        trials(tmp_path, nursery, SCRIPT.format(pause="time.sleep(600)"))
        errand = tmp_path / "errand.json"
        errand.write_text('{"target": ["train.py"], "module": false, "out": "%s"}' % (tmp_path / "hangs"))
        beats: list[float] = []
        code = nursery.run(errand, log, 10.0, lambda: beats.append(time.monotonic()))
        assert code is None
        assert len(beats) > 3
        assert len(store.read(tmp_path / "hangs").steps) <= 1  # what it had is on disk, readable
        assert trials(tmp_path, nursery).attempt("next", seconds=60).failure is None


def test_a_script_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    with Nursery(str(tmp_path)) as nursery:
        failed = trials(tmp_path, nursery, "raise RuntimeError('no data here')").attempt("failed", seconds=60)
    assert failed.failure is not None and "RuntimeError: no data here" in failed.failure
    assert failed.losses == {}


def test_a_crash_of_the_process_is_told(tmp_path: Path) -> None:
    with Nursery(str(tmp_path)) as nursery:
        runner = trials(tmp_path, nursery, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
        gone = runner.attempt("gone", seconds=60)
        assert gone.failure is not None and "-11" in gone.failure


def test_a_rewritten_text_is_what_runs_also_in_a_module(tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text("RATE = 0.1\n")
    text = (
        SCRIPT.format(pause="pass")
        .replace("import os", "import step as own\nimport os")
        .replace("lr=0.1", "lr=own.RATE")
    )
    with Nursery(str(tmp_path)) as nursery:
        runner = trials(tmp_path, nursery, text)
        plain = runner.attempt("plain", seconds=60)
        same = runner.attempt("same", seconds=60, sources={"step.py": "RATE = 0.1  # said otherwise\n"})
        other = runner.attempt("other", seconds=60, sources={"step.py": "RATE = 0.2\n"})
    assert plain.losses == same.losses != other.losses
    assert (tmp_path / "step.py").read_text() == "RATE = 0.1\n"
