"""A job of several processes: one folder for all of it, whichever launcher started it, and what is told of the ranks in it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.app.runs import Runs
from gradientflow.cli import main
from gradientflow.depth import same_script
from gradientflow.errors import RecordError, UsageError
from gradientflow.records import Budget, Finding, Loss, Meta, Remedy, Step, Verdict, Watch
from gradientflow.report.closing import next_command
from gradientflow.store import Place

SOURCE = str(Path(__file__).parents[1] / "src")
TELL = "from pathlib import Path; from gradientflow import store; print(store.rank_folder('train.py', None, store.place()))"
LOSSES = [0.7, 0.6, 0.5]
FOUND = Finding("dead", "dead-units", 0.9, None, "", {}, [Remedy("lower-step", "lower it")])
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Place(1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),  # torchrun --nproc-per-node 1
        ({"RANK": "2", "WORLD_SIZE": "2"}, None),  # nobody's
        ({"RANK": "one", "WORLD_SIZE": "2"}, None),
        ({"RANK": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "3"}, Place(1, 2, 3)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Place(3, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"}, None),  # typed into a shell there
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Place(5, 8)),  # torchrun under srun
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Place(1, 2)),
    ],
)  # fmt: skip
def test_the_launchers_words_say_which_of_the_processes_this_is(
    environ: dict[str, str], expected: Place | None
) -> None:
    assert store.place(environ) == expected


def test_ranks_of_a_named_job_lie_in_its_folder_and_a_restart_beside_what_it_follows(tmp_path: Path) -> None:
    assert store.rank_folder("t.py", tmp_path, Place(1, 2)) == tmp_path / "rank-1"
    assert store.rank_folder("t.py", tmp_path, Place(1, 2, 2)) == tmp_path / "rank-1-restart-2"


def _asked(command: list[str], rank: int, folder: Path) -> str:
    environ = {**os.environ, "PYTHONPATH": SOURCE, "RANK": str(rank), "WORLD_SIZE": "2"}
    return subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_ranks_of_one_launcher_agree_on_a_fresh_folder_also_out_of_a_shell(tmp_path: Path) -> None:
    plain = [sys.executable, "-c", TELL]
    wrapped = ["sh", "-c", f"{shlex.join(plain)}; true"]
    first, second = _asked(plain, 0, tmp_path), _asked(wrapped, 1, tmp_path)
    assert Path(first).parent == Path(second).parent
    assert (Path(first).name, Path(second).name) == ("rank-0", "rank-1")
    assert Path(first).parents[1] == tmp_path / "runs" and Path(first).parent.name.startswith("train-2")
    # another launcher: a process that is none of the ranks, and starts one
    launch = f"import subprocess, os; subprocess.run({plain!r}, env={{**os.environ, 'RANK': '0', 'WORLD_SIZE': '2'}})"
    other = subprocess.run(
        [sys.executable, "-c", launch], cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": SOURCE}
    ).stdout.strip()  # fmt: skip
    assert Path(other).parent != Path(first).parent


def test_a_job_on_several_machines_is_called_as_it_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a/b 7"}
    found = store.rank_folder("t.py", None, Place(0, 4), environ)
    assert found == tmp_path / "runs" / "t-job-a-b-7" / "rank-0"
    found.mkdir(parents=True)  # a job before it was called the same
    assert store.rank_folder("t.py", None, Place(0, 4), environ).name == "rank-0-restart-1"
    assert not store.rank_folder("t.py", None, Place(0, 4), environ | {"TORCHELASTIC_RUN_ID": "none"}).match("*none*/*")


def _rank(
    job: Path, rank: int, losses: list[float], *, grads: dict[int, float] | None = None, name: str = "", ranks: int = 2
) -> Path:
    """Write the run of one rank: a loss and a gradient a step."""
    folder = job / (name or f"rank-{rank}")
    kept = store.Store(folder)
    kept.meta(
        Meta(
            "train.py",
            ["train.py"],
            str(job),
            "2026-01-01",
            "3",
            "2",
            rank=rank,
            ranks=ranks,
            ended="finished",
            backwards=len(losses),
        )
    )
    for n, loss in enumerate(losses, 1):
        kept.step(Step(n, 0.1 * n, 0, 0.1, loss, (grads or {}).get(n, 1.0), 1.0, 0.1))
    kept.close()
    return folder


def _told(folder: Path) -> str:
    return " ".join(note.text for note in store.beside(folder, store.read(folder).meta))


def test_a_jobs_folder_opens_its_first_rank_that_can_be_read(tmp_path: Path) -> None:
    _rank(tmp_path, 1, LOSSES)
    assert store.of_job(tmp_path).name == "rank-1"
    (tmp_path / "rank-0").mkdir()
    store.Store(tmp_path / "rank-0")  # it was killed at once
    assert store.of_job(tmp_path).name == "rank-1"
    _rank(tmp_path, 0, LOSSES, name="rank-0-restart-1")
    assert store.of_job(tmp_path).name == "rank-0-restart-1"
    alone = _rank(tmp_path, 0, LOSSES, name="alone", ranks=1)
    assert store.of_job(alone) == alone and store.of_job(tmp_path / "nothing") == tmp_path / "nothing"
    with pytest.raises(RecordError, match="holds no run"):
        store.read(store.of_job(tmp_path.parent))


def test_the_rank_whose_loss_was_first_not_finite_is_named(tmp_path: Path) -> None:
    """Gradients are shared before they are seen: all ranks see them at once, and only a loss is a rank's own."""
    first = _rank(tmp_path, 0, [0.7, 0.6, NAN], grads={2: NAN, 3: NAN})
    _rank(tmp_path, 1, [0.7, INF, NAN], grads={2: NAN, 3: NAN})
    assert "rank 0 of 2" in _told(first)
    assert "The first loss that is not finite was seen at step 2, by rank 1: gradientflow report" in _told(first)


