"""What counts as the end of a run, from both sides."""

from __future__ import annotations

from pathlib import Path

from gradientflow.depth.replay.trial import Attempt, outlook, tails
from gradientflow.records import Budget, Loss, Meta, Run, Verdict, Watch
from tests.depth.causes.by_hand import flips, run


def test_the_end_is_the_last_fifth_of_the_losses() -> None:
    def lower(steps: float) -> bool:
        """Whether the mean of the end is lower, where so many of 100 steps before the last 20 are lower."""
        losses = {k: 0.0 if k < steps else 1.0 for k in range(100)}
        verdict = Verdict("a.py", 100, Loss(), "healthy", [], Budget(), Watch())
        return outlook(Run(Meta("a.py", [], "", "", "", "")), verdict, losses).loss_last != 1.0

    flips(lower, 80, 81)


def test_values_that_are_not_finite_count_in_the_last_fifth_of_the_steps() -> None:
    def lost(step: float) -> bool:
        seen = run(losses=[1.0] * 100)
        seen.steps[int(step)].nonfinite = 1
        verdict = Verdict("a.py", 100, Loss(), "healthy", [], Budget(), Watch())
        return not outlook(seen, verdict, {s.step: 1.0 for s in seen.steps}).finite

    flips(lost, 79, 80)


def test_pairs_are_those_of_the_last_fifth() -> None:
    one, two = (Attempt([], 0, Path("x"), losses={k: float(k) for k in range(100)}) for _ in range(2))
    ((first,), (second,)) = tails([one], [two])
    assert first == second == [float(k) for k in range(80, 100)]
