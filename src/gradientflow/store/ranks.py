"""A job of several processes (torchrun, srun, mpirun): one folder for all of it, in which each rank keeps a run of its own."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradientflow.files import settled, shown
from gradientflow.records import Meta, Note
from gradientflow.store.fresh import stem_of
from gradientflow.store.layout import FILE
from gradientflow.store.opening import snapshot

# How launchers tell a process its number, and how many there are; the first that does is believed.
_SPOKEN = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
_NODES = ("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES")
_JOBS = ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID")  # what all machines of a job call it
_SHELLS = ("bash", "sh", "zsh", "interactive")  # as SLURM names a job that somebody types into
_NAMED = re.compile(r"rank-(\d+)(?:-restart-(\d+))?")
_PROC = Path("/proc")
_DEEP = 20  # ancestors that are asked for the launcher
_MOST_NAMED = 8  # ranks that a sentence names


@dataclass(frozen=True)
class Place:
    """Which of several processes this one is.

    Attributes:
        rank: its number, from 0.
        size: how many there are; 2 or more.
        restart: how often the launcher has started the job again.
    """

    rank: int
    size: int
    restart: int = 0

    @property
    def name(self) -> str:
        """The name of its folder within that of the job."""
        return f"rank-{self.rank}" + (f"-restart-{self.restart}" if self.restart else "")


def place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Return what the launcher told this process of itself; None where it is the only one."""
    for rank_word, size_word in _SPOKEN:
        rank, size = _count(environ.get(rank_word)), _count(environ.get(size_word))
        if rank is None or size is None:
            continue
        if rank_word == "SLURM_PROCID" and environ.get("SLURM_JOB_NAME") in _SHELLS:
            continue
        restarts = (_count(environ.get(word)) for word in _RESTARTS)
        return Place(rank, size, next((n for n in restarts if n), 0)) if 0 <= rank < size and size > 1 else None
    return None


