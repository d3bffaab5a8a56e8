"""Two real processes that train together under watch: nothing of ours costs the job anything, and all that was seen can be read."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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

SHARDS = """
import os, sys, torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(os.environ["RANK"]), world_size=2)
mesh = init_device_mesh("cpu", (2,))

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.back = nn.Linear(16, 33), nn.Linear(33, 16)
    def forward(self, x):
        return x + self.back(torch.relu(self.wide(x)))

def train():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), Block(), Block(), nn.Linear(16, 2))
    for layer in [*model, model]:
        fully_shard(layer, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(dist.get_rank())
    x = torch.randn(32, 8)
    y = (x[:, 0] > 0).long()
    for i in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        os.write(1, f"rank {dist.get_rank()} step {i} loss {loss.item().hex()}\\n".encode())

train()
dist.destroy_process_group()
"""


def _started(folder: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "", **more}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False
    )


def _by_hand(folder: Path, meet: str, ranks: list[list[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Start both ranks as a launcher does, and wait for them."""
    with ThreadPoolExecutor() as pool:
        waiting = [
            pool.submit(_started, folder, *args, str(folder / meet), RANK=str(rank), WORLD_SIZE="2")
            for rank, args in enumerate(ranks)
        ]
        return [one.result() for one in waiting]


def test_a_rank_that_dies_is_named_and_all_rows_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dies.py").write_text(DIES)
    done = _started(tmp_path, *WATCH, "--probe-every", "4", *LAUNCHER, "dies.py")
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


def test_shards_compute_the_same_to_the_bit_and_are_judged(tmp_path: Path) -> None:
    (tmp_path / "shards.py").write_text(SHARDS)
    plain = _by_hand(tmp_path, "plain", [["shards.py"], ["shards.py"]])
    # The ranks look at different steps: a collective of ours, which both must join, would end the job or never return.
    every = [[*WATCH, "--probe-every", n, "--out", "job", "--json", "verdict.json", "shards.py"] for n in ("1", "1000")]
    done = _by_hand(tmp_path, "done", every)
    assert [one.returncode for one in (*plain, *done)] == [0] * 4, done[0].stderr + done[1].stderr
    assert len(plain[0].stdout.splitlines()) == 12
    assert [one.stdout for one in done] == [one.stdout for one in plain]
    assert done[0].stderr.count("healthy") == 1 and done[1].stderr == ""
    assert "norms are of the part in this one" in " ".join(done[0].stderr.split())
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert (verdict["symptom"], verdict["watch"]["errors"]) == ("healthy", [])
    both = [store.read(tmp_path / "job" / f"rank-{rank}") for rank in (0, 1)]
    for run in both:
        assert [note for note in run.notes if note.kind == "watcher"] == []
        assert len(run.steps) == 12
        trained = [p for p in run.meta.params if p.optimizer is not None or p.in_graph]
        assert len(trained) == 12  # each once, whether it lies here as a shard or whole
        assert {p.name for p in trained} >= {"0.weight", "1.wide.bias", "3.bias"}
        assert all(p.graded == 12 and p.file == "shards.py" for p in trained)
    first, second = (run.steps[0] for run in both)
    assert first.grad is not None and second.grad is not None
    whole = math.hypot(first.grad, second.grad)  # of a gradient that was clipped, from its shards
    assert whole == pytest.approx(0.01, rel=1e-3)
