"""The replay: a baseline, the best candidate remedies beside it, and what can be said of them.

1. The baseline is run again, from the same seeds; its losses tell whether the script is reproducible.
2. Each candidate is run once, on the same seeds and batches, as long as the budget of time lasts.
3. The baseline and the most promising two are run with further seeds, where there is time.
4. Where the best leaves a fault, or nothing wins alone, the remedy of what is left is tried on top.
5. The best is written as an edit of the source, and the edited source is run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from gradientflow.depth.remedies.write import edits
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.replay import candidates as choice
from gradientflow.depth.replay.judging import outcome_of, promise, remains_of, signed
from gradientflow.depth.replay.nursery import Nursery
from gradientflow.depth.replay.same import same_script
from gradientflow.depth.replay.stats import SEEDS, compare
from gradientflow.depth.replay.trial import Attempt, Trials, losses_of, tails
from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.records import (
    FAILED,
    NO_WIN,
    NOT_TRIED,
    REPLAY_BUDGET,
    WIN,
    Change,
    Finding,
    Replay,
    Run,
    Trial,
    Verdict,
)

_ALL = 100  # candidates that are looked through for the kinds that were asked for
_SEEDED = 2  # trials that are run with further seeds
_START = 4.0  # seconds that a child takes before its first step, where nothing better is known
_SHARE = 0.6  # of the budget goes to one seed of every candidate
_SLOWER = 1.3  # times what a step took when it was watched
LEAST_STEPS = Limit("steps", 30, "chosen: fewer losses have no end that could be told from their noise")
SHOWN = Limit("steps_over_those_to_the_symptom", 1.3, "chosen: a margin, since a remedy may only put it off")
SHOWN_FOR = Limit("steps_after_the_symptom", 5, "chosen: what happens in the first steps is seen for some more")
# of the seconds that the slowest run so far took, what must be left to begin another
TIME_TO_TRY = Limit("time_left_over_a_run", 0.5, "chosen: a first trial that is cut short still says something")
TIME_FOR_MORE = Limit("time_left_over_a_run_for_more", 1.2, "chosen: what is cut short adds nothing to a whole trial")
TIME_TO_CHECK = Limit(
    "time_left_over_a_run_to_check", 0.8, "chosen: the edited source need only show the same direction"
)


class Progress(Protocol):
    """Shows how a replay is going: 1. `trial` as each begins; 2. `steps` a few times a second; 3. nothing may raise."""

    def trial(self, text: str, number: int, of: int, steps: int) -> None: ...
    def steps(self, done: int) -> None: ...


class Silent:
    """Shows nothing."""

    def trial(self, text: str, number: int, of: int, steps: int) -> None: ...
    def steps(self, done: int) -> None: ...


def replay(
    run: Run,
    verdict: Verdict,
    folder: Path,
    *,
    budget: float = REPLAY_BUDGET,
    seeds: int = int(SEEDS),
    only: Sequence[str] = (),
    progress: Progress | None = None,
    save: Callable[[Replay], None] | None = None,
) -> Replay:
    """Try the remedies of a verdict on the script it is about, and measure them.

    Args:
        run: the watched run.
        verdict: its verdict.
        folder: where the trials' own runs go, one folder each.
        budget: seconds that all trials together may take.
        seeds: how many draws of the random numbers the best ones are tried on, time allowing.
        only: kinds of remedies to try; empty: those that the findings name first.
        progress: shows how it is going.
        save: called with what is known so far after each trial, so that an interrupted replay is not lost.

    Returns:
        The replay: the baseline, every trial with its outcome, and which is best.

    Raises:
        UsageError: there is nothing to replay, or the script cannot be run again.
    """
    if not verdict.findings:
        raise UsageError(
            f"nothing to replay: {verdict.script} has no finding, its verdict is {verdict.symptom}. "
            f"A replay tries remedies of what was found."
        )
    same_script(run)
    with Nursery(run.meta.cwd) as nursery:
        return _Race(run, verdict, folder, budget, seeds, progress or Silent(), save, nursery).run(only)


class _Race:
    def __init__(
        self, run: Run, verdict: Verdict, folder: Path, budget: float, seeds: int, progress: Progress,
        save: Callable[[Replay], None] | None, nursery: Nursery,
    ) -> None:  # fmt: skip
        self.nursery = nursery
        self.watched, self.verdict, self.folder = run, verdict, folder
        self.budget, self.seeds, self.progress, self.save = budget, max(1, seeds), progress, save
        self.began = time.monotonic()
        self.baselines: list[Attempt] = []
        self.attempts: list[list[Attempt]] = []  # one list per trial, a seed each
        self.trials: list[Trial] = []
        self.notes: list[str] = []
        self.number, self.total = 0, 0
        self.each = 0.0  # seconds of the slowest run so far

    @property
    def left(self) -> float:
        return self.budget - (time.monotonic() - self.began)

    # ── the five parts ───────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, only: Sequence[str]) -> Replay:
        candidates = choice.candidates(self.watched, self.verdict, most=_ALL if only else int(choice.TRIED))
        if only:
            candidates = [(k, c) for k, c in candidates if c.kind in only][: int(choice.TRIED)]
        steps = self._horizon(len(candidates) + 1)
        self.runner = Trials(self.watched.meta, self.folder, steps, self.nursery)
        self.total = len(candidates) + 1
        base = self._run("baseline", "the script as it is")
        if base.failure is not None or base.outlook is None:
            raise UsageError(
                f"the script could not be run again from {self.watched.meta.cwd}: {base.failure}. Expected a script that "
                f"can be started twice in the same folder; run it once more with gradientflow run to see what it says."
            )
        self.baselines = [base]
        self.baseline = base.outlook
        self.reproducible = self._reproduces(base)
        for number, (index, change) in enumerate(candidates):
            if self.left < TIME_TO_TRY * self.each:
                self._not_tried(index, change, f"the budget of {self.budget:.0f} s was spent")
                continue
            self._try(index, [change], f"{number + 1}-{change.kind}")
        told: set[str] = set()
        for index, kind, reason in choice.untried(self.watched, self.verdict):
            if kind not in told and (not only or kind in only):
                told.add(kind)
                self._not_tried(index, Change(kind, kind), reason)
        self._more_seeds()
        self._compose()
        self._edit()
        return self._record()

    def _horizon(self, runs: int) -> int:
        """Return how many steps each trial gets: as many as were watched, fewer where the budget asks for it."""
        meta = self.watched.meta
        seen = max(meta.steps, 1)
        per_step = max(meta.elapsed - meta.overhead, 1e-3) / seen
        affordable = (_SHARE * self.budget / max(runs, 1) - _START) / (_SLOWER * per_step)
        needed = max(int(LEAST_STEPS), *(_shown_by(f) for f in self.verdict.findings[:1]))
        steps = max(min(seen, int(affordable)), min(needed, seen))
        if steps < seen:
            self.notes.append(f"trials were stopped after {steps} of {seen} steps, to stay within {self.budget:.0f} s")
        return steps

    def _try(self, index: int, changes: list[Change], name: str) -> Trial:
        attempt = self._run(name, " and ".join(c.text for c in changes), changes)
        trial = self._judged(index, changes, [attempt])
        self.trials.append(trial)
        self.attempts.append([attempt])
        self._keep()
        return trial

    def _more_seeds(self) -> None:
        """Run the baseline and the two most promising trials with further seeds."""
        best = [k for k in self._ranked() if self.trials[k].outcome not in (FAILED, NOT_TRIED)][:_SEEDED]
        for shift in range(1, self.seeds):
            if not best or self.left < TIME_FOR_MORE * self.each * (len(best) + 1):
                break
            self.total += len(best) + 1
            base = self._run("baseline", f"the script as it is, seed +{shift}", shift=shift)
            if base.failure is not None:
                self.notes.append(f"seed +{shift}: {base.failure}")
                break
            self.baselines.append(base)
            for k in best:
                trial = self.trials[k]
                name = self.attempts[k][0].folder.name
                self.attempts[k].append(self._run(name, f"{_words(trial)}, seed +{shift}", trial.changes, shift=shift))
                self.trials[k] = self._judged(trial.finding, trial.changes, self.attempts[k])
            self._keep()

    def _compose(self) -> None:
        """Where the best trial leaves a fault (or no win, because one remedy is not enough), try that one's remedy on top."""
        best = self._best()
        if best is None:
            best = next((k for k in self._ranked() if self.trials[k].outcome == NO_WIN), None)
        if best is None:
            return
        attempt, trial = self.attempts[best][0], self.trials[best]
        if attempt.run is None or attempt.verdict is None or not attempt.verdict.findings or not trial.remains:
            return
        tried = {c.kind for c in trial.changes}
        further = [c for _, c in choice.candidates(attempt.run, attempt.verdict, most=3) if c.kind not in tried]
        if not further or self.left < TIME_FOR_MORE * self.each:
            return
        self.total += 1
        both = [*trial.changes, further[0]]
        self._try(trial.finding, both, f"{len(self.trials) + 1}-{'-'.join(c.kind for c in both)}")

    def _edit(self) -> None:
        """Write the best trial as an edit of the source, and run the edited source."""
        best = self._best()
        if best is None:
            return
        trial = self.trials[best]
        finding = self.verdict.findings[trial.finding]
        try:
            made = edits(trial.changes, finding, self.watched)
        except NoEditError as why:
            self.notes.append(f"the best has no diff, it has to be written by hand: {why}")
            return
        except Exception as problem:  # a fault of ours must not cost what was measured
            self.notes.append(f"the best could not be written as an edit: {type(problem).__name__}: {problem}")
            return
        trial.diff = made.diff
        self.notes += made.notes
        if self.left < TIME_TO_CHECK * self.each:
            return
        self.total += 1
        model = self.attempts[best][0]
        attempt = self._run(f"{model.folder.name}-edited", "the edited source", sources=made.texts, factor=model.factor)
        attempt.sign = model.sign
        checked = self._judged(trial.finding, trial.changes, [attempt])
        trial.diff_tried = checked.outcome == WIN
        if not trial.diff_tried:
            self.notes.append(f"the edit of the source was run and did not do as well: {checked.reason}")

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _judged(self, index: int, changes: list[Change], attempts: list[Attempt]) -> Trial:
        first = attempts[0]
        finding = self.verdict.findings[index]
        if first.failure is not None or first.outlook is None or first.verdict is None:
            return Trial(changes, index, FAILED, first.failure or "nothing was recorded", after=first.outlook)
        if first.idle is not None:
            return Trial(changes, index, NOT_TRIED, first.idle)
        sound = [k for k, a in enumerate(attempts) if a.failure is None]
        base, other = tails([self.baselines[k] for k in sound], [attempts[k] for k in sound])
        found = compare([[first.sign * x for x in losses] for losses in base], other)
        trial = Trial(changes, index, "", "", seeds=len(sound), after=first.outlook)
        trial.gone = _gone(finding, first)
        trial.remains = remains_of(first.verdict)
        if found is not None:
            trial.difference, trial.low, trial.high = (
                x if math.isfinite(x) else None for x in (found.mean, found.low, found.high)
            )
        trial.outcome, trial.reason = outcome_of(trial, finding, signed(self.baseline, first.sign), found)
        return trial

    def _ranked(self) -> list[int]:
        """Trials by promise, the best first."""
        return sorted(range(len(self.trials)), key=lambda k: promise(self.trials[k]), reverse=True)

    def _best(self) -> int | None:
        return next((k for k in self._ranked() if self.trials[k].outcome == WIN), None)

    def _reproduces(self, base: Attempt) -> bool | None:
        """Whether the baseline's losses are those of the watched run, to the bit."""
        watched = losses_of(self.watched)
        shared = watched.keys() & base.losses.keys()
        if not shared:
            return None
        same = all(watched[s] == base.losses[s] or (watched[s] != watched[s] and base.losses[s] != base.losses[s])
                   for s in shared)  # fmt: skip
        if not same:
            self.notes.append(
                "the script does not repeat itself: run again it gave other losses (it sets no seed, or works in threads). "
                "Baseline and trials got the same seed here, so they can be compared with each other"
            )
        return same

    # ── bookkeeping ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(
        self, name: str, text: str, changes: Sequence[Change] = (), *, shift: int = 0,
        sources: dict[str, str] | None = None, factor: float = 1.0,
    ) -> Attempt:  # fmt: skip
        self.number += 1
        self.progress.trial(text, self.number, max(self.total, self.number), self.runner.steps)
        seconds = max(self.left, 5.0)
        attempt = self.runner.attempt(
            name, changes, shift=shift, seconds=seconds, sources=sources, factor=factor, beat=self.progress.steps
        )
        self.each = max(self.each, attempt.seconds)
        return attempt

    def _not_tried(self, index: int, change: Change, reason: str) -> None:
        self.trials.append(Trial([change], index, NOT_TRIED, reason))
        self.attempts.append([])

    def _keep(self) -> None:
        if self.save is not None:
            self.save(self._record())

    def _record(self) -> Replay:
        return Replay(
            self.baseline, self.trials, self._best(), self.runner.steps, len(self.baselines),
            round(time.monotonic() - self.began, 2), self.budget, self.reproducible, self.notes,
        )  # fmt: skip


def _words(trial: Trial) -> str:
    return " and ".join(c.text for c in trial.changes)


def _gone(finding: Finding, attempt: Attempt) -> bool:
    """Whether what was found is found no more: neither its symptom nor its cause, and all values are finite."""
    if attempt.verdict is None or attempt.outlook is None or not attempt.outlook.finite:
        return False
    if attempt.verdict.symptom == "not-measured":
        return False
    return not any(f.symptom == finding.symptom or f.cause == finding.cause for f in attempt.verdict.findings)


def _shown_by(finding: Finding) -> int:
    """The step until which a trial must run to show the symptom, if the finding names one; with a margin."""
    at = [
        finding.evidence.get("step"),
        *(finding.evidence.get("steps") or [] if isinstance(finding.evidence.get("steps"), list) else []),
    ]
    known = [int(s) for s in at if isinstance(s, (int, float))]
    return int(SHOWN * min(known)) + int(SHOWN_FOR) if known else 0