def rank_folder(name: str, out: Path | None, own: Place, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where a rank's run goes; all ranks of a job find the same folder around it, without asking each other.

    Args:
        name: of the script or module.
        out: the folder of the job; None: a fresh one under runs/.
        own: which of the ranks this is.
        environ: of the process.
    """
    if out is not None:
        return settled(out) / own.name
    job = settled(Path("runs")) / f"{stem_of(name)}-{_key(environ)}"
    folder = job / own.name
    while folder.exists():  # a job that was called the same before
        own = Place(own.rank, own.size, own.restart + 1)
        folder = job / own.name
    return folder


def of_job(folder: Path) -> Path:
    """Return the folder of a run: of a job's folder that of its first rank in which anything is recorded; any other as it is."""
    if not folder.is_dir() or (folder / FILE).is_file():
        return folder
    found = sorted(_ranks(folder), key=lambda one: (one[0], -one[1]))
    return next((path for _, _, path in found if _begun(path)), found[0][2] if found else folder)


def beside(folder: Path, meta: Meta) -> list[Note]:
    """Return what is told of a run that is one of several: which it is, where the others are, who saw the first number that is
    not finite; nothing of a run that was alone.

    Args:
        folder: the run's folder, or the path of its `run.db`.
        meta: its description.
    """
    if meta.ranks < 2:
        return []
    own = settled(folder if folder.is_dir() else folder.parent)
    named = _NAMED.fullmatch(own.name)
    restart = int(named[2] or 0) if named else 0
    ranks = {rank: path for rank, again, path in _ranks(own.parent) if again == restart} if named else {}
    others = sorted(rank for rank in ranks if rank != meta.rank)
    there = (
        f"beside it {'lies' if len(others) == 1 else 'lie'} {_names(others)}" if others else "no other lies beside it"
    )
    told = f"this is rank {meta.rank} of {meta.ranks} processes, with its own losses and gradients; {there}"
    if meta.shared_out:
        told += ". Parameters are shared out among the processes: norms are of the part in this one"
    return [Note("processes", told + _first(ranks))]


def _first(ranks: Mapping[int, Path]) -> str:
    """Say which ranks were the first whose loss (else gradient) was not finite; empty where all are finite, as far as they are written."""
    found = sorted((*seen, rank) for rank, path in ranks.items() if (seen := _not_finite(path)) is not None)
    if not found:
        return ""
    step, by, _ = found[0]
    who = [rank for at, kind, rank in found if (at, kind) == (step, by)]
    what = "gradient" if by else "loss"
    more = "" if len(who) > 1 or len(ranks) == 1 else f": gradientflow report {shown(ranks[who[0]])}"
    return f". The first {what} that is not finite was seen at step {step}, by {_names(who)}{more}"


def _not_finite(folder: Path) -> tuple[int, bool] | None:
    """The first step at which something was not finite, and whether the loss still was; the loss of a rank is its own, while
    gradients are shared among ranks before they are seen.
    """
    with contextlib.suppress(sqlite3.Error, OSError, TypeError, ValueError), snapshot(folder / FILE) as db:
        row = db.execute(
            "SELECT step, typeof(loss) FROM steps WHERE typeof(loss) = 'text' OR typeof(grad) = 'text' OR nonfinite > 0 "
            "ORDER BY step, typeof(loss) = 'text' DESC LIMIT 1"
        ).fetchone()
        return (int(row[0]), row[1] != "text") if row is not None else None
    return None


def _names(ranks: list[int]) -> str:
    told = ", ".join(f"rank {rank}" for rank in ranks[:_MOST_NAMED])
    return told + (f" and {len(ranks) - _MOST_NAMED} more" if len(ranks) > _MOST_NAMED else "")


def _ranks(job: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield what lies in a job's folder: rank, how often it was started again, folder."""
    with contextlib.suppress(OSError):
        for path in job.iterdir():
            named = _NAMED.fullmatch(path.name)
            if named is not None and not path.is_symlink() and (path / FILE).is_file():
                yield int(named[1]), int(named[2] or 0), path


def _begun(folder: Path) -> bool:
    """Whether anything is recorded in a run."""
    with contextlib.suppress(sqlite3.Error, OSError), snapshot(folder / FILE) as db:
        return bool(db.execute("SELECT count(*) FROM meta").fetchone()[0])
    return False


def _count(text: str | None) -> int | None:
    with contextlib.suppress(ValueError):
        return int(text) if text is not None else None
    return None


# ── what a job is called by all of its processes ─────────────────────────────────────────────────────────────────────


def _key(environ: Mapping[str, str]) -> str:
    """Return what tells this job from others, the same in each of its processes: on one machine its launcher, which started at
    one moment; on several what the job was called when it was submitted.
    """
    if any((_count(environ.get(word)) or 1) > 1 for word in _NODES):
        called = next((text for word in _JOBS if (text := environ.get(word, "")) not in ("", "none")), "")
        if called:
            return "job-" + re.sub(r"[^\w.-]", "-", called)[:60]
    launcher, began = _launcher(environ)
    return f"{began:%Y%m%d-%H%M%S}-{launcher}"


def _launcher(environ: Mapping[str, str]) -> tuple[int, datetime.datetime]:
    """The nearest ancestor that is none of the ranks (a shell that a rank was wrapped in has its number, too), and its start."""
    pid = os.getppid()
    mine = next((f"{word}={environ[word]}".encode() for word, _ in _SPOKEN if word in environ), b"")
    for _ in range(_DEEP):
        try:
            variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
            above = int(_stat(pid)[1])
        except (OSError, ValueError, IndexError):
            break
        if mine not in variables or above <= 1:
            break
        pid = above
    try:
        booted = time.time() - time.clock_gettime(
            time.CLOCK_BOOTTIME
        )  # (to microseconds; `btime` is told now so, now so)
        return pid, datetime.datetime.fromtimestamp(booted + int(_stat(pid)[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):  # no such files on this system
        return pid, datetime.datetime.combine(datetime.date.today(), datetime.time())


def _stat(pid: int) -> list[str]:
    """What the system tells of a process, behind its name (which may hold anything): state, parent, …"""
    return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
