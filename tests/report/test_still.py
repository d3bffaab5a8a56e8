"""Still pictures: well-formed, readable on white and on black, and drawn where the numbers are."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as Xml

import pytest

from gradientflow.report.still import HEIGHT, INKS, LEFT, POINTS, WIDTH, Arrow, Curve, arrows, bars, chart
from tests.report.test_page import contrast

HOSTILE = "</svg><img src=x onerror=alert(1)>\u202e"


def read(picture: str) -> Xml.Element:
    """The picture, which must be well-formed, and load and run nothing."""
    found = Xml.fromstring(picture)
    for part in found.iter():
        assert part.tag.rpartition("}")[2] in (
            "figure",
            "figcaption",
            "div",
            "span",
            "svg",
            "path",
            "text",
            "rect",
            "circle",
        )
        assert not [
            name for name in part.attrib if name.startswith("on") or "href" in name or "url(" in part.attrib[name]
        ]
    return found


def lines(picture: str) -> list[list[tuple[float, float]]]:
    """The points of each coloured line."""
    found = re.findall(r'<path d="([^"]*)" fill="none" stroke="#', picture)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", d)] for d in found]


def test_a_curve_goes_from_the_numbers_at_its_ends() -> None:
    picture = chart([Curve("loss", [0, 1, 2], [4.0, 2.0, 3.0])], "loss falls", "t", "loss")
    assert read(picture).find("figcaption") is not None and "loss falls" in picture and 'role="img"' in picture
    (line,) = lines(picture)
    assert line[0][0] == LEFT and line[0][1] < line[2][1] < line[1][1]  # (downwards is larger)
    assert {"0", "2", "4"} <= set(re.findall(r">([^<]+)</text>", picture))


def test_decades_are_even_where_a_curve_spans_many_and_only_there() -> None:
    (log,) = lines(chart([Curve("a", [0, 1, 2], [1.0, 1e-3, 1e-6])], "", "", ""))
    assert log[1][1] - log[0][1] == pytest.approx(log[2][1] - log[1][1], abs=0.2)
    (plain,) = lines(chart([Curve("a", [0, 1, 2], [10.0, 5.5, 1.0])], "", "", ""))
    assert plain[1][1] - plain[0][1] == pytest.approx(plain[2][1] - plain[1][1], abs=0.2)


def test_what_is_not_finite_is_a_gap_and_nothing_at_all_is_a_sentence() -> None:
    picture = chart([Curve("a", range(5), [1.0, 2.0, math.nan, 2.0, math.inf])], "with a gap", "", "")
    assert [len(line) for line in lines(picture)] == [3] and picture.count("M") >= 3
    assert "<svg" not in chart([Curve("a", [0.0], [math.nan])], "not finite", "", "") and "not finite" in chart(
        [], "not finite", "", ""
    )
    assert "<svg" not in bars([("w", math.nan)], "none") and "<svg" not in arrows([], [], "none")
    (flat,) = lines(chart([Curve("a", [0, 1], [2.0, 2.0])], "", "", ""))
    assert all(0 <= y <= HEIGHT for _, y in flat)


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    (line,) = lines(chart([Curve("a", range(10_000), [1.0 / (k + 1) for k in range(10_000)])], "", "", ""))
    assert len(line) <= POINTS + 1 and line[-1][0] == pytest.approx(WIDTH - 8)


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    picture = bars([("a", 2.0), ("b", 1.0), (HOSTILE, 0.0)], "sizes")
    long, short, none = (float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', picture))
    assert long == pytest.approx(2 * short) and none == 0
    read(picture)


def test_arrows_lead_where_the_field_flows() -> None:
    picture = arrows([Arrow(0, 0, 1, 0), Arrow(1, 1, 0, 1), Arrow(0, 1, 0, 0)], [(0.5, 0.5)], "a field")
    first, second = re.findall(r'd="M-?[\d.]+ -?[\d.]+l(-?[\d.]+) (-?[\d.]+)m', picture)
    assert float(first[0]) > 0 and float(first[1]) == 0  # to the right
    assert float(second[0]) == 0 and float(second[1]) < 0  # and up
    assert read(picture).find(".//{*}circle") is not None


def test_names_are_text() -> None:
    for picture in (
        chart([Curve(HOSTILE, [0, 1], [1, 2])] * 2, HOSTILE, HOSTILE, HOSTILE),
        bars([(HOSTILE, 1.0)], HOSTILE),
    ):
        read(picture)
        assert "<img" not in picture and "\u202e" not in picture


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
def test_inks_are_seen_on_white_and_on_black(ground: str) -> None:
    assert min(contrast(ink, ground) for ink in INKS) >= 3
