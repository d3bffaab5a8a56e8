"""The limits of a race: how long a trial is, and for what there is still time. No script is run here, and the clock is ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gradientflow.depth.remedies.write import Edits
from gradientflow.depth.replay import candidates as choice
from gradientflow.depth.replay import race
from gradientflow.depth.replay.bench import Bench
from gradientflow.depth.replay.trial import Attempt
from gradientflow.records import (
    NOT_TRIED,
    WIN,
    Budget,
    Change,
    Finding,
    Loss,
    Meta,
    Outlook,
    Run,
    Trial,
    Verdict,
    Watch,
)
from tests.depth.causes.by_hand import flips

EACH = 10.0  # seconds of every trial
FINDING = Finding("diverging", "step-too-large", 0.9, None, "", {}, [])


class Clock:
    """Seconds that go by when a trial is run, and not else."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Runner:
    """In place of the script: each attempt takes ten seconds, begins at 1, and ends where `fall` says."""

    fall: Callable[[Sequence[Change]], float] = staticmethod(lambda changes: 1.0)

    def __init__(self, clock: Clock, folder: Path) -> None:
        self.clock, self.folder, self.steps = clock, folder, 100
        self.names: list[str] = []

    def attempt(self, name: str, changes: Sequence[Change] = (), **more: Any) -> Attempt:
        self.names.append(name)
        self.clock.now += EACH
        verdict = Verdict("a.py", 100, Loss(), "healthy", [], Budget(), Watch())
        end = self.fall(changes)
        losses = (
            dict.fromkeys(range(50), 3.0) | dict.fromkeys(range(50, 100), end)
            if end != 1.0
            else dict.fromkeys(range(100), 1.0)
        )
        return Attempt(
            list(changes), more.get("shift", 0), self.folder / name, None, verdict, None, losses,
            Outlook(100, losses[0], end, None, "healthy"), seconds=EACH,
        )  # fmt: skip


def raced(
    monkeypatch: pytest.MonkeyPatch, budget: float, *, steps: int = 100, elapsed: float = 1.0, **evidence: Any
) -> tuple[race._Race, Runner]:
    clock = Clock()
    runner = Runner(clock, Path("trials"))
    monkeypatch.setattr(race, "time", clock)
    monkeypatch.setattr(race, "Trials", lambda *a: runner)
    monkeypatch.setattr(choice, "candidates", lambda *a, **k: [(0, Change("lower-step", "a smaller step"))])
    monkeypatch.setattr(choice, "untried", lambda *a: [])
    meta = Meta("a.py", ["a.py"], ".", "", "", "", steps=steps, elapsed=elapsed)
    finding = Finding("diverging", "step-too-large", 0.9, None, "", evidence, [])
    verdict = Verdict("a.py", steps, Loss(), "diverging", [finding], Budget(), Watch())
    made = race._Race(Run(meta), verdict, Path("."), budget, 3, race.Silent(), None, SimpleNamespace())  # type: ignore[arg-type]
    made.runner = runner  # type: ignore[assignment]
    return made, runner


def ended(made: race._Race, runner: Runner) -> None:
    """The first round is over: the baseline was run, and one trial beside it, which is a win."""
    base, first = runner.attempt("baseline"), runner.attempt("1-lower-step")
    runner.names.clear()
    runner.clock.now = 0.0
    made.bench, made.each = Bench(made.verdict, base), EACH
    change = Change("lower-step", "a smaller step")
    won = Trial([change], 0, WIN, "", 1, first.outlook)
    made.trials, made.attempts, made.parts = [won], [[first]], [[(change, FINDING)]]


def test_time_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(left: float) -> bool:
        made, _ = raced(monkeypatch, EACH + left)
        monkeypatch.setattr(made, "_more_seeds", lambda: None)
        monkeypatch.setattr(made, "_compose", lambda only: None)
        monkeypatch.setattr(made, "_edit", lambda: None)
        return made.run(()).trials[0].outcome != NOT_TRIED

    flips(tried, 4.9, 5.1)


def test_time_for_further_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def more(left: float) -> bool:
        made, runner = raced(monkeypatch, left)
        ended(made, runner)
        made._more_seeds()
        return bool(runner.names)

    flips(more, 31.8, 32.2)  # a baseline and a trial, and the edited source after them


def test_time_for_a_remedy_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    def more(left: float) -> bool:
        made, runner = raced(monkeypatch, left)
        ended(made, runner)
        first = made.attempts[0][0]
        first.run = made.watched
        first.verdict = Verdict("a.py", 1, Loss(), "diverging", [FINDING], Budget(), Watch())
        monkeypatch.setattr(choice, "candidates", lambda *a, **k: [(0, Change("clip-gradient", "clipped"))])
        made._compose(())
        return bool(runner.names)

    flips(more, 19.9, 20.1)  # that one, and the edited source after it


def test_time_to_run_the_edited_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "edits", lambda *a: Edits({}, "", []))

    def checked(left: float) -> bool:
        made, runner = raced(monkeypatch, left)
        ended(made, runner)
        made._edit()
        return bool(runner.names)

    flips(checked, 7.9, 8.1)


def test_the_fewest_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No budget at all: what is needed is run, and not more than was watched."""
    assert raced(monkeypatch, 0.1, steps=100)[0]._horizon(2) == 30
    assert raced(monkeypatch, 0.1, steps=20)[0]._horizon(2) == 20


@pytest.mark.parametrize(("at", "steps"), [(100, 135), (1000, 1305), (2, 30)])
def test_a_symptom_is_shown_with_a_margin(monkeypatch: pytest.MonkeyPatch, at: int, steps: int) -> None:
    assert raced(monkeypatch, 0.1, steps=5000, step=at)[0]._horizon(2) == steps


def test_a_budget_is_shared_by_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.6 of 100 s for two runs, each 4 s to start and 1.3 times 10 ms a step: 2000 steps."""
    made, _ = raced(monkeypatch, 100.02, steps=5000, elapsed=50.0)
    assert made._horizon(2) == 2000
    assert "stopped after 2000 of 5000 steps" in made.notes[0]
