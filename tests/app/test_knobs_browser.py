"""The small network with knobs in a real browser: turned, mended and compared, by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradientflow.app.runs import Runs
from gradientflow.depth.small.knobs import PRESETS
from tests.app.run_records import Served, served
from tests.app.test_runs_browser import CONTRAST, look, until  # noqa: F401

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(Runs(beside=tmp_path_factory.mktemp("none"))) as running:
        yield running


def symptom(page: Any) -> str:
    return str(page.inner_text(".verdict-told .badge"))


def test_four_sick_networks_are_mended_by_keyboard(app: Served, look: Any) -> None:  # noqa: F811
    page = look(app, "#depth")  # no run here: Depth has the knobs
    until(page, lambda: "vanishing" in page.inner_text("body"))
    assert "gradientflow run train.py" in page.inner_text(".which")
    for key, preset in zip("qwer", PRESETS, strict=True):
        page.keyboard.press(key)
        until(page, lambda: "healthy" not in symptom(page) and "mend it" in page.inner_text(".verdict-told"))
        assert page.get_attribute(f".presets button:has-text('{preset.title}')", "aria-pressed") == "true"
        until(page, lambda: "over" in page.inner_text("section:has(#k-course) .fine"))  # trained
        page.keyboard.press("m")
        until(page, lambda: "healthy" in symptom(page))
        until(page, lambda: page.inner_text(".verdict-told").count("over") == 2)  # loss a → b, before and now
        if preset.title != "√ at zero":
            assert page.locator(".wf-bar .was").count() > 5  # what it was, pale
    page.keyboard.press("z")
    until(page, lambda: "not-finite" in symptom(page))
    assert page.locator(".wf-bar .was").count() == 0


def test_each_turn_is_answered_by_mouse(app: Served, look: Any) -> None:  # noqa: F811
    page = look(
        app, "#knobs?depth=6&activation=tanh&width=16&depth=999999&nothing=1", viewport={"width": 400, "height": 900}
    )
    until(page, lambda: page.locator(".wf-row").count())
    assert page.inner_text(".board output >> nth=0") == "64"  # a link that asks for too much gets the most there is
    page.fill("input[name=depth]", "5")
    until(page, lambda: page.locator(".law circle").count() == 5)
    page.select_option(".board select >> nth=0", "relu")
    page.click("text=biggest first")
    until(page, lambda: "relu" in page.inner_text(".wf-rows"))
    page.click("text=recurrence")
    until(page, lambda: "time step" in page.inner_text(".law >> nth=0") and "time=40" in page.url)
    page.click("text=keep, to compare")
    plain = page.inner_text(".law .fine >> nth=0")
    page.check("input[type=checkbox]")
    until(page, lambda: page.inner_text(".law .fine >> nth=0") != plain)  # answered
    until(page, lambda: "skip=true" in page.url and page.locator(".law .curve.before path").count() == 2)
    page.click(".orders button >> nth=0")
    page.click(".wf-row >> nth=0")
    until(page, lambda: "cross_entropy" in page.inner_text(".chosen h2"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    spent = page.evaluate("performance.getEntriesByName('knobs-answer').length")
    assert spent >= 4
    again = look(app, page.url.removeprefix(f"{app.origin}/"))  # the link holds the knobs
    until(again, lambda: again.locator(".wf-row").count())
    assert again.is_checked("input[type=checkbox]") and "recurrence" in again.inner_text(".choice [aria-pressed=true]")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read_and_axe_finds_nothing_serious(app: Served, look: Any, scheme: str) -> None:  # noqa: F811
    page = look(app, "#knobs?depth=4", color_scheme=scheme)
    until(page, lambda: page.locator(".wf-row").count() and page.locator(".chosen").count())
    assert page.evaluate(CONTRAST) == []
    source = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
    if scheme == "light" or not source.exists():
        return
    page.evaluate(source.read_text(encoding="utf-8"))
    serious = "axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes.map(n => n.html)]))"
    assert page.evaluate(serious) == []
