"""River in a real browser: the true shader, the journeys by mouse and by keyboard, and what may go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradientflow import river
from tests.app.conftest import App, Screen

pytestmark = pytest.mark.browser
Show = Callable[..., Screen]
STEPS, DT = 80, 0.01
READY = "s.samples && s.samples.n === 256 && s.order && s.drops.length && s.drops[0].flow"
HOSTILE = """
import gradientflow as gf

def make():
    return gf.Potential(lambda w: 0.5 * (w * w).sum(), start=[1.0, 0.5], name='<img src=x onerror="alert(1)">{{7*7}}')
"""


@pytest.fixture(scope="module")
def app(apps: Callable[..., App]) -> App:
    return apps()


def test_the_shaders_particles_follow_the_field(app: App, screens: Show) -> None:
    screen = screens(app)
    screen.until(READY)
    field = river.zoo.named("w1w2").field
    box = screen.state("s.frame.box")
    xs, ys = torch.linspace(box[0] * 0.8, box[1] * 0.8, 8), torch.linspace(box[2] * 0.8, box[3] * 0.8, 8)
    starts = torch.cartesian_prod(xs, ys).double()
    solved = river.flow(field, STEPS * DT, starts=starts, rtol=1e-9, atol=1e-12, certify=False).final

    def error() -> float:
        run = f"gradientflow.trial({starts.tolist()}, {STEPS}, {DT})"
        there = torch.tensor(screen.page.evaluate(run), dtype=torch.float64)
        return float((there - solved).norm(dim=1).max())

    assert error() < 1e-4
    flip = "const f = s.samples; gradientflow.water.liquid.take({...f, u: f.u.map(x => -x), v: f.v.map(x => -x)})"
    screen.page.evaluate(f"(() => {{ const s = gradientflow.state; {flip} }})()")
    assert error() > 0.1  # the same particles on the flipped field: they run away from the answer


def test_a_journey_by_mouse(app: App, screens: Show) -> None:
    screen = screens(app)
    page = screen.page
    screen.until(READY)
    assert screen.state("s.tale") == "answers"
    page.mouse.click(*screen.at(-1.0, 1.2))
    screen.until("s.drops.length === 2 && s.drops[1].flow && s.drops[1].rivals.gd")
    assert screen.state("s.drops[1].at") == pytest.approx([-1.0, 1.2], abs=0.02)

    page.mouse.move(*screen.at(-1.0, 1.2))
    page.mouse.down()
    for k in range(400):  # answers come while the button is down
        page.mouse.move(*screen.at(-1.0 - 0.002 * k, 1.2 - 0.003 * k))
        if screen.state("gradientflow.answers.drag") >= 8:
            break
    assert screen.state("gradientflow.answers.drag") >= 8
    page.mouse.move(*screen.at(-1.78, 0.03))
    page.mouse.up()
    there = screen.until("s.drops[1].flow.exact && s.drops[1].flow.track.start")
    assert there == pytest.approx([-1.78, 0.03], abs=0.02)
    end = screen.state("s.drops[1].flow.track.final")
    kept = there[0] ** 2 - there[1] ** 2
    assert end[0] * end[1] == pytest.approx(1, abs=1e-3) and end[0] ** 2 - end[1] ** 2 == pytest.approx(kept, abs=0.03)

    slider = page.get_by_label("learning rate of gradient descent")
    slider.evaluate("e => { e.value = 0.11; e.dispatchEvent(new Event('input', {bubbles: true})) }")
    screen.until("s.drops[1].rivals.gd.track.label.includes('1.29')")
    assert "diverges" in page.inner_text(".says") and "2/η" in page.inner_text(".says")

    page.mouse.move(*screen.at(-2.0, -1.6))  # a line of drops
    page.mouse.down()
    for k in range(12):
        page.mouse.move(*screen.at(-2.0 + 0.3 * k, -1.6))
    page.mouse.up()
    assert screen.until("s.lines.length && s.lines[0].trails.length") >= 5

    page.get_by_role("button", name="share").click()
    python = page.inner_text("dialog pre")
    assert 'gf.zoo.named("w1w2")' in python and "lr=1.29" in python
    for kind, begins in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=kind).click()
        body = Path(saved.value.path()).read_bytes()
        assert saved.value.suggested_filename == f"river-w1w2.{kind.lower()}"
        assert body.startswith(begins) and len(body) > 20_000
    assert b"data:image/png" in body and body.count(b"<path") > 6 and b"stroke=" in body
    page.keyboard.press("Escape")
    page.wait_for_timeout(400)
    told = screen.state("[s.drops.map(d => d.at), s.lr.gd, s.t]")
    again = screens(app, page.url.split("/", 3)[3], like=screen)  # the link, in another tab
    again.until("s.drops.length === 2 && s.drops.every(d => d.flow && d.rivals.gd)")
    drops, lr, t = again.state("[s.drops.map(d => d.at), s.lr.gd, s.t]")
    assert (lr, t) == (told[1], told[2]) and drops == [pytest.approx(d, rel=1e-6) for d in told[0]]


def test_a_journey_by_keyboard_and_the_storys_own_numbers(app: App, screens: Show) -> None:
    screen = screens(app, viewport={"width": 400, "height": 800}, color_scheme="light")
    page = screen.page
    screen.until(READY)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert screen.state("s.paused") and screen.state("s.clock === s.t")  # nothing moves unasked
    page.locator(".stage").focus()
    page.keyboard.press("4")
    screen.until("s.tale === 'edge' && s.drops[0].apart.gd")
    flow, descent, edge, why = screen.state(
        "(d => [d.flow.track, d.rivals.gd.track, d.rivals.gd.track.threshold, d.apart.gd.why])(s.drops[0])"
    )
    known = [x for x in flow["sharpness"] if x is not None]
    steps = [x for x in descent["sharpness"] if x is not None]
    assert edge == pytest.approx(2 / 0.9)
    assert known[0] < edge < known[-1]  # the flow's sharpness grows past the line, and the flow rests above it
    assert steps[-1] < edge and descent["loss"][-1] < 1e-3  # descent slid along the valley to below it
    assert "crosses 2/η" in why and "crosses 2/η" in page.inner_text(".says")
    a, b = flow["start"]
    assert known[-1] == pytest.approx(math.sqrt((a * a - b * b) ** 2 + 4), rel=1e-2)  # in closed form

    page.keyboard.press("ArrowUp")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    cursor = screen.state("s.cursor")
    page.keyboard.press("l")  # a line of drops from the drop to the cursor
    assert screen.until("s.lines.length && s.lines[0].trails.length") >= 5
    page.keyboard.press("Enter")
    screen.until("s.drops.length === 2 && s.drops[1].flow")
    assert screen.state("s.drops[1].at") == pytest.approx(cursor)
    page.keyboard.press("m")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("m")
    assert screen.state("s.drops[1].at[0]") < cursor[0]
    page.keyboard.press("[")
    assert 0 < screen.state("s.clock") < screen.state("s.t")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    kept = screen.state("s.drops.map(d => d.at)")
    page.get_by_role("link", name="Depth").click()
    page.wait_for_selector("h1:has-text('Depth')")
    page.get_by_role("link", name="River").click()
    assert screen.until("s.drops.length && s.drops.map(d => d.at)") == [pytest.approx(at, rel=1e-5) for at in kept]
    page.locator(".stage").focus()
    page.keyboard.press("n")
    page.keyboard.press("x")
    assert screen.state("s.drops.length") == 1
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_hostile_names_are_text_and_a_killed_app_is_found_again(apps: Callable[..., App], screens: Show) -> None:
    app = apps("mine.py:make", {"mine.py": HOSTILE})
    screen = screens(app)
    screen.until("s.opened && s.drops[0].flow")
    assert screen.state("s.opened.name").startswith("<img")
    assert screen.page.locator(".dock img").count() == 0
    assert "<img" in screen.page.inner_text("select")
    app.kill()
    screen.page.mouse.click(*screen.at(0.5, 1.0))
    screen.until("s.problem.includes('Start it again')")
    screen.troubles.clear()  # the browser says of each request that nobody answers
    app.start()
    screen.until("s.problem === '' && s.drops.length === 2 && s.drops[1].flow")
    screen.troubles.clear()


SAMPLED = "performance.getEntriesByName('river:sampled').length"


def _until(screen: Screen, found: Callable[[], Any]) -> None:
    for _ in range(1200):
        if found():
            return
        screen.page.wait_for_timeout(50)
    raise AssertionError("not within a minute")


def test_a_link_to_no_field_is_no_dead_end(app: App, screens: Show) -> None:
    screen = screens(app)
    screen.until("s.opened && s.order")
    late: list[Any] = []
    screen.page.route("**/api/water", lambda route: route.continue_() if late else late.append(route))
    screen.page.evaluate("gradientflow.moveTo([-1, 1, -1, 1])")
    _until(screen, lambda: late)
    screen.page.evaluate("location.hash = '#river?f=nowhere.py:make'")
    screen.until("s.problem.includes('started for w1w2')")
    screen.troubles.clear()  # the browser tells of the refusal
    before = screen.page.evaluate(SAMPLED)
    late[0].continue_()  # water that was asked for before takes no sentence from the screen
    _until(screen, lambda: screen.page.evaluate(SAMPLED) > before)
    assert "started for w1w2" in screen.state("s.problem")
    screen.page.locator(".dock select").select_option("double-well")
    screen.until("s.opened.name === 'double-well' && s.problem === ''")
    screen.page.locator(".stage").focus()
    screen.page.keyboard.press("b")  # basins: told by form and letter too, not by colour alone
    screen.until("s.shores && s.shores.n === 65 && s.shores.places.length === 2")
    forms = screen.page.locator(".over .shores pattern path").evaluate_all("ps => ps.map(p => p.getAttribute('d'))")
    assert len(set(forms)) == 2 and screen.page.locator(".over .shores text").all_text_contents() == ["A", "B"]
    assert "% end near (−1, 0)" in screen.page.inner_text(".legend")
    screen.page.keyboard.press("b")
    screen.until("!s.basins && !s.shores")


def test_without_webgl_there_is_a_picture_that_stands_still(app: App, screens: Show) -> None:
    shut = "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = function (kind, ...more) { return kind === 'webgl2' ? null : get.call(this, kind, ...more) }"
    screen = screens(app, init=shut)
    screen.until(READY)
    shades = """(() => { const c = document.querySelector('canvas.water'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const seen = new Set(); for (let k = 0; k < d.length; k += 404) seen.add(d[k] + ',' + d[k + 1] + ',' + d[k + 2]); return seen.size })()"""
    found: Any = 0
    for _ in range(50):
        found = screen.page.evaluate(shades)
        if found > 40:
            break
        screen.page.wait_for_timeout(100)
    assert found > 40
    assert "no WebGL2" in screen.page.inner_text(".legend")


def test_axe_finds_nothing_serious(app: App, screens: Show) -> None:
    source = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        pytest.skip("axe-core is not installed (make check installs it, where there is Node)")
    screen = screens(app)
    screen.until(READY)
    run = "axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes.map(n => n.html)]))"

    def found() -> Any:
        screen.page.evaluate(source.read_text(encoding="utf-8"))
        return screen.page.evaluate(run)

    assert found() == []
    screen.page.locator(".stage").focus()
    screen.page.keyboard.press("t")  # the light theme
    screen.page.keyboard.press("s")
    screen.page.wait_for_selector("dialog[open]")
    assert found() == []
    screen.page.keyboard.press("Escape")
    screen.page.evaluate("document.querySelector('.dock select').removeAttribute('aria-label')")
    assert [name for name, _ in found()] == ["select-name"]
