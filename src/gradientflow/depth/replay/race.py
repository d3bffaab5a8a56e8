"""The replay: a baseline, the best candidate remedies beside it, and what can be said of them.

1. The baseline is run again, from the same seeds; its losses tell whether the script is reproducible.
2. Each candidate is run once, on the same seeds and batches, as long as the budget of time lasts.
3. The other winners are tried on top of the best, and the remedy of what is left; what makes the loss clearly lower stays.
4. The baseline and the most promising two are run with further seeds, where there is time.
5. The best is written as an edit of the source, and the edited source is run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from gradientflow.depth.remedies.write import edits
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.replay import candidates as choice
from gradientflow.depth.replay import composing
from gradientflow.depth.replay.bench import Bench
from gradientflow.depth.replay.composing import settle
from gradientflow.depth.replay.doubt import doubts
from gradientflow.depth.replay.known import bad_steps, named_by
from gradientflow.depth.replay.nursery import Nursery
from gradientflow.depth.replay.same import same_script
from gradientflow.depth.replay.stats import SEEDS
from gradientflow.depth.replay.trial import Attempt, Trials, losses_of
from gradientflow.depth.replay.unit import same_course, unit, yardstick
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
        self.attempts: list[list[Attempt]] = []  # one list per trial, a seed each
        self.parts: list[list[tuple[Change, Finding]]] = []  # of each trial: its changes, each with what it is for
        self.trials: list[Trial] = []
        self.dropped: dict[int, str] = {}  # trials of several changes that were no better than fewer of them, in words
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
        look_at = bad_steps(self.watched, self.verdict, steps)
        self.runner = Trials(self.watched.meta, self.folder, steps, self.nursery, look_at)
        self.total = len(candidates) + 1
        base = self._run("baseline", "the script as it is")
        if base.failure is not None or base.outlook is None:
            raise UsageError(
                f"the script could not be run again from {self.watched.meta.cwd}: {base.failure}. Expected a script that "
                f"can be started twice in the same folder; run it once more with gradientflow run to see what it says."
            )
        self.bench = Bench(self.verdict, base)
        self.reproducible = self._reproduces(base)
        for number, (index, change) in enumerate(candidates):
            if self.left < TIME_TO_TRY * self.each:
                self._not_tried(index, change, f"the budget of {self.budget:.0f} s was spent")
                continue
            self._try([(change, self.verdict.findings[index])], index, f"{number + 1}-{change.kind}")
        told: set[str] = set()
        for index, kind, reason in choice.untried(self.watched, self.verdict):
            if kind not in told and (not only or kind in only):
                told.add(kind)
                self._not_tried(index, Change(kind, kind), reason)
        self._compose(only)
        self._more_seeds()
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

    def _try(self, parts: Sequence[tuple[Change, Finding]], index: int, name: str) -> int:
        """Run a trial and judge it; return its index."""
        changes = [change for change, _ in parts]
        self._measure(changes)
        attempt = self._run(name, " and ".join(c.text for c in changes), changes)
        self.trials.append(self.bench.judged(index, changes, [attempt]))
        self.attempts.append([attempt])
        self.parts.append(list(parts))
        self._keep()
        return len(self.trials) - 1

    def _measure(self, changes: Sequence[Change], shift: int = 0) -> None:
        """Run the baseline in the unit of a trial's losses, where that is not the script's own."""
        have = self.bench.baselines.setdefault(unit(changes), [])
        if len(have) > shift:
            return
        self.total += 1
        text = "the script as it is, told without the penalty"
        base = self._run("baseline-told", text, yardstick(changes), shift=shift)
        if not same_course(base.run, self.bench.baselines[""][shift].run):
            base.failure = base.failure or "told without the penalty, the script did not take the steps that it takes"
        have.append(base)

    def _more_seeds(self) -> None:
        """Run the baseline and the two most promising trials with further seeds."""
        best = [k for k in self._ranked() if self.trials[k].outcome not in (FAILED, NOT_TRIED)][:_SEEDED]
        for shift in range(1, self.seeds):
            if not best or not self._time_for(len(best) + 1):
                break
            self.total += len(best) + 1
            base = self._run("baseline", f"the script as it is, seed +{shift}", shift=shift)
            if base.failure is not None:
                self.notes.append(f"seed +{shift}: {base.failure}")
                break
            self.bench.baselines[""].append(base)
            for k in best:
                trial = self.trials[k]
                self._measure(trial.changes, shift)
                name = self.attempts[k][0].folder.name
                self.attempts[k].append(self._run(name, f"{_words(trial)}, seed +{shift}", trial.changes, shift=shift))
                self._judged(k)
            self._keep()

    def _compose(self, only: Sequence[str]) -> None:
        """Try the other winners on top of the best, one after the other, and then what is left with all that helped; keep
        each that makes the loss clearly lower. Where nothing won alone, begin with the most promising.
        """
        ranked = self._ranked()
        base = next((k for k in ranked if self.trials[k].outcome in (WIN, NO_WIN)), None)
        if base is None:
            return
        for k in ranked:
            if k != base and self.trials[k].outcome == WIN and composing.together(self.trials[base], self.trials[k]):
                base = self._on_top(base, self.parts[k])
        attempt = self.attempts[base][0]
        further = [p for p in composing.left(attempt, self.trials[base]) if not only or p[0].kind in only]
        for part in further[: int(composing.MORE)]:
            if composing.fit(self.trials[base].changes, [part[0]]):
                base = self._on_top(base, [part])

    def _on_top(self, base: int, parts: Sequence[tuple[Change, Finding]]) -> int:
        """Try further changes together with those of a trial; return which of the two trials goes on."""
        if len(self.trials[base].changes) >= composing.TOGETHER or not self._time_for(1):
            return base
        both = [*self.parts[base], *parts]
        self.total += 1
        name = f"{len(self.trials) + 1}-{'-'.join(change.kind for change, _ in both)}"
        made = self._try(both, self.trials[base].finding, name)
        trial, before = self.trials[made], self.trials[base]
        better = self.bench.lower(self.attempts[made], self.attempts[base])
        if better or (trial.outcome == WIN and before.outcome != WIN):
            return made
        self.dropped[made] = f"; not clearly lower than with {composing.kinds(before)} alone"
        self._judged(made)
        return base

    def _time_for(self, runs: int) -> bool:
        """Whether there is time for so many further runs, and for that of the edited source after them."""
        return self.left >= (TIME_FOR_MORE * runs + TIME_TO_CHECK) * self.each

    def _edit(self) -> None:
        """Write the best trial as an edit of the source, and run the edited source; where that cannot be, or does not do as well,
        the next that won and can be written.
        """
        wins = [k for k in self._ranked() if self.trials[k].outcome == WIN]
        for place, k in enumerate(wins[: int(composing.WRITTEN)]):
            if self._written(k, "the next" if place else "the best"):
                return

    def _written(self, k: int, called: str) -> bool:
        """Write one trial; return whether there is a diff of it now."""
        trial = self.trials[k]
        try:
            made = edits(self.parts[k], self.watched)
        except NoEditError as why:
            self.notes.append(f"{called} has no diff, it has to be written by hand: {why}")
            return False
        except Exception as problem:  # a fault of ours must not cost what was measured
            self.notes.append(f"{called} could not be written as an edit: {type(problem).__name__}: {problem}")
            return False
        if self.left < TIME_TO_CHECK * self.each:
            trial.diff = made.diff
            self.notes += made.notes
            return True
        self.total += 1
        model = self.attempts[k][0]
        attempt = self._run(f"{model.folder.name}-edited", "the edited source", sources=made.texts, factor=model.factor)
        checked = self.bench.judged(trial.finding, trial.changes, [attempt])
        settle(trial, made, checked, attempt, model, self.notes, called)
        return trial.diff is not None

    # ── bookkeeping ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _judged(self, k: int) -> None:
        """Judge a trial again, by all the seeds that it has."""
        trial = self.bench.judged(self.trials[k].finding, self.trials[k].changes, self.attempts[k])
        trial.reason += self.dropped.get(k, "") if trial.outcome == WIN else ""
        self.trials[k] = trial

    def _ranked(self) -> list[int]:
        return self.bench.ranked(self.trials, self.attempts)

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
        self.parts.append([])

    def _keep(self) -> None:
        if self.save is not None:
            self.save(self._record())

    def _record(self) -> Replay:
        return Replay(
            self.bench.outlook, self.trials, self._best(), self.runner.steps, len(self.bench.baselines[""]),
            round(time.monotonic() - self.began, 2), self.budget, self.reproducible, self.notes,
            doubts(self.verdict.findings, self.trials, self.dropped),
        )  # fmt: skip


def _words(trial: Trial) -> str:
    return " and ".join(c.text for c in trial.changes)


def _shown_by(finding: Finding) -> int:
    """The step until which a trial must run to show the symptom, if the finding names one; with a margin."""
    known = named_by(finding)
    return int(SHOWN * min(known)) + int(SHOWN_FOR) if known else 0
