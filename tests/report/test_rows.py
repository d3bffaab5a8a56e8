"""Geometry and folding of the waterfall, and the spelling of numbers and evidence."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from rich.cells import cell_len

from gradientflow.records import Share
from gradientflow.report import bars, rows, tell, words


def share(name: str, decades: float | None, left: float | None = None, **kw: object) -> Share:
    gain = None if decades is None else 10**decades
    return Share(name=name, kind="linear", decades=decades, gain=gain, left=left, **kw)  # type: ignore[arg-type]


def chain(names: list[str], **marks: str) -> list[Share]:
    left, out = 0.0, []
    for i, name in enumerate(names):
        left -= 0.1
        out.append(share(name, -0.1, left, mark=marks.get(f"r{i}"), op=i))
    return out


def test_folds_cover_every_row_once_and_in_order() -> None:
    rng = random.Random(3)
    for n in (0, 1, 5, 26, 27, 60, 500):
        for period in (1, 2, 3, 7):
            names = [f"op{i % period}" if rng.random() < 0.97 else f"odd{i}" for i in range(n)]
            made = rows.folds(chain(names), 26)
            covered = [i for fold in made for i in range(fold.start, fold.stop)]
            assert covered == list(range(n))
            assert len(made) <= 30


def test_a_marked_row_is_never_hidden() -> None:
    marks = {f"r{i}": "vanishing" for i in (0, 17, 18, 250, 499)}
    made = rows.folds(chain(["a", "b"] * 250, **marks), 26)
    single = {fold.start for fold in made if not fold.folded}
    assert {0, 17, 18, 250, 499} <= single
    assert len(made) < 40


def test_where_too_many_rows_are_marked_their_fold_carries_the_mark() -> None:
    names = ["tanh"] * 200
    all_rows = chain(names, **{f"r{i}": "exploding" for i in range(200)})
    made = rows.folds(all_rows, 26)
    assert len(made) <= 26
    assert all(rows.merged(all_rows, fold).mark == "exploding" for fold in made)


def test_a_fold_multiplies_gains_and_adds_decades() -> None:
    all_rows = chain(["a"] * 40)
    fold = next(f for f in rows.folds(all_rows, 26) if f.folded)
    row = rows.merged(all_rows, fold)
    n = fold.stop - fold.start
    assert row.decades == pytest.approx(-0.1 * n)
    assert row.gain == pytest.approx(10 ** (-0.1 * n))
    assert row.name == f"… {n} more like this, ×0.79 each"


def test_spans_join_and_the_scale_holds_them() -> None:
    all_rows = chain(["a"] * 30)
    spans = rows.spans(all_rows)
    for upper, lower in itertools.pairwise(spans):
        assert upper.after == pytest.approx(lower.before)
    axis = rows.scale(all_rows)
    assert all(0 < axis(s.after) <= axis(s.before) <= 1 for s in spans)


def test_nothing_passes_a_dead_row_and_rows_beyond_it_have_no_span() -> None:
    dead = Share(name="relu", kind="activation", decades=None, gain=0.0, mark="dead")
    spans = rows.spans([share("a", -1.0), dead, share("b", None)])
    assert spans[1] == rows.Span(-1.0, None)
    assert spans[2] == rows.Span(None, None)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("width", [1, 7, 40])
def test_a_bar_is_exactly_as_wide_as_asked_and_longer_means_more(plain: bool, width: int) -> None:
    all_rows = chain(["a"] * 50)
    axis, spans = rows.scale(all_rows), rows.spans(all_rows)
    drawn = [bars.bar(r, s, axis, width, plain=plain) for r, s in zip(all_rows, spans, strict=True)]
    assert {cell_len(b.plain) for b in drawn} == {width}
    if plain:
        solid = [sum(bars.EIGHTHS.index(c) for c in b.plain if c in bars.EIGHTHS[1:]) for b in drawn]
        assert solid == sorted(solid, reverse=True)
        assert solid[0] >= solid[-1] + 2 * width


def test_growth_and_loss_have_different_shades_in_plain_text() -> None:
    axis = rows.Scale(-3, 1)
    lost = bars.bar(share("a", -1.0, -1.0), rows.Span(0.0, -1.0), axis, 40, plain=True).plain
    grown = bars.bar(share("a", 1.0, 0.0), rows.Span(-1.0, 0.0), axis, 40, plain=True).plain
    assert "░" in lost
    assert "▒" not in lost
    assert "▒" in grown
    assert "░" not in grown


def test_sparkline_marks_what_is_not_finite() -> None:
    assert bars.sparkline([1.0, 2.0, math.nan, math.inf], 40) == "▁█✕✕"
    assert bars.sparkline([1.0] * 5, 40) == "▄▄▄▄▄"
    assert bars.sparkline([], 40) == ""
    assert bars.sparkline([1e-9, 1e-6, 1e-3, 1.0], 40) == "▁▃▆█"  # logarithmic
    assert len(bars.sparkline([float(i) for i in range(1000)], 40)) == 40


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (None, "—"), (0.25, "×0.25"), (1.0, "×1.00"), (12.34, "×12.3"), (123.4, "×123"), (1.9e-7, "×1.9e−7"),
        (3e8, "×3e8"), (0.0, "×0"), (math.inf, "×inf"), (math.nan, "×nan"), (0.0099, "×0.0099"),
    ],
)  # fmt: skip
def test_gain(x: float | None, text: str) -> None:
    assert words.gain(x) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (None, "—"), (0, "0"), (200, "200"), (100000, "100,000"), (-3, "−3"), (0.0312, "0.0312"), (-1.806, "−1.81"),
        (2.1e-9, "2.1e−9"), (1234.5, "1234"), (math.nan, "nan"), (-math.inf, "−inf"), (0.5, "0.5"), (1e300, "1e300"),
    ],
)  # fmt: skip
def test_number(x: float | None, text: str) -> None:
    assert words.number(x) == text


def test_evidence_finds_its_thresholds() -> None:
    told = tell.facts(
        {"gain": 0.25, "gain_threshold": 0.5, "limit_size": 3, "size": 7, "body": {"value": -5.9, "threshold": -2.0},
         "per_step": {"a": 1, "b": 2}, "ok": True, "list": list(range(9))}
    )  # fmt: skip
    assert told == [
        ("gain", "0.25", "0.5"),
        ("size", "7", "3"),
        ("body", "−5.9", "−2"),
        ("per step · a", "1", ""),
        ("per step · b", "2", ""),
        ("ok", "yes", ""),
        ("list", "0, 1, 2, 3, 4, 5, … (9)", ""),
    ]


@pytest.mark.parametrize("text", ["a", "encoder.layers.11.self_attn.out_proj", "漢字漢字漢字漢字", "x" * 500])
def test_elide_keeps_both_ends_and_the_width(text: str) -> None:
    for width in range(1, 40):
        short = words.elide(text, width)
        assert cell_len(short) <= width
        if short != text and width > 4:
            assert "…" in short
            assert short[0] == text[0]
            assert short[-1] == text[-1]


def test_clean_takes_out_what_steers() -> None:
    assert words.clean("a\x1b[2Jb\u202ec\td\udcff") == "a\ufffd[2Jb\ufffdc    d?"


def test_excerpt_marks_the_line_and_takes_off_indentation() -> None:
    text = "class A:\n    def f(self):\n        x = 1\n        return x\n"
    assert tell.excerpt(text, 3, 1) == [(2, "def f(self):", False), (3, "    x = 1", True), (4, "    return x", False)]
    assert tell.excerpt(text, 99) == []
    assert tell.excerpt(None, 1) == []


def test_spans_count_from_the_networks_output() -> None:
    made = [share("loss", -0.8, body=False), share("mul", 0.3, body=False), share("a", -1.0), share("b", -0.5)]
    flat = [x for s in rows.spans(made) for x in s]
    assert flat == pytest.approx([0.5, -0.3, -0.3, 0.0, 0.0, -1.0, -1.0, -1.5])


def test_the_last_row_tells_what_arrives_without_a_gain() -> None:
    last = Share(name="linear", kind="linear", decades=None, gain=None, left=-1.0)
    assert rows.spans([share("a", -1.0), last])[1] == rows.Span(-1.0, -1.0)


def test_a_number_that_rounds_to_a_thousandth_is_told_as_one() -> None:
    assert words.number(0.00099999) == words.number(0.001) == "0.001"
    assert words.gain(0.00099999) == words.gain(0.001) == "×0.001"
    assert words.number(0.00099) == "9.9e−4"  # control
    assert words.number(99999.9999) == words.number(100000.0) == "1e5"
    assert words.number(99900.0) == "99900"
