"""The map of gradients as codes, and its colours."""

from __future__ import annotations

import itertools
import math

from gradientflow.records import ABSENT, Meta, Param, ParamNorms, Run, Step
from gradientflow.report import palette
from gradientflow.report.heat import Heat


def tiny(grads: list[list[float]], nonfinite: int = 0) -> Run:
    names = [Param(i, f"p{i}", [2], "float32", True, True) for i in range(len(grads[0]))]
    meta = Meta("s.py", [], "/", "", "", "", params=names)
    ids = list(range(len(grads[0])))
    norms = [ParamNorms(k, 0, ids, g, [1.0] * len(ids), [1.0] * len(ids)) for k, g in enumerate(grads)]
    steps = [Step(k, 0.0, 0, 0.1, 1.0, 1.0, 1.0, 1.0, nonfinite=nonfinite) for k in range(len(grads))]
    return Run(meta, steps, norms)


def test_cells_tell_broken_dead_missing_and_level_apart() -> None:
    heat = Heat(tiny([[1.0, 0.0, math.inf, ABSENT, 1e-3]]))
    column = [row[0] for row in reversed(heat.codes)]  # loss side first, so the last parameter is on top
    assert column == [255, palette.DEAD, palette.BROKEN, palette.NOTHING, palette.LOWEST]
    assert heat.names == ["p4", "p3", "p2", "p1", "p0"]


def test_a_gradient_that_is_not_finite_is_broken_and_one_that_never_came_is_not() -> None:
    heat = Heat(tiny([[1.0, ABSENT], [math.nan, ABSENT], [math.inf, 0.0]]))
    assert list(heat.codes[1]) == [255, palette.BROKEN, palette.BROKEN]
    assert list(heat.codes[0]) == [palette.NOTHING, palette.NOTHING, palette.DEAD]


def test_thinned_steps_stand_on_until_the_next() -> None:
    run = tiny([[1.0, 0.1]] * 10)
    run.norms = [run.norms[0], run.norms[7]]
    heat = Heat(run)
    assert heat.steps == [0] * 7 + [7] * 3
    assert len(heat.codes[0]) == 10
    assert set(heat.codes[1]) == {255}


def test_a_bad_step_is_not_lost_when_columns_stand_for_many() -> None:
    run = tiny([[1.0, math.inf if k == 1234 else 0.5] for k in range(4000)])
    heat = Heat(run)
    assert len(heat.codes[0]) == 400
    assert heat.codes[0].count(palette.BROKEN) == 1
    assert heat.steps[123] == 1234


def test_norms_that_underflow_or_overflow_stay_on_the_map() -> None:
    heat = Heat(tiny([[1e300, 1e-300, 5e-324]]))
    assert all(palette.LOWEST <= row[0] <= 255 for row in heat.codes)


def test_colour_map_grows_lighter_all_the_way() -> None:
    light = []
    for k in range(256):
        r, g, b = palette.BATLOW[3 * k : 3 * k + 3]
        light.append(0.2126 * r + 0.7152 * g + 0.0722 * b)
    assert all(a < b + 0.6 for a, b in itertools.pairwise(light))
    assert light[-1] - light[0] > 150


def test_no_more_cells_than_were_asked_for() -> None:
    run = tiny([[1.0, 0.1, 0.01]] * 300)
    assert len(Heat(run).codes[0]) == 300
    assert len(Heat(run, cells=90).codes[0]) == 30
