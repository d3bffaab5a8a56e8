"""The limits that all rules share, of trend, case and graph, each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import trend
from gradientflow.depth.causes.case import Case, rules_out
from gradientflow.depth.causes.graph import Graph
from gradientflow.records import ValueStat
from tests.depth.causes.by_hand import Chain, Row, flips, linear, progressed, run, tail, value


def test_losses_that_make_a_trend() -> None:
    flips(lambda length: trend.trends(run(losses=[1.0] * int(length)))[0].measured, 2, 3)


def test_a_loss_that_stands_still() -> None:
    flips(lambda progress: trend.trends(run(losses=progressed(progress)))[0].stuck, 0.125, 0.115)


def test_a_loss_that_ends_no_better_than_an_answer_that_ignores_the_data() -> None:
    def ignorant(share: float) -> bool:
        return Case(run(Chain([linear(), *tail()]), losses=[share * 1.3863] * 20)).ignorant

    flips(ignorant, 0.89, 0.91)


def graph(rows: list[Row]) -> Graph:
    return Case(run(Chain(rows))).graphs[0]


def test_calls_of_one_weight_that_make_a_recurrence() -> None:
    flips(lambda calls: graph([*(linear(tied="w") for _ in range(int(calls))), *tail()]).recurrences(), 3, 4)


def test_calls_of_one_line_that_make_a_loop_where_there_are_no_layers() -> None:
    def loops(calls: float) -> list[list[int]]:
        probe = Chain([*(Row("mul", "elementwise", value=value()) for _ in range(int(calls))), tail()[-1]]).probe()
        for op in probe.ops[:-1]:
            op.line = 3
        return Graph(probe, run().meta).repeats()

    flips(loops, 7, 8)


@pytest.mark.parametrize(("breaks", "chained"), [(4, True), (5, False)])
def test_calls_that_depend_on_the_one_before(breaks: int, chained: bool) -> None:
    """Of forty-one calls four may begin anew."""
    rows = [*(linear(tied="w") for _ in range(41)), *tail()]
    probe = Chain(rows).probe()
    start = probe.ops[0].operands[0]
    for at in range(breaks):
        probe.ops[4 + 8 * at].operands[0] = start
    for op in probe.ops[:41]:  # (all of them reach the loss)
        probe.ops[41].operands.append(type(start)(op=op.index))
    seen = Graph(probe, run(Chain(rows)).meta)
    assert bool(seen.recurrences()) is chained


def masked(low: float, *, between: float = 0.0, mask: bool = False, inf: int = 0) -> int:
    """How many data enter: one, half of whose entries are 0, and half this low (some of them not quite)."""
    mean = 0.5 * low + between
    told = ValueStat([8, 8], "float32", mean, abs(low) / 2, low, 0.0, 0.5, 0, inf)
    seen = Case(run(Chain([linear(), *tail()], data=told)))
    seen.graphs[0].probe.ops[0].operands[0].mask = mask
    return len(seen.inputs(seen.graphs[0]))


def test_a_mask_that_is_added_to_scores_is_no_data() -> None:
    flips(lambda low: masked(low) == 0, -999.0, -1001.0)
    assert masked(-1e4) == 0
    assert masked(-1e4, between=100.0) == 1  # other numbers lie between
    assert masked(-1.0) == 1
    assert masked(-1.0, mask=True) == 0  # it was given as a mask


def test_a_mask_of_minus_infinity_is_no_data() -> None:
    told = ValueStat([8, 8], "float32", 0.0, 0.0, 0.0, 0.0, 0.5, 0, 32)
    assert rules_out(told)
    assert not rules_out(ValueStat([8, 8], "float32", 0.5, 0.5, 0.0, 1.0, 0.5, 0, 32))
