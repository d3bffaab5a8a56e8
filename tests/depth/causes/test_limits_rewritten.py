"""Weights that are rewritten between two steps: each limit from both sides, and what is left alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.rewritten import _as_before, rewritten
from gradientflow.records import REWRITES, Rewrite
from tests.depth.causes.by_hand import causes, flips, only
from tests.depth.causes.transits import back, seen


def saw(set_back: float = 1.0, later: float = 1.0, times: int = 6, length: int = 60) -> tuple[list[float], list[int]]:
    """Losses that fall from 1 to 0.5 and are set back by this share of it, again and again; the steps behind each."""
    stretch = length // times
    losses: list[float] = []
    for k in range(times):
        top = 1.0 if k == 0 else (0.5 + 0.5 * set_back) * (later if k >= times // 2 else 1.0)
        losses += [top] * (stretch // 2) + [0.5] * (stretch - stretch // 2)
    return losses, [k * stretch + 1 for k in range(1, times)]


def found(losses: Sequence[float], rewrites: Sequence[Rewrite]) -> list[str]:
    return causes(rewritten, seen([], rewrites, losses=list(losses)))


def test_the_share_of_an_update_that_is_taken_back() -> None:
    losses, at = saw()
    flips(lambda undone: found(losses, [back(s, undone) for s in at]), 0.49, 0.51)


def test_once_is_a_checkpoint() -> None:
    losses, at = saw()
    flips(lambda n: found(losses, [back(s) for s in at[: int(n)]]), 1, 2)


def test_the_loss_that_is_lost_again() -> None:
    def what(share: float) -> list[str]:
        losses, at = saw(share)
        return found(losses, [back(s) for s in at])

    flips(what, 0.29, 0.31)


def test_a_loss_that_gets_lower_behind_each_rewrite_learns() -> None:
    flips(lambda later: _as_before([1.0] * 3 + [later] * 3), 0.84, 0.86)


def test_what_is_taken_back_at_each_step() -> None:
    each = range(2, 61)
    flips(lambda undone: found([1.0] * 60, [back(s, undone) for s in each]), 0.989, 0.991)
    assert found([1.0] * 30 + [0.1] * 30, [back(s) for s in each]) == []  # (it learns)


def test_how_often_is_at_each_step() -> None:
    """A loss that stands still is enough only where nearly every step is taken back."""
    flips(lambda n: found([1.0] * 60, [back(s) for s in range(2, 2 + int(n))]), 30, 31)


def test_a_long_run_of_which_not_every_rewrite_is_on_record() -> None:
    on_record = [*range(2, 2 + REWRITES), *range(200, 1001, 100)]
    assert found([1.0] * 1000, [back(s) for s in on_record]) == ["weights-rewritten"]
    assert found([1.0] * 1000, [back(s) for s in range(2, 2 + REWRITES)]) == []  # (the first hundred only)


def test_what_is_told() -> None:
    losses, at = saw()
    run = seen([], [back(s) for s in at], losses=losses)
    run.meta.sources = {"train.py": "average = 1\nmodel.load_state_dict(average)\n"}
    f = only(rewritten(Case(run)))
    assert (f.symptom, f.cause, f.evidence["rewrites"], f.evidence["step"]) == ("crawling", "weights-rewritten", 5, 11)
    assert f.place is not None and (f.place.file, f.place.line) == ("train.py", 2)
    assert [r.kind for r in f.remedies] == ["keep-weights"]


# ── numbers that are not finite ──────────────────────────────────────────────────────────────────────────────────────


def broken(step: int) -> Rewrite:
    return back(step, None, size=math.inf, share=0.5)


def test_what_is_written_between_two_steps_and_is_not_finite() -> None:
    f = only(rewritten(Case(seen([], [broken(31)], losses=[1.0] * 30 + [math.nan]))))
    assert (f.symptom, f.cause, f.evidence["step"]) == ("not-finite", "weights-rewritten", 31)


def test_what_was_not_finite_before_is_not_its_fault() -> None:
    assert found([1.0] * 20 + [math.nan] * 11, [broken(31)]) == []
    run = seen([], [broken(31)], losses=[1.0] * 40)
    run.steps[10].weight = math.inf
    assert rewritten(Case(run)) == []


def test_runs_without_rewrites_or_losses() -> None:
    assert found([1.0] * 60, []) == []
    assert found([], [back(2), back(3)]) == []
    assert found([1.0] * 60, [back(s, optimizer=3) for s in range(2, 61)]) == []
