"""The page in a real browser, opened from file://, by keyboard and by mouse."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gradientflow.records import Run, Verdict
from gradientflow.report import write_html

pytestmark = pytest.mark.browser
Makers = dict[str, Callable[[], tuple[Verdict, Run]]]


@pytest.fixture
def open_page(chromium: Any, tmp_path: pathlib.Path, cases: Makers) -> Iterator[Callable[..., Any]]:
    """Open a case; at the end there must have been no error, and no request but for the file itself."""
    troubles: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_it(name: str, **options: Any) -> Any:
        path = tmp_path / f"{name}.html"
        write_html(*cases[name](), path)
        context = chromium.new_context(
            **{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on("dialog", lambda d: (troubles.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
        page.goto(path.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == len(contexts)


def picked(page: Any) -> str:
    name: str = page.evaluate("document.querySelector('tr.sel').dataset.i")
    return name


@pytest.mark.parametrize(
    "name",
    [
        "vanishing",
        "replayed",
        "exploding",
        "not-finite",
        "healthy",
        "branched",
        "several",
        "not-measured",
        "hostile",
        "long",
    ],
)
@pytest.mark.parametrize("width", [1200, 360])
def test_opens_without_error_and_does_not_spill_sideways(open_page: Callable[..., Any], name: str, width: int) -> None:
    page = open_page(name, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for key in "123gG?":
        page.keyboard.press(key)
    page.keyboard.press("Escape")


def test_keys_select_rows_and_the_panel_follows(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")
    assert picked(page) == "14"
    assert page.inner_text("#pick-name") == "▼ sigmoid"
    before = page.inner_html("#pick")
    page.keyboard.press("ArrowDown")
    assert picked(page) == "15"
    assert page.inner_text("#pick-place").endswith("ls.5")
    assert page.evaluate("document.activeElement.dataset.i") == "15"
    page.keyboard.press("k")
    assert picked(page) == "14"
    assert page.inner_text("#pick-facts dd >> nth=0") == "×0.25"
    assert "torch.sigmoid(h)" in page.inner_text("#pick-src .hit")
    # what the script draws is what was drawn without it
    assert page.locator("#pick dt").count() == before.count("<dt>")
    page.keyboard.press("Home")
    assert picked(page) == "0"
    page.keyboard.press("End")
    assert picked(page) == "25"


def test_g_goes_round_the_culprits(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")
    seen = []
    for _ in range(4):
        page.keyboard.press("g")
        seen.append(picked(page))
    assert seen == ["16", "18", "14", "16"]
    page.keyboard.press("G")
    assert picked(page) == "14"


def test_each_way_back_is_gone_through_by_itself(open_page: Callable[..., Any]) -> None:
    page = open_page("several")
    assert page.locator("table.wf").count() == 2
    assert page.locator(".whose").all_inner_texts()[0].startswith("Adam of G")  # where the finding is
    assert picked(page) == "5"
    assert page.inner_text("#pick-place").endswith("G.1")
    page.click("#wf1 tr[data-i='2'] .name")
    assert page.locator("tr.sel").count() == 1
    assert page.inner_text("#pick-place") == "gan.py:6 · D.2"
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#pick-place") == "gan.py:6 · D.1"
    assert page.evaluate("document.activeElement.closest('table').id") == "wf1"
    page.keyboard.press("End")
    assert picked(page) == "4"
    page.keyboard.press("g")
    assert page.evaluate("document.querySelector('tr.sel').id") == "row-5"
    page.keyboard.press("3")
    assert [page.locator(f"{table} .kind-head").count() for table in ("#wf", "#wf1")] == [3, 4]
    page.keyboard.press("1")
    page.click("a.go")
    assert page.evaluate("document.activeElement.id") == "row-5"
    assert page.locator("table.wf tr[tabindex='0']").count() == 2  # each is on the tab key's way


def test_mouse_selects_a_row(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")
    page.click("tr[data-i='7'] .name")
    assert picked(page) == "7"
    assert "gain ×0.56" in page.inner_text("#says")


def test_a_finding_leads_to_its_row(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")
    page.keyboard.press("Home")
    page.click("a.go >> nth=0")
    assert picked(page) == "14"
    assert page.evaluate("document.activeElement.id") == "row-14"


def test_orders(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")

    def order() -> list[int]:
        return page.evaluate("[...document.querySelectorAll('#wf tr[data-i]')].map(r => +r.dataset.i)")

    page.keyboard.press("2")
    big = order()
    assert big[0] == 0
    assert set(big[1:4]) == {14, 16, 18}
    assert sorted(big) == list(range(26))
    page.keyboard.press("3")
    heads = page.locator(".kind-head").all_inner_texts()
    assert heads[0].startswith("linear  −3.1 decades, 13 ops") or heads[0].startswith("linear −3.1 decades, 13 ops")
    assert sorted(order()) == list(range(26))
    page.keyboard.press("1")
    assert order() == list(range(26))
    assert page.get_attribute("[data-order=way]", "aria-pressed") == "true"


def test_folds_open_and_keys_skip_what_is_hidden(open_page: Callable[..., Any]) -> None:
    page = open_page("long")
    shown = page.locator("#wf tr[data-i]:visible")
    few = shown.count()
    assert few < 64
    page.click("tr.fold button")
    assert shown.count() == 1201
    page.click("tr.fold button")
    assert shown.count() == few
    page.click("tr[data-i='2']")
    page.keyboard.press("ArrowDown")
    assert picked(page) == "1199"


def test_theme_toggles_and_text_follows(open_page: Callable[..., Any]) -> None:
    page = open_page("healthy", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    assert (dark, light) == ("rgb(10, 15, 30)", "rgb(245, 244, 239)")
    page.keyboard.press("t")
    assert page.evaluate(ground) == dark


def test_follows_the_system_theme(open_page: Callable[..., Any]) -> None:
    page = open_page("healthy", color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 244, 239)"


def test_help_opens_and_closes(open_page: Callable[..., Any]) -> None:
    page = open_page("healthy")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")


def test_heat_map_tells_the_number_under_pointer_and_keys(open_page: Callable[..., Any]) -> None:
    page = open_page("exploding")
    heat = page.locator("#heat")
    heat.scroll_into_view_if_needed()
    box = heat.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 3)
    assert page.inner_text("#heat-says") == "step 54 · ls.1.bias · ✕ not finite"
    heat.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#heat-says").startswith("step 0 · ls.1.weight · about 10^")
    row = picked(page)
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#heat-says").startswith("step 1 · ls.1.weight")
    assert picked(page) == row


def test_heat_map_number_is_the_norm_of_the_record(open_page: Callable[..., Any], cases: Makers) -> None:
    _, run = cases["vanishing"]()
    page = open_page("vanishing")
    page.locator("#heat").focus()
    page.keyboard.press("End")
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    text = page.inner_text("#heat-says")
    norms = run.norms[-1]
    index = len(norms.params) - 6
    assert run.meta.params[index].name in text
    told = float(text.rsplit(" ", 1)[1].replace("−", "-"))
    assert told == pytest.approx(norms.grad[index], rel=0.04)  # 252 levels over 6 decades


def test_log_scale_of_the_loss(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")
    assert page.is_visible(".curve.linear")
    page.keyboard.press("l")
    assert page.is_visible(".curve.log")
    assert not page.is_visible(".curve.linear")
    assert page.get_attribute("#log", "aria-pressed") == "true"


def test_reads_without_javascript(open_page: Callable[..., Any], cases: Makers) -> None:
    verdict, _ = cases["exploding"]()
    page = open_page("exploding", java_script_enabled=False)
    assert page.inner_text("h1") == verdict.summary
    assert page.locator("#wf tr[data-i]:visible").count() == len(verdict.budget.by_op)
    assert page.locator(".js-only:visible").count() == 0
    assert page.is_visible("#heat")
    assert "×1.46" in page.inner_text("#pick")
    assert page.is_visible(".finding .src")


def test_light_runs_once_and_only_where_motion_is_welcome(open_page: Callable[..., Any]) -> None:
    running = "document.getAnimations().length"
    assert open_page("vanishing").evaluate(running) == 0
    page = open_page("vanishing", reduced_motion="no-preference")
    assert page.evaluate(running) > 0
    page.wait_for_timeout(2300)
    assert page.evaluate("document.getAnimations().filter(a => a.playState === 'running').length") == 0


def test_prints_every_row_on_white(open_page: Callable[..., Any]) -> None:
    page = open_page("exploding", color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("#wf tr[data-i]:visible").count() == 183
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(23, 32, 58)"
    assert not page.is_visible("#theme")


def test_no_text_is_cut_or_overlaps_in_the_waterfall(open_page: Callable[..., Any]) -> None:
    for name in ("vanishing", "exploding", "branched", "not-finite"):
        page = open_page(name)
        cut = page.evaluate(
            """[...document.querySelectorAll('#wf tr')].filter(tr => tr.offsetParent).flatMap(tr => [...tr.cells])
               .filter(td => !td.matches('.bar, .axis, .edge *, .edge') && td.scrollWidth > td.clientWidth + 1)
               .map(td => td.textContent)"""
        )
        assert cut == []
