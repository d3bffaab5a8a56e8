"""Two real processes that train together under watch: nothing of ours costs the job anything, and all that was seen can be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.cli import main

SOURCE = str(Path(__file__).parents[1] / "src")
LAUNCHER = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
WATCH = ["-m", "gradientflow", "run"]

DIES = """
import torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(rank)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(32, 8)
y = (x[:, 0] > 0).long()
for i in range(12):
    if rank == 1 and i == 6:
        x = x * float("inf")
    if rank == 1 and i == 9:
        raise RuntimeError("of the script's own")
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
"""


def _started(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_rank_that_dies_is_named_and_all_rows_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dies.py").write_text(DIES)
    done = _started(tmp_path, *LAUNCHER, *WATCH, "dies.py")
    told = done.stderr
    assert done.returncode == 1, told
    assert "RuntimeError: of the script's own" in told
    (job,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in job.iterdir()} == {"rank-0", "rank-1"}
    assert f"gradientflow: rank 1: it ended with an error: gradientflow report runs/{job.name}/rank-1" in told
    ended = store.read(job / "rank-1")
    assert (ended.meta.rank, ended.meta.ranks, ended.meta.ended, len(ended.steps)) == (1, 2, "exception", 9)
    assert len(store.read(job / "rank-0").steps) >= 7
    with pytest.raises(SystemExit):
        main(["report", str(job)])
    said = " ".join(capfd.readouterr().err.split())
    assert f"step 7, by rank 1: gradientflow report runs/{job.name}/rank-1" in said
