"""The limits of a recurrence, each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import pieces
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.loops import loops
from gradientflow.depth.causes.recurrence import course, recurrence
from gradientflow.records import Finding, Operand, Recurrence
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, progressed, run, tail, value


def seen(
    decades: float,
    steps: int = 41,
    cell: str = "rnn_tanh",
    radius: float | None = None,
    losses: list[float] | None = None,
    healthy: int = 0,
) -> list[Finding]:
    """A recurrence whose gradient changes by decades over its time steps, after as many probes in which it does not."""
    rows = [Row("rnn", "recurrent", weight=1.0), *tail()]
    made = run(*(Chain(rows, step=1 + k) for k in range(healthy + 1)), losses=losses or [1.0] * 60)
    for k, probe in enumerate(made.probes):
        change = decades / (steps - 1) if k == healthy else 0.0
        norms = [10 ** (change * k) for k in range(steps)]
        probe.recurrent = [Recurrence([0], cell, steps, norms[::-1], aligned=norms, carried=norms, radius=radius)]
    return recurrence(Case(made))


def sure(**more: object) -> float:
    return only(seen(**more)).confidence  # type: ignore[arg-type]


def test_a_gradient_that_explodes() -> None:
    flips(seen, 1.98, 2.02)


def test_a_gradient_that_grows_at_each_step() -> None:
    flips(lambda slope: seen(300 * slope, 301), 0.0098, 0.0102)


def test_an_explosion_that_is_forgiven_to_a_run_that_learns() -> None:
    losses = progressed(0.5)
    flips(lambda decades: sure(decades=decades, losses=losses) > 0.5, 2.95, 3.05)


def test_a_run_that_learns_calmly_for_a_while() -> None:
    flips(lambda length: sure(decades=2.5, losses=progressed(0.5, int(length))) < 0.5, 19, 20)


def test_a_run_that_learns_calmly_without_a_kick() -> None:
    def kicked(rise: float) -> bool:
        losses = progressed(0.5)
        losses[10] = 1.0 + rise
        return sure(decades=2.5, losses=losses) < 0.5

    flips(kicked, 3.05, 2.95)


def test_a_run_that_learns() -> None:
    flips(lambda progress: sure(decades=-5.0, losses=progressed(progress)) < 0.5, 0.295, 0.305)


def test_a_gradient_that_vanishes() -> None:
    flips(seen, -2.95, -3.05)


def test_a_gradient_that_vanishes_behind_gates() -> None:
    flips(lambda decades: seen(decades, cell="lstm"), -5.9, -6.1)


def test_gates_that_have_had_time_to_open() -> None:
    flips(lambda length: sure(decades=-9.0, cell="lstm", losses=[1.0] * int(length)) > 0.5, 99, 100)


def test_time_steps_that_show_growth() -> None:
    flips(lambda steps: seen(4.0, int(steps)), 3, 4)


def test_time_steps_that_show_vanishing() -> None:
    flips(lambda steps: seen(-8.0, int(steps)), 7, 8)


def test_probes_that_are_looked_at() -> None:
    flips(lambda healthy: seen(5.0, healthy=int(healthy)), 3, 2)


@pytest.mark.parametrize(("decades", "miss", "more"), [(-40.0, 0.053, 0.055), (-3.2, 0.0079, 0.0081)])
def test_a_weight_that_predicts_what_was_measured(decades: float, miss: float, more: float) -> None:
    def predicts(by: float) -> bool:
        return "which predicts" in only(seen(decades, radius=10 ** (decades / 40 + by))).summary

    flips(predicts, more, miss)


def test_what_is_told_of_a_gradient_of_zero() -> None:
    found = course([1.0, 1e-20, 0.0, 0.0])
    assert found is not None
    assert found.decades == -38.0


def test_what_is_within_reach() -> None:
    def reach(left: float) -> int:
        found = course([1.0, left])
        return found.reach if found is not None else 0

    flips(reach, 0.0098, 0.0102)


@pytest.mark.parametrize(("there", "told"), [(7, 7), (8, 8), (9, 8)])
def test_loops_that_are_told(there: int, told: int) -> None:
    rows = [linear(tied=f"w{k}") for k in range(there) for _ in range(4)]
    assert len(loops(Case(run(Chain([*rows, *tail()]))).graphs[0])) == told


# ── a state that is cut ──────────────────────────────────────────────────────────────────────────────────────────────


def cut(times: int = 3, calls: int = 12, progress: float = 0.0) -> list[str]:
    """A cell that is called so often, and gets a detached state this many times."""
    rows = [linear(value=value(shape=(64, 16)), tied="cell") for _ in range(calls)]
    seen = run(Chain([*rows, *tail()]), losses=progressed(progress))
    for op in seen.probes[0].ops[:calls]:
        op.line = 7
    for op in seen.probes[0].ops[1 : times + 1]:
        op.operands[0] = Operand(value=value(), own=True)
    seen.probes[0].ops[calls].operands.extend(Operand(op=i) for i in range(calls))  # (the loss sees every piece)
    return causes(pieces.cut_in_pieces, seen)


def test_a_state_that_is_cut_more_than_once() -> None:
    flips(lambda times: cut(int(times)), 1, 2)


def test_a_cut_state_in_a_run_that_learns_reaches_far_enough() -> None:
    flips(lambda progress: cut(progress=progress), 0.31, 0.29)


def test_calls_that_are_a_loop_over_time() -> None:
    flips(lambda calls: cut(2, int(calls)), 3, 4)
