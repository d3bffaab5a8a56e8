"""One run of the script in a child process, with or without changes, and how it went."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import msgspec

from gradientflow import store
from gradientflow.depth.causes import judge
from gradientflow.depth.causes.case import Case
from gradientflow.depth.replay.child import TOLD, Errand, Told
from gradientflow.depth.replay.nursery import Nursery
from gradientflow.errors import RecordError
from gradientflow.limits import Limit
from gradientflow.records import Change, Meta, Outlook, Run, Verdict

_BEYOND = 10.0  # seconds that a child may take beyond its time: to start, and to end
END = Limit("share_of_steps_at_the_end", 0.2, "chosen: the last fifth, over which losses are averaged and compared")
_LOG = "output.txt"


@dataclass
class Attempt:
    """One run of the script and what is known of it.

    `losses` are by step, in the script's own unit: times `factor`.
    """

    changes: list[Change]
    shift: int
    folder: Path
    run: Run | None = None
    verdict: Verdict | None = None
    told: Told | None = None
    losses: dict[int, float] = field(default_factory=dict)
    outlook: Outlook | None = None
    factor: float = 1.0
    seconds: float = 0.0
    failure: str | None = None  # why there is nothing to compare, in words

    @property
    def idle(self) -> str | None:
        """Why a change did not act at all, in words; None where every change did."""
        for change, acted in zip(self.changes, self.told.acted if self.told else [], strict=False):
            if acted.problem:
                return acted.problem
            if acted.acted == 0:
                return f"{change.kind} found nothing to act on in this script"
        return None


class Trials:
    """Runs the watched script again and again, each time in a fresh process and a folder of its own.

    Args:
        meta: what was run, and how.
        folder: where the trials' runs go.
        steps: of each trial.
        nursery: where the processes come from.
        look_at: steps that are probed in each, whatever it costs.
    """

    def __init__(self, meta: Meta, folder: Path, steps: int, nursery: Nursery, look_at: Sequence[int] = ()) -> None:
        self.meta = meta
        self.folder = folder
        self.steps = steps
        self.nursery = nursery
        self.look_at = list(look_at)

    def attempt(
        self,
        name: str,
        changes: Sequence[Change] = (),
        *,
        shift: int = 0,
        seconds: float,
        sources: Mapping[str, str] | None = None,
        factor: float = 1.0,
        beat: Callable[[int], None] | None = None,
    ) -> Attempt:
        """Run the script once.

        Args:
            name: of the trial's folder.
            changes: what is changed; none for the baseline.
            shift: added to every seed.
            seconds: how long it may take.
            sources: files (as the records name them) whose text is run in place of what is on disk.
            factor: what the losses are to be multiplied with, where no change says so.
            beat: called now and then with the number of steps so far.

        Returns:
            What came of it; what failed is told in it.
        """
        folder = self.folder / (name if shift == 0 else f"{name}-seed{shift}")
        done = Attempt(list(changes), shift, folder)
        texts = {os.path.realpath(Path(self.meta.cwd) / file): text for file, text in (sources or {}).items()}
        errand = Errand(self.meta.argv, self.meta.module, str(folder.absolute()), shift, done.changes, texts,
                        self.steps, max(seconds, 1.0), self.look_at)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier replay left there
        folder.mkdir(parents=True, exist_ok=True)
        paper = folder / "errand.json"
        paper.write_bytes(msgspec.json.encode(errand))
        began = time.perf_counter()
        code = self.nursery.run(
            paper.absolute(), (folder / _LOG).absolute(), seconds + _BEYOND,
            lambda: beat(_steps_so_far(folder)) if beat is not None else None,
        )  # fmt: skip
        done.seconds = time.perf_counter() - began
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            done.told = msgspec.json.decode((folder / TOLD).read_bytes(), type=Told)
        try:
            done.run = store.read(folder)
        except RecordError:
            done.failure = _failure(code, folder)
            return done
        done.verdict = judge(done.run)
        done.factor = factor
        for acted in done.told.acted if done.told else ():
            done.factor *= acted.loss_factor
        done.losses = losses_of(done.run, done.factor)
        done.outlook = outlook(done.run, done.verdict, done.losses)
        if not done.run.steps:
            done.failure = _failure(code, folder)
        return done


def losses_of(run: Run, factor: float = 1.0) -> dict[int, float]:
    """Return the losses of the optimizer that steps most, by step, times a factor; those that are not finite are kept."""
    return {s.step: factor * s.loss for s in Case(run).main.steps if s.loss is not None}


def outlook(run: Run, verdict: Verdict, losses: Mapping[int, float]) -> Outlook:
    """Return how a run went: its losses at the ends, the decades at the first probe, and what is wrong with it."""
    values = list(losses.values())
    tail = values[-max(1, round(END * len(values))) :]
    finite = all(map(math.isfinite, tail)) and not any(s.nonfinite for s in run.steps[-len(tail) :])
    top = verdict.findings[0] if verdict.findings else None
    graph = next(iter(Case(run).finite), None)
    decades = graph.body_decades if graph is not None else None
    return Outlook(
        steps=len(run.steps),
        loss_first=values[0] if values and math.isfinite(values[0]) else None,
        loss_last=fmean(tail) if tail and all(map(math.isfinite, tail)) else None,
        decades=round(decades, 3) if decades is not None and math.isfinite(decades) else None,
        symptom=verdict.symptom,
        cause=top.cause if top else None,
        summary=verdict.summary,
        finite=finite,
    )


def tails(attempts: Sequence[Attempt], others: Sequence[Attempt]) -> tuple[list[list[float]], list[list[float]]]:
    """Return the losses of the last fifth of the steps that both have, seed by seed."""
    first, second = [], []
    for a, b in zip(attempts, others, strict=True):
        shared = sorted(a.losses.keys() & b.losses.keys())
        last = shared[-max(1, round(END * len(shared))) :]
        first.append([a.losses[s] for s in last])
        second.append([b.losses[s] for s in last])
    return first, second


def ends(attempts: Sequence[Attempt]) -> tuple[list[list[float]], list[list[float]]]:
    """Return the losses of the first fifth of each run's steps, and those of its last fifth, seed by seed."""
    values = [list(a.losses.values()) for a in attempts]
    share = [max(1, round(END * len(v))) for v in values]
    return [v[:n] for v, n in zip(values, share, strict=True)], [v[-n:] for v, n in zip(values, share, strict=True)]


def _steps_so_far(folder: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"{(folder / store.FILE).resolve().as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM steps").fetchone()[0])
    except sqlite3.Error:
        return 0


def _failure(code: int | None, folder: Path) -> str:
    """Say in words why a trial left nothing to compare, with the last line that it printed."""
    said = ""
    with contextlib.suppress(OSError):
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f": {lines[-1][:200]}" if lines else ""
    how = "ran out of its time" if code is None else f"ended with exit code {code} before its first step"
    return f"the trial {how}{said} (its output is in {os.path.relpath(folder / _LOG)})"
