"""Weights that are rewritten every few steps: what is lost at it, beside what is gained between."""

from __future__ import annotations

from gradientflow.depth.causes import rewritten
from gradientflow.depth.causes.case import Case
from gradientflow.records import Rewrite
from tests.depth.causes.by_hand import Chain, flips, linear, run, tail


def teeth(tops: list[float], bottoms: list[float], end: list[float]) -> Case:
    """A loss that stands still, then falls from each top to its bottom within five steps; weights are rewritten between."""
    losses = [tops[0]] * 8
    losses += [top + (bottom - top) * k / 4 for top, bottom in zip(tops, bottoms, strict=True) for k in range(5)]
    seen = run(Chain([linear(), *tail()]), losses=losses + end)
    seen.rewrites = [Rewrite(8 + 5 * k + 1, 0, 0.2, 2.0, 1.0) for k in range(1, len(tops))]
    return Case(seen)


def test_what_is_lost_at_a_rewrite_of_what_is_gained_between() -> None:
    def told(lost: float) -> object:
        tops = [1.0 - 0.3 * (1 - lost) * k for k in range(7)]
        return rewritten.rewritten(teeth(tops, [top - 0.3 for top in tops], []))

    flips(told, 0.78, 0.82)


def test_a_run_that_learns_well_may_lose_most_of_it() -> None:
    tops = [1.0, *(0.5 * 0.97**k for k in range(12))]
    flips(lambda end: rewritten.rewritten(teeth(tops, [0.1] * 13, [end] * 10)), 0.24, 0.26)  # progress 0.6


def test_weights_that_are_others_behind_a_rewrite_at_each_step() -> None:
    def told(size: float, losses: tuple[float, ...] = (1.0,) * 60, every: int = 1) -> object:
        seen = run(Chain([linear(), *tail()]), losses=losses)
        seen.rewrites = [Rewrite(k, 0, size if k == 2 else 0.1, 0.3, 1.0) for k in range(2, 60, every)]
        return rewritten.rewritten(Case(seen))

    flips(told, 0.49, 0.51)
    assert not told(0.9, losses=(1.0,) * 30 + (0.5,) * 30)  # it learns
    assert not told(0.9, every=3)  # now and then
