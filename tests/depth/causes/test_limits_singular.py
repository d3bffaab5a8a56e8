"""The limits of an operation next to its singular point, each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import judge, singular
from gradientflow.depth.causes.case import Case
from gradientflow.records import GradStat
from tests.depth.causes.by_hand import Chain, Row, causes, flips, grad, linear, only, progressed, run, tail, value


def near(
    excess: float = 500.0, share: float = 0.5, peak: float = 2.0, came: float = 2.0, entries: int = 64, probes: int = 2
) -> list[Chain]:
    """A square root one of whose operands is small: what one entry gets over what a typical one does, and how alone it is.

    `share` is that entry's part of the norm, `peak` its size over the root mean square; `came` the latter of what came in.
    """
    top = 0.1 * excess  # (a typical slope is 1/2, and the largest entry that comes in is 0.2)
    sent = GradStat(top / share, top / peak, top, 0.0, 0, 0)
    root = Row("sqrt", "singular", sent=sent, into=value(shape=(entries,)), came=grad(max=0.2, rms=0.2 / came))
    rows = [linear(came=sent), root, *tail()]
    return [Chain(rows, step=1 + k) for k in range(probes)]


def found(**more: float) -> list[str]:
    return causes(singular.near, run(*near(**more)))  # type: ignore[arg-type]


def test_times_what_a_typical_operand_gives() -> None:
    flips(lambda excess: found(excess=excess), 98, 102)


def test_an_excess_that_one_probe_is_enough_for() -> None:
    flips(lambda excess: found(excess=excess, probes=1), 9.8e3, 10.2e3)


def test_the_share_of_one_entry() -> None:
    flips(lambda share: found(share=share), 0.295, 0.305)


def test_the_peak_of_a_whole_row() -> None:
    flips(lambda peak: found(share=0.1, peak=peak), 7.9, 8.1)


def test_the_peak_over_that_of_what_came_in() -> None:
    flips(lambda times: found(share=0.1, peak=30.0, came=30.0 / times), 2.95, 3.05)


def test_entries_of_which_one_is_typical() -> None:
    flips(lambda entries: found(entries=int(entries)), 3, 4)


@pytest.mark.parametrize("number", ["progress", "rise"])
def test_a_run_that_learns_well_without_a_rise_is_not_held_up(number: str) -> None:
    def sure(progress: float, rise: float) -> float:
        losses = progressed(progress)
        losses[8] = 1.0 + rise
        return only(singular.near(Case(run(*near(), losses=losses)))).confidence

    learns, not_yet = (0.61, 0.59) if number == "progress" else (1.97, 2.03)
    given = (lambda x: sure(x, 0.0)) if number == "progress" else (lambda x: sure(0.8, x))
    assert given(not_yet) - given(learns) == pytest.approx(0.25)


# ── a remark ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_logarithm_of_a_probability_that_came_near_to_nought_is_a_remark() -> None:
    def said(smallest: float, name: str = "sigmoid") -> bool:
        rows = [linear(), Row(name, "activation"), Row("log", "singular", into=value(absmin=smallest)), *tail()]
        seen = run(Chain(rows), losses=[1.0 * 0.9**k for k in range(40)])
        return "from its singular point" in judge(seen).summary

    flips(lambda decades: said(10.0**-decades), 2.9, 3.1)
    assert not said(1e-6, "relu")


def test_an_exponential_that_came_far_is_a_remark() -> None:
    def said(decades: float) -> bool:
        rows = [linear(), Row("exp", "elementwise", value=value(max=10**decades)), *tail()]
        return "no fault yet" in judge(run(Chain(rows), losses=[1.0 * 0.9**k for k in range(40)])).summary

    flips(said, 9.5, 9.7)  # of 38.53