def test_that_norms_are_of_a_part_is_told_where_they_are(tmp_path: Path) -> None:
    folder = _rank(tmp_path, 0, LOSSES)
    meta = store.read(folder).meta
    meta.shared_out = True
    assert "norms are of the part in this one" in store.beside(folder, meta)[0].text
    assert "norms" not in _told(folder)


def test_no_rank_is_named_where_all_is_finite_and_all_are_where_none_was_first(tmp_path: Path) -> None:
    sound = _rank(tmp_path / "a", 0, LOSSES)
    _rank(tmp_path / "a", 1, LOSSES)
    assert "beside it lies rank 1" in _told(sound) and "not finite" not in _told(sound)
    both = _rank(tmp_path / "b", 0, LOSSES, grads={3: NAN})
    _rank(tmp_path / "b", 1, LOSSES, grads={3: INF})
    assert "The first gradient that is not finite was seen at step 3, by rank 0, rank 1" in _told(both)
    assert _told(_rank(tmp_path / "c", 0, LOSSES, ranks=1)) == ""
    gone = _rank(tmp_path / "d", 0, LOSSES)
    broken = _rank(tmp_path / "d", 1, [NAN])
    (broken / store.FILE).write_bytes(b"no database")
    assert "not finite" not in _told(gone)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _rank(tmp_path / "runs" / "job", 0, LOSSES)
    _rank(tmp_path / "runs" / "job", 1, [0.7, NAN, NAN])
    return tmp_path / "runs" / "job"


@pytest.mark.parametrize("command", ["report", "explain"])
def test_a_job_is_opened_by_its_folder_and_the_rank_is_told(
    command: str, job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, str(job)])
    told = " ".join("".join(capfd.readouterr()).split())
    assert stop.value.code in (0, None)
    assert "rank 0 of 2 processes" in told and "at step 2, by rank 1" in told
    assert (job / "rank-0" / "report.html").exists() == (command == "report")
    assert not (job / "report.html").exists()


def test_the_app_offers_a_job_once_and_its_ranks_where_it_is_called_with_it(job: Path) -> None:
    offered = Runs(None, job.parent)
    assert [run.name for run in offered.offered().runs] == ["job"]
    seen = offered.get("job")
    assert (seen.name, seen.folder) == ("job", job / "rank-0")
    assert _judged(seen.now, lambda m: any("by rank 1" in n.text for n in m.run.notes))
    assert {run.name for run in Runs(store.of_job(job)).offered().runs} == {"rank-0", "rank-1"}


def test_the_app_that_started_a_job_finds_its_ranks_once_they_write(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    runs = Runs(tmp_path / "job")
    assert runs.get(None).folder == tmp_path / "job"
    _rank(tmp_path / "job", 0, LOSSES)
    assert (runs.get(None).name, runs.get(None).folder) == ("job", tmp_path / "job" / "rank-0")
    assert [run.name for run in runs.offered().runs] == ["job"]


def test_what_would_be_refused_is_not_offered(job: Path) -> None:
    run = store.read(job / "rank-0")
    verdict = Verdict("t.py", 1, Loss(), "dead", [FOUND], Budget(), Watch(1))
    assert next_command(verdict, "job", run) == "gradientflow explain job"
    run.meta.ranks = 1
    assert next_command(verdict, "job", run) == "gradientflow replay job"


def _judged(now: Callable[[], object], reached: Callable[[object], bool]) -> bool:
    """Whether a state comes within some seconds: it is judged beside."""
    pause = threading.Event()
    return any(reached(now()) or pause.wait(0.05) for _ in range(200))


def test_one_of_several_is_not_replayed(job: Path) -> None:
    with pytest.raises(UsageError, match="one of 2 processes"):
        same_script(store.read(job / "rank-0"))
