"""Updates that rounding swallows: each limit from both sides."""

from __future__ import annotations

from typing import Any

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.lost import swallowed
from tests.depth.causes.by_hand import causes, flips, only, progressed
from tests.depth.causes.transits import group, seen, way


def found(lost: float | None = 0.9, energy: float | None = 0.5, **more: Any) -> list[str]:
    return causes(swallowed, seen([way(groups=[group(lost=lost, lost_energy=energy)])] * 3, **more))


def test_the_share_of_updates_that_do_not_land() -> None:
    flips(lambda lost: found(lost), 0.49, 0.51)


def test_the_share_of_their_energy() -> None:
    flips(lambda energy: found(energy=energy), 0.098, 0.102)


def test_a_run_that_learns_all_the_same() -> None:
    flips(lambda progress: found(losses=progressed(progress)), 0.31, 0.29)


def test_a_run_that_has_hardly_begun() -> None:
    flips(lambda losses: found(losses=[1.0] * int(losses)), 19, 20)


def test_what_is_told() -> None:
    run = seen([way(groups=[group(lost=0.9, lost_energy=0.5)])] * 3)
    run.meta.params[0].dtype = "bfloat16"
    f = only(swallowed(Case(run)))
    assert (f.symptom, f.cause) == ("crawling", "rounding")
    assert "90% of the updates of SGD do not land" in f.summary
    assert "bfloat16" in f.summary
    assert [r.kind for r in f.remedies] == ["wide-weights", "raise-step"]


def test_nothing_is_told_where_nothing_was_compared() -> None:
    assert found(None) == []
    assert causes(swallowed, seen([])) == []
