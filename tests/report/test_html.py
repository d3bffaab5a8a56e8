"""The page as text: self-contained, well-formed, escaped, complete, small."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import re
import struct
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from gradientflow.records import ABSENT, Meta, Param, ParamNorms, Run, Step, Verdict
from gradientflow.report import palette, write_html
from gradientflow.report.heat import Heat
from gradientflow.report.html import render_html

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "polygon"}
Makers = dict[str, Callable[[], tuple[Verdict, Run]]]


class Page(HTMLParser):
    """Reads a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif self.open and self.open[-1] != "style":
            self.text += data

    @property
    def data(self) -> Any:
        text = next(body for attrs, body in self.scripts if attrs.get("type") == "application/json")
        return json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))


def test_page_is_well_formed_and_tells_the_verdict(case: tuple[Verdict, Run]) -> None:
    verdict, run = case
    page = Page(render_html(verdict, run))
    assert verdict.summary in page.text
    assert any(a.get("aria-live") for tag, a in page.tags if tag == "h1")
    for finding in verdict.findings:
        assert finding.summary in page.text
        assert finding.cause in page.text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_page_loads_nothing(case: tuple[Verdict, Run]) -> None:
    text = render_html(*case)
    assert not re.search(r"https?://|//cdn|@import|url\((?!data:)", text)
    for tag, attrs in Page(text).tags:
        for name in ("src", "href", "srcset", "poster", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)


def test_every_op_row_is_there_in_order_with_its_gain(case: tuple[Verdict, Run]) -> None:
    verdict, run = case
    text = render_html(verdict, run)
    assert re.findall(r'<tr id="row-\d+" class="[^"]*" data-i="(\d+)"', text) == [
        str(i) for i in range(len(verdict.budget.by_op))
    ]


def test_island_has_the_numbers_of_the_verdict(case: tuple[Verdict, Run]) -> None:
    verdict, run = case
    data = Page(render_html(verdict, run)).data
    rows = data["verdict"]["budget"]["by_op"]
    assert len(rows) == len(verdict.budget.by_op) == len(data["ways"][0]["rows"]) == len(data["ways"][0]["facts"])
    for told, row in zip(rows, verdict.budget.by_op, strict=True):
        for name in ("decades", "gain", "left", "norm", "line", "mark", "share"):
            value = getattr(row, name)
            if isinstance(value, float) and not math.isfinite(value):
                value = None
            assert told[name] == value


def test_hostile_names_are_escaped(cases: Makers) -> None:
    verdict, run = cases["hostile"]()
    text = render_html(verdict, run)
    page = Page(text)
    assert "<img" not in text
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.tags)
    assert len(page.scripts) == 3
    assert "\u202e" not in text
    assert "\x1b" not in text
    text.encode("utf-8")
    assert "<img src=x onerror=alert(1)>" in page.text  # shown, as text
    told = page.data["verdict"]
    assert told["script"].startswith("</script><img")
    assert told["findings"][0]["evidence"]["n"] is None


def test_words_only_is_visible_where_nothing_was_replayed(cases: Makers) -> None:
    verdict, run = cases["vanishing"]()
    text = Page(render_html(verdict, run)).text
    open_remedies = sum(r.replayed is None for f in verdict.findings for r in f.remedies)
    assert open_remedies == 2
    assert text.count("advice, not tried yet") == open_remedies
    assert text.count("replayed: better (tanh instead of sigmoid at train.py:13)") == 1


def test_a_run_of_100_000_steps_stays_small(cases: Makers) -> None:
    text = render_html(*cases["long"]())
    assert len(text.encode()) < 3_000_000
    Page(text)


def test_without_a_run_there_is_still_a_page(case: tuple[Verdict, Run]) -> None:
    verdict, _ = case
    assert verdict.summary in Page(render_html(verdict, None)).text


def test_same_records_same_page(case: tuple[Verdict, Run]) -> None:
    assert render_html(*case) == render_html(*case)


def test_written_whole_or_not_at_all(cases: Makers, tmp_path: pathlib.Path) -> None:
    verdict, run = cases["healthy"]()
    path = tmp_path / "deep" / "er" / "report.html"
    write_html(verdict, run, path)
    assert path.read_text(encoding="utf-8") == render_html(verdict, run)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError):
        write_html(verdict, run, file / "report.html")


# ── heat map ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_png_decodes_to_the_codes() -> None:
    codes = [bytes([3, 255, 0]), bytes([1, 2, 128])]
    data = palette.png(codes)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    at = data.index(b"IDAT")
    size = struct.unpack(">I", data[at - 4 : at])[0]
    assert zlib.decompress(data[at + 4 : at + 4 + size]) == b"\0" + codes[0] + b"\0" + codes[1]


def test_colour_map_grows_lighter_all_the_way() -> None:
    light = []
    for k in range(256):
        r, g, b = bytes.fromhex(palette.batlow(k / 255)[1:])
        light.append(0.2126 * r + 0.7152 * g + 0.0722 * b)
    assert all(a < b + 0.6 for a, b in itertools.pairwise(light))
    assert light[-1] - light[0] > 150


# ── contrast ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


CSS = (pathlib.Path(palette.__file__).parent / "page.css").read_text(encoding="utf-8")
INKS = {name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", CSS)}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["bg", "panel", "sunk"])
@pytest.mark.parametrize(
    "ink", ["text", "dim", "vanishing", "exploding", "not-finite", "dead", "healthy", "not-measured"]
)
def test_text_has_contrast(ink: str, ground: str, theme: int) -> None:
    assert contrast(INKS[ink][theme], INKS[ground][theme]) >= 4.5


def test_white_on_the_strip_has_contrast() -> None:
    inks = re.findall(r"\.ink\d \{ background-color: (#\w{6})", CSS)
    assert len(inks) == 6
    assert min(contrast("#ffffff", ink) for ink in inks) >= 4.5


def test_contrast_check_can_fail() -> None:
    assert contrast("#777777", "#888888") < 1.5
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_what_the_headline_says_is_not_said_again(cases: Makers) -> None:
    verdict, run = cases["vanishing"]()
    verdict.findings[0].summary = verdict.summary
    text = render_html(verdict, run).split('<script type="application/json"')[0]
    assert text.count(verdict.summary) == 1
    verdict.findings[0].summary = "something else"  # control
    text = render_html(verdict, run).split('<script type="application/json"')[0]
    assert text.count("something else") == 1


def test_a_sentence_among_the_numbers_is_set_as_one(cases: Makers) -> None:
    verdict, run = cases["vanishing"]()
    assert 'class="long"' not in render_html(verdict, run)
    verdict.findings[0].evidence["the_script_was_warned"] = "UserWarning at train.py:20: " + "look here, " * 6
    assert '<td class="long" colspan="2">UserWarning at train.py:20' in render_html(verdict, run)
