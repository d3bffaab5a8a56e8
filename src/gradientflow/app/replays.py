"""Remedies that are tried from the page: `gradientflow replay` in a process of its own, one at a time, and what can be seen of it.

It runs the user's script, so it starts by a click alone, only for runs that the page may open, and only for remedies of their verdict.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gradientflow import depth, store
from gradientflow.app.runs import Seen
from gradientflow.errors import GradientflowError, RecordError, UsageError
from gradientflow.records import WIN, Offer, Offers, Run, TrialCourse, Trying, Verdict
from gradientflow.report import replay_words, tell, words
from gradientflow.report.view.course import thinned

POINTS = 400  # of a curve
SHOWN = 4  # trials whose curves are told: the baseline, and the last ones
BUDGET = 120  # seconds for all trials of one remedy
GRACE = 15.0  # seconds that a replay may take to end what it has running
ERRAND = "errand.json"
SEEDED = re.compile(
    r"-seed\d+$"
)  # further draws of random numbers, which go into the interval and not into the picture
Spawn = Callable[[list[str]], "subprocess.Popen[bytes]"]


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "gradientflow.app.tied", *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@dataclass
class _Going:
    """One replay, from its start on."""

    seen: Seen
    kind: str
    process: subprocess.Popen[bytes]
    began: float
    said: list[str] = field(default_factory=list)  # the last lines
    cancelled: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    read: dict[Path, store.Following] = field(default_factory=dict)

    def listen(self) -> None:
        """Take in what the replay says, to its end."""
        assert self.process.stderr is not None and self.process.stdin is not None
        try:
            with self.process.stderr as said:
                for line in said:
                    text = words.one_line(line.decode(errors="replace").removeprefix("gradientflow: "))
                    self.said = [*self.said[-20:], text] if text else self.said
            self.process.wait()
        finally:
            self.process.stdin.close()
            self.over.set()


class Replays:
    """Starts replays and tells of the one that was started last.

    Args:
        spawn: starts a command of ours.
    """

    def __init__(self, spawn: Spawn = _spawn) -> None:
        self._spawn = spawn
        self._lock = threading.Lock()
        self._last: _Going | None = None

    def offers(self, seen: Seen) -> Offers:
        """Return what may be tried on a run."""
        moment = seen.now()
        remedies = _remedies(moment.verdict)
        trying = self.trying(seen)
        refused = _refused(moment.run, moment.state != "ended") if remedies else "there is no remedy to try."
        return Offers(remedies, _told(moment.run), refused, trying)

    def start(self, seen: Seen, kind: str) -> Trying:
        """Start the replay of a remedy.

        Raises:
            UsageError: it is no remedy of this run, the script is not as it was watched, or another replay goes on.
        """
        moment = seen.now()
        if kind not in {r.kind for r in _remedies(moment.verdict)}:
            raise UsageError(f"{kind!r:.40} is no remedy of what was found in this run.")
        if why := _refused(moment.run, moment.state != "ended"):
            raise UsageError(why)
        with self._lock:
            if self._last is not None and not self._last.over.is_set():
                raise UsageError(
                    f"{self._last.kind} is being tried on {self._last.seen.name}: one at a time. Cancel it, or wait for its end."
                )
            command = ["replay", "--add", "--remedy", kind, "--budget", str(BUDGET), str(seen.folder.resolve())]
            self._last = _Going(seen, kind, self._spawn(command), time.time())
            threading.Thread(target=self._last.listen, daemon=True).start()
        return _seen(self._last)

    def trying(self, seen: Seen) -> Trying | None:
        """Return how the last replay of a run stands; None where none was started."""
        last = self._last
        return _seen(last) if last is not None and last.seen.name == seen.name else None

    def cancel(self, seen: Seen) -> Trying:
        """End a replay, with what it has running; what was measured is kept.

        Raises:
            UsageError: none is going on.
        """
        last = self._last
        if last is None or last.seen.name != seen.name or last.over.is_set():
            raise UsageError("nothing is being tried on this run.")
        last.cancelled = True
        _end(last)
        return _seen(last)

    def close(self) -> None:
        """End what is going on."""
        if self._last is not None and not self._last.over.is_set():
            self._last.cancelled = True
            _end(self._last)


def _end(going: _Going) -> None:
    """Ask it to end; it ends its trial first. Where it does not, it is killed, and the trial ends as its input does."""
    with contextlib.suppress(OSError):
        going.process.terminate()
    if not going.over.wait(GRACE):
        going.process.kill()
        going.over.wait(GRACE)


def _seen(going: _Going) -> Trying:
    over = going.over.is_set()
    trials = _trials(going)
    state, text = "going", next((s for s in reversed(going.said) if s.startswith("replay ")), "it starts …")
    if over:
        state, text = _ended(going)
    total = max((len(t.steps) for t in trials), default=0)
    return Trying(going.seen.name, going.kind, state, text, trials, total)  # type: ignore[arg-type]


def _ended(going: _Going) -> tuple[str, str]:
    """How a replay ended, and what came of it, as the command line tells it."""
    if going.cancelled:
        return "cancelled", "cancelled; what was measured until then is kept."
    with contextlib.suppress(RecordError):
        replay = store.read_replay(going.seen.folder)
        mine = [t for t in replay.trials if going.kind in {c.kind for c in t.changes}] if replay is not None else []
        if going.process.returncode == 0 and replay is not None and mine:
            cells = replay_words.cells(mine[0], replay)
            told = [
                f"{cells.sign} {cells.outcome}",
                cells.what,
                f"loss {cells.loss}" if cells.loss else "",
                cells.difference,
                cells.reason,
            ]
            return "ended", ": ".join(told[:2]) + "".join(f"; {t}" for t in told[2:] if t)
    return "failed", " ".join(
        going.said[-3:]
    ) or f"it ended with exit code {going.process.returncode} and said nothing."


def _trials(going: _Going) -> list[TrialCourse]:
    """What the trials have written so far: the baseline, and the last of the others."""
    folder = going.seen.folder / store.TRIALS
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for one in folder.iterdir():
            with contextlib.suppress(OSError):
                began = (one / ERRAND).stat().st_mtime
                if began >= going.began - 1 and not one.is_symlink() and not SEEDED.search(one.name):
                    found.append((began, one))
    told = [_course(going, one) for _, one in sorted(found)]
    return [*told[:1], *told[1:][-(SHOWN - 1) :]]


def _course(going: _Going, folder: Path) -> TrialCourse:
    following = going.read.setdefault(folder, store.Following(folder))
    with contextlib.suppress(RecordError):
        following.more()
    steps, losses = depth.course(following.run, folder) if following.run is not None else ([], [])
    points = thinned([(s, float("nan") if v is None else v) for s, v in zip(steps, losses, strict=True)], POINTS)
    return TrialCourse(
        words.one_line(folder.name), _what(folder), [s for s, _ in points], [v if abs(v) < float("inf") else None for _, v in points]
    )  # fmt: skip


def _what(folder: Path) -> str:
    """What a trial does, in words."""
    errand: Any = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        errand = msgspec.json.decode((folder / ERRAND).read_bytes())
    changes = " and ".join(str(c.get("text", "")) for c in errand.get("changes", ())) or "the script as it is"
    return words.one_line("the edited source" if errand.get("sources") else changes)


def _remedies(verdict: Verdict) -> list[Offer]:
    """The remedies of what was found, each kind once, and what came of it."""
    found: dict[str, Offer] = {}
    for remedy in (r for f in verdict.findings for r in f.remedies):
        known = found.setdefault(remedy.kind, Offer(remedy.kind, words.one_line(remedy.text)))
        if remedy.replayed is not None and not known.outcome:
            known.outcome, known.won = tell.replayed(remedy), remedy.replayed.get("outcome") == WIN
    return list(found.values())


def _refused(run: Run, going: bool) -> str:
    """Why a script may not be run again; empty where it may."""
    if going:
        return "the run still goes on, or was killed: its remedies are tried when it has ended."
    try:
        depth.same_script(run)
    except GradientflowError as problem:
        return str(problem)
    return ""


def _told(run: Run) -> str:
    command = f"python {'-m ' if run.meta.module else ''}{' '.join(run.meta.argv)}"
    return words.one_line(
        f"{command} in {run.meta.cwd}, once as it is and once with the remedy in place, for {BUDGET} seconds at most"
    )
