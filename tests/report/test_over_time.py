"""The gradient over time in the reports: the same numbers in a terminal, in the picture and in its tables."""

from __future__ import annotations

import base64
import math
import re

import pytest
from rich.cells import cell_len

from gradientflow.records import Finding, Loss, Place, Probe, Recurrence, Routes, Run, Verdict, Watch
from gradientflow.report.over_time import over_time
from gradientflow.report.over_time_terminal import curve, time_lines
from gradientflow.report.palette import BROKEN, DEAD, LOWEST, level
from tests.report.builders import RNN, Link, budget, chain, meta
from tests.report.pages import Page, held, rendered
from tests.report.test_terminal import plain

FILE = "/home/ada/nets/reader.py"
STEPS = 40


def routes_of(verdict: Verdict, run: Run) -> Routes:
    """Of the first step that the page holds."""
    way = held(verdict, run).ways[0]
    assert way is not None and way.routes is not None
    return way.routes


def recurrences() -> list[Recurrence]:
    falls = [10 ** (-0.2 * k) for k in range(STEPS)]
    once = [0.0] * (STEPS - 1) + [0.3]
    return [
        Recurrence([0], "lstm", STEPS, falls[::-1], memory=falls[::-1], aligned=falls, carried=falls, reach=9, step_radius=0.61,
                   lyapunov=[-0.46, -0.5], rows=32, batch=64),
        Recurrence([0], "lstm", STEPS, once, backwards=True, memory=once, aligned=once, carried=[0.0] * STEPS, step_radius=0.6,
                   rows=32, batch=64),
        Recurrence([1], "linear", 12, [math.inf, *([2.0] * 11)], carried=[1.0] * 12, reach=11, radius=1.02, sigma=1.3, batch=64),
    ]  # fmt: skip


def made(*found: Recurrence, blamed: bool = True) -> tuple[Verdict, Run]:
    links = [
        Link("mean", "reduce", 8, None, 0.125),
        Link("lstm", "recurrent", 5, "rnn", 0.5),
        Link("linear", "linear", 6, "cell", 0.9),
    ]
    shares, ops = chain(FILE, links, 1)
    ops[0].name, ops[0].line, ops[0].module, ops[0].file = "lstm", 5, "rnn", FILE
    ops[1].name, ops[1].line, ops[1].module, ops[1].file = "linear", 6, "cell", FILE
    probes = [
        Probe(1, 0.0, "first", 0.9, 2, ops, [], recurrent=list(found)),
        Probe(2, 0.1, "schedule", 0.9, 2, ops, []),
    ]
    evidence = {"step": 1, "layer": 0, "direction": "forwards"}
    finding = Finding("vanishing", "recurrence", 0.8, Place(FILE, 5, "rnn", "lstm"), "It vanishes.", evidence, [])
    verdict = Verdict(
        FILE, 2, Loss(1.0, 1.0), "vanishing", [finding] if blamed else [], budget(shares), Watch(2, 0.1), "It vanishes."
    )
    return verdict, Run(meta(FILE, RNN, 2), [], [], probes)


def lines(width: int = 100, *found: Recurrence) -> list[str]:
    verdict, run = made(*(found or recurrences()))
    return [line.plain for line in time_lines(verdict, run, width, plain=True)]


def test_a_terminal_has_one_row_for_each_layer_and_direction() -> None:
    text = lines()
    rows = [line for line in text if "reader.py" in line]
    assert len(rows) == 3
    assert rows[0].rstrip().endswith("▼")
    assert [r.split()[-5:-1] for r in rows[:1]] == [["9", "0.61", "J", "−0.46"]]
    assert "−7.8" in rows[0]
    assert "→" in rows[0]
    assert "←" in rows[1]
    assert "○" in rows[1]
    assert rows[1].count("█") == 1
    assert "all" in rows[2]
    assert "✕" in rows[2]
    assert re.search(r"[▁▂▃▄▅▆▇█]{20,}", rows[0])
    assert "t = first" in text[2]
    assert "last" in text[2]  # the rows are of different lengths


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_terminal_keeps_to_its_width(width: int) -> None:
    assert max(map(cell_len, lines(width))) <= width


def test_the_terminal_report_has_it_and_none_where_nothing_recurs() -> None:
    assert "the gradient over time" in plain(*made(*recurrences()))
    assert "the gradient over time" not in plain(*made())
    assert routes_of(*made()).times == []
    assert over_time(made()[0], None) is None


def test_a_curve_keeps_the_largest_of_what_a_cell_stands_for() -> None:
    assert curve([-9.0, 0.0, -9.0, -9.0], -9.0, 2) == "█▁"
    assert curve([-9.0] * 4, -9.0, 2) == "▁▁"


def test_the_probe_of_the_finding_is_shown_else_the_last() -> None:
    verdict, run = made(*recurrences())
    run.probes[1].recurrent = recurrences()[2:]
    shown = over_time(verdict, run)
    assert shown is not None
    assert (shown.step, len(shown.rows)) == (1, 3)
    verdict.findings = []
    shown = over_time(verdict, run)
    assert shown is not None
    assert (shown.step, len(shown.rows)) == (2, 1)


def test_only_the_layer_that_is_blamed_is_marked() -> None:
    shown = over_time(*made(*recurrences()))
    assert shown is not None
    assert [r.mark for r in shown.rows] == ["vanishing", None, None]
    shown = over_time(*made(*recurrences(), blamed=False))
    assert shown is not None
    assert [r.mark for r in shown.rows] == [None] * 3


def test_the_page_has_a_picture_with_time_to_the_right_and_its_numbers_as_a_table() -> None:
    told = routes_of(*made(*recurrences()))
    assert [len(m.names) for m in told.maps] == [2, 1]  # one for each number of time steps
    assert (told.times[0].name.split()[0], told.times[0].carried) == ("reader.py:5", "−7.8")
    assert len(told.times[0].values) == STEPS and told.times[0].values[0] == pytest.approx(1.58e-8, rel=1e-2)
    assert None in told.times[2].values or None in told.times[1].values  # what is not finite is no number
    codes = [base64.b64decode(m.codes) for m in told.maps]
    assert sum(c.count(DEAD) for c in codes) > 0 and sum(c.count(BROKEN) for c in codes) > 0
    assert told.times[0].rows == "32 of 64"
    assert level(-8.0, -8.0, 0.0) == LOWEST


def test_the_whole_page_takes_it_in_and_hostile_names_are_escaped() -> None:
    verdict, run = made(*recurrences())
    run.probes[0].ops[0].module = "<script>alert(1)</script>\x1b[31m"
    text = rendered(verdict, run)
    assert "<script>alert" not in text
    Page(text)
    assert "\x1b" not in "".join(line.plain for line in time_lines(verdict, run, 100, plain=True))


def test_time_steps_that_were_left_out_are_counted_on_both_axes() -> None:
    one = recurrences()[0]
    one.skipped = 100
    assert re.search(r"t = 101 +140", lines(100, one)[2])
    told = routes_of(*made(one))
    assert (told.maps[0].steps[0], told.maps[0].steps[-1], told.times[0].first) == (101, 140, 101)


def test_many_recurrences_are_cut_short_and_counted() -> None:
    assert "14 more in the record" in "\n".join(lines(100, *recurrences() * 10))
