"""The page in a real browser, opened from file://: Depth's screen on records that lie in the page, by keyboard, by mouse, on paper."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gradientflow.records import Run, Verdict
from gradientflow.report import write_html
from tests.report.pages import moment_of
from tests.report.test_isometry import VIEW, run_of, verdict

pytestmark = pytest.mark.browser
Makers = dict[str, Callable[[], tuple[Verdict, Run]]]
PAPER = 718  # pixels between the margins of A4


@pytest.fixture
def open_page(chromium: Any, tmp_path: pathlib.Path, cases: Makers) -> Iterator[Callable[..., Any]]:
    """Open a case; at the end there must have been no error, and no request but for the file itself."""
    troubles: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_it(name: str, made: tuple[Verdict, Run] | None = None, **options: Any) -> Any:
        path = tmp_path / f"{name}.html"
        write_html(moment_of(*(made or cases[name]())), path, "runs/one")
        context = chromium.new_context(
            **{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on("dialog", lambda d: (troubles.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector(".about-run")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == len(contexts)


def until(page: Any, what: str, of: object = None) -> None:
    """Wait until something is true. (The page's policy forbids Playwright's own way.)"""
    end = time.monotonic() + 20
    told = what if "=>" in what else f"() => {what}"
    while not page.evaluate(told, of):
        assert time.monotonic() < end, what
        page.wait_for_timeout(40)


def width(page: Any) -> int:
    found: int = page.evaluate("document.documentElement.scrollWidth")
    return found


@pytest.mark.parametrize(
    "name", ["replayed", "not-finite", "branched", "several", "not-measured", "hostile", "long", "jacobians"]
)
def test_opens_without_error_and_does_not_spill_sideways(open_page: Callable[..., Any], name: str) -> None:
    page = open_page(name, (verdict(), run_of(VIEW)) if name == "jacobians" else None)
    if name == "jacobians":
        drawn = "[...document.querySelectorAll('.spectra td.sv .range')].every(i => i.parentElement.clientWidth > 150 && i.clientWidth)"
        assert page.evaluate(drawn) and page.locator(".spectra td.sv .range").count() == 3
    if name not in ("not-measured", "jacobians"):
        page.wait_for_selector(".lanes .u-over")
    for size in (1200, 400):
        page.set_viewport_size({"width": size, "height": 800})
        until(page, "w => document.querySelector('.depth').clientWidth <= w", size)
        assert width(page) <= size, (name, size)
    for key in "123gt?":
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    assert not page.is_visible(".keys")
    assert page.locator("h1").count() == 1 and page.locator("h1[role]").count() == 0


def test_keys_select_rows_and_the_panel_follows(open_page: Callable[..., Any]) -> None:
    page = open_page("vanishing")
    page.wait_for_selector(".chosen")
    assert page.inner_text(".chosen h2").startswith("▼ sigmoid")
    assert "torch.sigmoid(h)" in page.inner_text(".chosen .hit")
    page.focus(".wf-rows")
    page.keyboard.press("Home")
    until(page, "document.querySelector('.chosen h2').textContent.startsWith('cross_entropy')")
    assert "at step 0" in page.inner_text(".chosen h2")
    page.keyboard.press("g")
    until(page, "document.querySelector('.chosen h2').textContent.includes('sigmoid')")
    row = page.locator(".wf-row.sel")
    box, shown = row.bounding_box(), page.locator(".wf-rows").bounding_box()
    assert shown["y"] <= box["y"] <= shown["y"] + shown["height"]  # what is selected is in sight
    page.keyboard.press("2")
    assert page.get_attribute(".orders button:nth-child(2)", "aria-pressed") == "true"
    page.click(".proven, .scrub button:nth-child(2)")
    page.wait_for_selector(".chosen")
    assert "#probe=" in page.evaluate("location.hash")


def test_a_cell_of_the_map_is_told_and_leads_to_its_step(open_page: Callable[..., Any], cases: Makers) -> None:
    verdict, run = cases["vanishing"]()
    page = open_page("vanishing", (verdict, run))
    canvas = page.wait_for_selector(".course .heat canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + 3)
    page.wait_for_selector(".cell-told")
    told = page.inner_text(".cell-told")
    norms = run.norms[-1]
    last = max(k for k, p in enumerate(norms.params) if len(run.meta.params[p].shape) > 1)
    assert run.meta.params[norms.params[last]].name in told and f"step {norms.step}" in told
    number = float(told.split("about ")[1].split()[0].replace("−", "-"))
    assert number == pytest.approx(norms.grad[last], rel=0.06)  # 252 levels over the decades of the map
    page.click(".lane-name button.copy")  # the biases
    until(page, "document.querySelector('.lane-name button.copy').textContent.includes('weights')")


def test_each_optimizer_has_its_own_way_back(open_page: Callable[..., Any]) -> None:
    page = open_page("several")
    names = page.locator(".owns b").all_inner_texts()
    assert names == ["Adam of D", "Adam of G"]
    assert page.get_attribute(".owns button >> nth=1", "aria-pressed") == "true"
    page.click(".owns button >> nth=0")
    page.wait_for_selector(".owns button:nth-child(1)[aria-pressed=true]")
    assert "at step 0" in page.inner_text("#d-way") and "Adam of D" in page.inner_text("#d-way")


def test_theme_is_the_systems_until_it_is_changed(open_page: Callable[..., Any]) -> None:
    page = open_page("healthy", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.keyboard.press("t")
    dark = page.evaluate(ground)
    assert (light, dark) == ("rgb(246, 245, 241)", "rgb(11, 16, 32)")
    page.click(".bar button")
    assert page.evaluate(ground) == light


def test_reads_without_javascript(open_page: Callable[..., Any], cases: Makers) -> None:
    verdict, _ = cases["exploding"]()
    page = open_page("exploding", java_script_enabled=False)
    told = " ".join(page.inner_text("body").split())
    assert verdict.summary in told and "×1.46" in told and "the gradient's way back" in told


def test_on_paper_it_is_white_and_whole(open_page: Callable[..., Any]) -> None:
    """A4: the hero, every line of the way back with its gain, and the certificates; nothing lies beyond the margin."""
    page = open_page("proven", color_scheme="dark")
    page.wait_for_selector(".lanes .u-over")
    few = page.locator(".wf-row").count()
    page.emulate_media(media="print")
    until(page, "document.documentElement.dataset.theme === 'light'")
    page.set_viewport_size({"width": PAPER, "height": 1000})
    assert page.locator(".wf-row").count() >= few
    beyond = """w => [...document.querySelectorAll('.hero *, .way *, .proof *, .stages *')].filter(e => e.checkVisibility())
        .filter(e => { const b = e.getBoundingClientRect(); return b.width && (b.right > w || b.left < 0); }).map(e => e.outerHTML.slice(0, 90))"""
    assert page.evaluate(beyond, PAPER) == []
    assert page.evaluate(beyond, 300) != []  # control
    assert width(page) <= PAPER
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    hidden = [".bar", ".orders", ".acts", ".scrub button"]
    assert [name for name in hidden if page.locator(f"{name} >> visible=true").count()] == []
    rows = page.evaluate(
        "[...document.querySelectorAll('.wf-row')].map(r => [r.getBoundingClientRect().height, r.querySelector('.num').textContent])"
    )
    assert all(tall > 0 and gain for tall, gain in rows)
    assert page.evaluate(
        "(b => b.scrollHeight <= b.clientHeight + 1)(document.querySelector('.wf-rows'))"
    )  # none is cut
    assert page.locator(".proof td >> visible=true").count() == 2 * 4
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="screen")
    until(page, "document.documentElement.dataset.theme === 'dark'")


def test_what_could_not_be_made_is_told_and_the_rest_is_there(
    open_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("gradientflow.report.view.pack.curves", fails)
    page = open_page("vanishing")
    assert "the curves could not be drawn: ZeroDivisionError" in page.inner_text(".shell > .problem")
    page.wait_for_selector(".wf-row")
    page.wait_for_selector(".chosen")
