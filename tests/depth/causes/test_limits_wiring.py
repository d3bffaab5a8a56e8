"""The limits of wiring, each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import wiring
from gradientflow.depth.causes.case import Case
from gradientflow.records import Group
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, run, tail, zigzag


def test_steps_in_which_nothing_gets_a_gradient() -> None:
    def nothing(steps: float) -> list[str]:
        seen = run(Chain([linear(), *tail()]), losses=[1.0] * int(steps))
        for param in seen.meta.params:
            param.graded = 0
        return causes(wiring.disconnected, seen)

    flips(nothing, 2, 3)


def test_steps_in_which_a_part_gets_none() -> None:
    def part(steps: float) -> list[str]:
        seen = run(Chain([linear(), *tail()]), losses=[1.0] * int(steps))
        seen.meta.params[0].graded, seen.probes[0].without_grad = 0, [0]
        return causes(wiring.disconnected, seen)

    flips(part, 9, 10)


def added(since: int, reached: bool = True, steps: int = 100, first: bool = False) -> list[str]:
    """A second group that comes behind so many steps; before, it gets a gradient or none."""
    rows = [linear(), *tail()]
    seen = run(*(Chain(rows, step=k) for k in (1, 2, 3, 4)), losses=[1.0] * steps)
    seen.meta.optimizers[0].groups = [Group({}, [0, 1] if first else [1])]
    for param in seen.meta.params:
        param.graded = steps
    seen.meta.params[0].graded = steps - since
    for probe in seen.probes:
        for state in probe.params:
            state.grad = state.grad if reached or state.param == 1 else None
    return causes(wiring.disconnected, seen)


def test_a_group_that_comes_late() -> None:
    flips(lambda since: added(int(since)), 40, 41)
    assert added(80, reached=False) == []  # it was frozen until then
    assert added(80, first=True) == []  # it was there, and got no gradient


@pytest.mark.parametrize("number", ["turns", "rise"])
def test_what_gradients_that_pile_up_do_to_the_loss(number: str) -> None:
    def symptom(turns: float, rise: float) -> str:
        losses = zigzag(turns, 400, size=1e-6)
        losses[-1] = 1.0 + rise
        rows = [linear(), *tail()]
        seen = run(Chain(rows, step=2), Chain(rows, step=3), losses=losses)
        for probe in seen.probes:
            probe.carried = 1.0
        return only(wiring.missing_zero_grad(Case(seen))).symptom

    if number == "turns":
        assert (symptom(0.29, 9.0), symptom(0.31, 9.0)) == ("diverging", "oscillating")
    else:
        assert (symptom(0.0, 1.97), symptom(0.0, 2.03)) == ("oscillating", "diverging")


def equal(alike: float = 1.0, later: float = 1.0, shape: list[int] | None = None) -> list[str]:
    """A hidden layer whose units are this much alike at the first probe and at the last."""
    chains = [Chain([linear(alike=a), linear(), *tail()], step=s) for a, s in ((alike, 1), (later, 50))]
    seen = run(*chains)
    seen.meta.params[0].shape = shape or [16, 16]
    return causes(wiring.symmetric, seen)


def test_units_that_are_alike_at_the_start() -> None:
    flips(lambda miss: equal(alike=1.0 - miss), 1.05e-6, 0.95e-6)


def test_a_weight_that_works_entry_by_entry_has_no_units() -> None:
    def told(kind: str) -> list[str]:
        seen = run(*(Chain([Row("mul", kind, 1.0, 1.0, alike=1.0), linear(), *tail()], step=s) for s in (1, 50)))
        return causes(wiring.symmetric, seen)

    assert (told("linear"), told("elementwise")) == (["symmetric-init"], [])


def test_units_that_are_alike_in_the_end() -> None:
    flips(lambda alike: equal(later=alike), 0.9989, 0.9991)


def test_units_that_are_a_layer() -> None:
    flips(lambda units: equal(shape=[int(units), 2]), 2, 3)
    flips(lambda filters: equal(shape=[int(filters), 16, 3, 3]), 2, 3)
