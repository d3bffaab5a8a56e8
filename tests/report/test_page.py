"""The page as a file: self-contained, well-formed, escaped, complete, small."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import pathlib
import re
from collections.abc import Callable

import msgspec
import pytest

from gradientflow import depth
from gradientflow.errors import OutputError
from gradientflow.records import Budget, Finding, Loss, Probe, Run, Verdict, Watch
from gradientflow.report import page, write_html
from gradientflow.report.view.pack import ROWS, STEPS
from tests.app.run_records import meta, probe
from tests.report.pages import Page, held, moment_of, rendered, unpacked

Makers = dict[str, Callable[[], tuple[Verdict, Run]]]


def test_page_is_well_formed_and_tells_the_verdict_without_its_script(case: tuple[Verdict, Run]) -> None:
    verdict, run = case
    read = Page(rendered(verdict, run))
    told = " ".join(read.text.split())
    assert verdict.summary in told
    for finding in verdict.findings:
        assert finding.cause in told
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_page_loads_nothing_and_runs_only_its_own_script(case: tuple[Verdict, Run]) -> None:
    text = rendered(*case)
    read = Page(text)
    for tag, attrs in read.tags:
        for name in ("src", "href", "srcset", "poster", "data"):
            value = attrs.get(name)
            assert value in (None, "data:,"), (tag, name, value)
        assert "style" not in attrs and not any(name.startswith("on") for name in attrs)
    (policy,) = (a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none';") and "unsafe" not in policy
    style = text.partition("<style>")[2].partition("</style>")[0]
    ((_, script),) = [s for s in read.scripts if s[0].get("type") == "module"]
    for kind, body in (("script", script), ("style", style)):
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy
    assert not re.search(r"@import|url\((?!data:)", style)


def test_records_are_the_numbers_of_the_verdict(case: tuple[Verdict, Run]) -> None:
    verdict, run = case
    found = held(verdict, run)
    assert found.problems == []
    if found.view.at is None:
        assert not verdict.budget.by_op
        return
    way = found.ways[found.view.at]
    assert way is not None
    rows = way.way.budget.by_op
    assert len(rows) == len(verdict.budget.by_op) == len(way.ops) == len(way.sources)
    for told, row in zip(rows, verdict.budget.by_op, strict=True):
        for name in ("decades", "gain", "left", "norm", "line", "mark", "share"):
            value = getattr(row, name)
            if isinstance(value, float) and not math.isfinite(value):
                value = None
            assert getattr(told, name) == value
    excerpts = {(e.file, e.line) for e in found.excerpts}
    for row, source in zip(rows, way.sources, strict=True):
        if source is not None:
            assert (found.excerpts[source].file, found.excerpts[source].line) == (row.file, row.line)
    assert len(excerpts) == len(found.excerpts)  # each is held once
    assert all(e.path is None for e in found.excerpts)


def test_hostile_names_are_escaped(cases: Makers) -> None:
    verdict, run = cases["hostile"]()
    text = rendered(verdict, run)
    read = Page(text)
    assert "<img" not in text
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in read.tags)
    assert len(read.scripts) == 2
    assert "\u202e" not in text + msgspec.json.encode(unpacked(text)).decode()
    assert "\x1b" not in text
    text.encode("utf-8")
    assert "<img src=x onerror=alert(1)>" in read.text  # shown, as text
    told = read.data["view"]["verdict"]
    assert told["script"].startswith("</script><img")
    assert told["findings"][0]["evidence"]["n"] is None


def test_what_was_only_advised_says_so(cases: Makers) -> None:
    told = [r for t in held(*cases["vanishing"]()).view.told for r in t.replayed]
    assert told.count("advice, not tried yet") == 2
    assert told.count("replayed: better (tanh instead of sigmoid at train.py:13)") == 1


def test_a_run_of_100_000_steps_stays_small(cases: Makers) -> None:
    text = rendered(*cases["long"]())
    assert len(text.encode()) < 1_000_000
    Page(text)


def test_same_records_same_page(case: tuple[Verdict, Run]) -> None:
    assert rendered(*case) == rendered(*case)


def test_written_whole_or_not_at_all(cases: Makers, tmp_path: pathlib.Path) -> None:
    verdict, run = cases["healthy"]()
    path = tmp_path / "deep" / "er" / "report.html"
    write_html(moment_of(verdict, run), path)
    assert path.read_text(encoding="utf-8") == rendered(verdict, run)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError):
        write_html(moment_of(verdict, run), file / "report.html")


def test_a_package_without_its_page_says_so(cases: Makers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "STATIC", ("gradientflow.report", "nowhere"))
    with pytest.raises(OutputError, match=r"page\.(js|css) is missing"):
        rendered(*cases["healthy"]())


# ── what is left out ─────────────────────────────────────────────────────────────────────────────────────────────────


def scrubbed(probes: int) -> tuple[Verdict, Run]:
    """A run that was probed often; the verdict looks at the third."""
    run = Run(meta(4), probes=[probe(10 * k, 4, gain=0.5 + 0.4 * k / probes) for k in range(probes)])
    verdict = Verdict(
        "net.py", 10, Loss(), "vanishing", [Finding("vanishing", "depth", 0.9, None, "", {}, [])], Budget(), Watch()
    )
    verdict.budget = depth.way_at(run, verdict, run.probes[2])
    return verdict, run


def test_a_page_holds_so_many_probed_steps_spread_over_training() -> None:
    most = int(STEPS)
    whole = held(*scrubbed(most))
    assert (len(whole.ways), whole.thinned) == (most, [])
    verdict, run = scrubbed(100)
    found = held(verdict, run)
    assert len(found.ways) == len(found.view.probes) == most
    assert found.thinned == [f"This page holds {most} of 100 probed steps; gradientflow app shows all of them."]
    steps = [p.step for p in found.view.probes]
    assert steps == sorted(steps) and {0, 20, 990} <= set(steps)
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 80  # no gap is wide
    for tick, way in zip(found.view.probes, found.ways, strict=True):
        assert way is not None and (way.way.probe, way.way.step) == (tick.index, tick.step)
        assert len(way.ops) == len(way.way.budget.by_op) == 9
    assert found.view.at is not None and found.view.probes[found.view.at].step == 20


def test_the_step_of_a_finding_is_held_however_many_there_are() -> None:
    verdict, run = scrubbed(100)
    left_out = next(p.step for p in run.probes if p.step not in {t.step for t in held(verdict, run).view.probes})
    verdict.findings[0].evidence["step"] = left_out
    assert left_out in {t.step for t in held(verdict, run).view.probes}


def test_a_step_without_a_way_back_keeps_its_place_where_there_is_room() -> None:
    verdict, run = scrubbed(10)
    run.probes.insert(5, Probe(45, 0.4, "trouble: inf", None, None, [], []))
    found = held(verdict, run)
    assert found.thinned == [] and [(t.step, t.traced) for t in found.view.probes][5] == (45, False)
    way = found.ways[5]
    assert way is not None and way.way.budget.note
    verdict, run = scrubbed(100)
    run.probes.insert(5, Probe(45, 0.4, "trouble: inf", None, None, [], []))
    assert 45 not in {t.step for t in held(verdict, run).view.probes}  # those that can be looked at go first


def test_rows_are_bounded_and_the_verdicts_own_way_is_held_whatever_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, run = scrubbed(20)
    for room, count in ((ROWS, 20), (27, 3), (26, 2), (1, 1)):
        monkeypatch.setattr("gradientflow.report.view.pack.ROWS", room)
        found = held(verdict, run)
        assert len(found.ways) == count
        assert found.view.at is not None and found.view.probes[found.view.at].step == 20


def test_a_cell_of_the_map_leads_to_the_row_that_uses_its_parameter() -> None:
    way = held(*scrubbed(3)).ways[0]
    assert way is not None
    rows = way.way.budget.by_op
    for param, row in way.users.items():
        assert (rows[row].name, rows[row].module) == ("linear", f"layers.{int(param) // 2}")
    assert set(way.users) == {str(k) for k in range(8)}


# ── contrast ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


CSS = (pathlib.Path(page.__file__).parent / "static" / "page.css").read_text(encoding="utf-8")


def inks(theme: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for rule in re.findall(r":root\{([^}]*)\}", CSS) + (
        re.findall(r":root\[data-theme=\"?light\"?\]\{([^}]*)\}", CSS) if theme == "light" else []
    ):
        found |= dict(re.findall(r"--([\w-]+): ?(#[0-9a-f]{3,6})\b", rule))
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "card", "well"])
def test_text_has_contrast(ground: str, theme: str) -> None:
    found = inks(theme)
    for ink in ("text", "soft", "accent", "t-vanishing", "t-exploding", "t-good", "broken", "dead"):
        assert contrast(found[ink], found[ground]) >= 4.5, (ink, ground, theme)


def mixed(ink: str, ground: str, part: float) -> str:
    a, b = (([int(c[k : k + 2], 16) for k in (1, 3, 5)]) for c in (ink, ground))
    return "#" + "".join(f"{round(part * x + (1 - part) * y):02x}" for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_line_that_is_hit_has_contrast(theme: str) -> None:
    found = {name: ink if len(ink) == 7 else "#" + "".join(2 * c for c in ink[1:]) for name, ink in inks(theme).items()}
    assert ".ln.hit{background:color-mix(in srgb,var(--tone,var(--accent)) 20%,transparent)" in CSS.replace(", ", ",")
    for tone in ("t-vanishing", "t-exploding", "t-good", "broken", "dead"):
        assert contrast(found["text"], mixed(found[tone], found["well"], 0.2)) >= 4.5, tone


def test_contrast_check_can_fail() -> None:
    assert contrast("#777777", "#888888") < 1.5
    assert contrast("#000", "#ffffff") == pytest.approx(21)
