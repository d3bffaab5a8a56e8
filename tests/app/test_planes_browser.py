"""River on a plane in a real browser: by mouse and by keyboard, what leaks, what rides, and the link that opens it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import App, Screen

pytestmark = pytest.mark.browser
Show = Callable[..., Screen]
NAME = '<img src=x onerror="alert(1)">'
BOWL = f"""
import torch
import gradientflow as gf

def make():
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    hessian = q @ torch.diag(torch.arange(0.1, 2.05, 0.1, dtype=torch.float64)) @ q.T
    start = q[:, 18] + 0.5 * q[:, 19]  # the flow stays in the plane of these two
    return gf.Potential(lambda w: 0.5 * w @ hessian @ w, start=start, name='{NAME}')
"""
NET = """
import torch
import gradientflow as gf

def make():
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    return gf.LossField(model, torch.nn.functional.cross_entropy, (x, (x[:, 0] * x[:, 1] > 0).long()))
"""
READY = "s.plane && s.samples && s.samples.n === 65 && s.drops.length && s.drops[0].flow && s.drops[0].flow.exact"


def leak(screen: Screen, which: str) -> Any:
    return screen.state(f"Math.{which}(...s.samples.leak.filter(x => x === x))")


def test_a_journey_on_a_plane(apps: Callable[..., App], screens: Show, tmp_path: Path) -> None:
    app = apps("bowl.py:make", {"bowl.py": BOWL})
    screen = screens(app)
    page = screen.page
    screen.until(READY)
    assert screen.page.locator(".dock img").count() == 0 and "<img" in page.inner_text("select")
    assert screen.state("s.plane.text") == "pca~10" and leak(screen, "max") < 1e-5  # an eigenplane: nothing leaks
    assert screen.state("Math.max(...s.drops[0].flow.off)") < 1e-5
    page.mouse.move(*screen.at(0.1, 0.1))
    assert "0.00" in page.inner_text(".here") and "true" in page.inner_text(".here")

    page.mouse.click(*screen.at(-0.2, 0.3))  # a drop, by mouse
    screen.until("s.drops.length === 2 && s.drops[1].flow && s.drops[1].flow.exact")
    page.mouse.move(*screen.at(-0.2, 0.3))
    page.mouse.down()
    for k in range(200):  # its shadow answers while it is dragged
        page.mouse.move(*screen.at(-0.2 - 0.001 * k, 0.3))
        if screen.state("gradientflow.answers.drag") >= 2:
            break
    page.mouse.move(*screen.at(-0.3, 0.3))
    page.mouse.up()
    screen.until("s.drops[1].flow.exact && Math.abs(s.drops[1].flow.track.points[0][0] + 0.3) < 0.02")
    assert screen.state("gradientflow.answers.drag") >= 2 and screen.state("s.drops[1].foot").startswith("pca~10@-0.")
    page.get_by_label("plane", exact=True).select_option("random")
    screen.until(
        "s.plane.text.startsWith('random~10(pca~10@') && s.samples && s.samples.n === 65 && s.drops.every(d => d.flow)"
    )
    assert leak(screen, "min") > 0.1  # and in a random plane much does
    assert screen.state("s.drops[0].off") > 0.1  # the drops are where they were, beside this plane
    told = page.inner_text(".slice")
    assert "20 dimensions" in told and "hardly the flow" in told

    page.locator(".stage").focus()  # by keyboard: the cursor tells the leak, Enter drops, the arrows move it
    page.keyboard.press("ArrowUp")
    assert "° out of the plane" in page.inner_text(".here")
    page.keyboard.press("Enter")
    screen.until("s.drops.length === 3 && s.drops[2].flow && s.drops[2].flow.exact && s.drops[2].rivals.gd")
    assert screen.state("Math.max(...s.drops[2].flow.off)") > screen.state("0.05 * (s.view[3] - s.view[2])")
    assert page.locator("path.flow.far").count() >= 1 and "dashed" in page.inner_text(".says")
    before = screen.state("s.drops[2].at[0]")
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("m")
    screen.until(f"s.drops[2].at[0] > {before} && s.drops[2].flow.exact")

    page.keyboard.press("r")  # the plane rides with the drop: it is in the plane where the clock is
    for _ in range(12):
        page.keyboard.press("[")
    near = "f.off[f.track.clock.findIndex(t => t >= s.clock)] < 0.3 * Math.max(...f.off)"
    screen.until(f"s.riding && s.samples.n === 17 && s.clock < 2 && (f => {near})(s.drops[2].flow)")
    page.keyboard.press("r")
    screen.until("!s.riding && s.samples.n === 65 && s.drops[2].flow.exact")

    page.keyboard.press("s")
    python = page.inner_text("dialog pre")
    assert "gf.plane(" in python and "plane.lift(" in python
    with page.expect_download() as saved:
        page.get_by_role("button", name="SVG").click()
    body = Path(saved.value.path()).read_bytes()
    assert b"stroke-dasharray" in body and b"data:image/png" in body
    with page.expect_download(timeout=60_000) as filmed:  # the journey as a film, in the browser's own encoder
        page.get_by_role("button", name="MP4").click()
        page.wait_for_selector("dialog progress")
    film = Path(filmed.value.path()).read_bytes()
    assert film[4:8] == b"ftyp" and b"avc1" in film and b"moof" in film and len(film) > 20_000
    assert filmed.value.suggested_filename.endswith(".mp4")
    page.get_by_role("button", name="MP4").click()  # closing the window ends the next one
    page.wait_for_selector("dialog progress")
    page.keyboard.press("Escape")
    page.wait_for_timeout(400)
    kept = screen.state("[s.plane.text, s.drops.map(d => d.foot), s.drops.map(d => d.at)]")
    again = screens(app, page.url.split("/", 3)[3], like=screen)  # the link, in another tab
    again.until("s.drops.length === 3 && s.drops.every(d => d.flow) && s.samples")
    text, feet, places = again.state("[s.plane.text, s.drops.map(d => d.foot), s.drops.map(d => d.at)]")
    assert (text, feet) == (kept[0], kept[1]) and places == [pytest.approx(p, abs=1e-4) for p in kept[2]]
    again.page.get_by_label("field", exact=True).select_option("w1w2")  # and back to a field that is drawn whole
    again.until("s.opened.name === 'w1w2' && !s.plane && s.samples.n === 256 && !s.samples.leak && s.order")


def test_a_plane_that_cannot_be_is_told_and_another_one_helps(apps: Callable[..., App], screens: Show) -> None:
    """And on a phone, in the light theme, a network's way back at times of its path."""
    app = apps("net.py:make", {"net.py": NET})
    screen = screens(app, viewport={"width": 400, "height": 800}, color_scheme="light")
    page = screen.page
    screen.until("s.plane && s.samples && s.drops[0].flow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.evaluate("location.hash = '#river?f=net.py:make&plane=nowhere~1'")
    screen.until("s.problem.includes('no place')")
    screen.troubles.clear()  # the browser tells of the refusal
    page.get_by_label("plane", exact=True).select_option("gradient")
    screen.until("s.plane.text.startsWith('gradient') && s.problem === '' && s.samples && s.samples.n === 65")

    page.get_by_role("button", name="the gradient through the layers here").click()
    text = "document.querySelector('.ways').innerText"
    screen.until(f"document.querySelector('.ways .plot') && {text}.includes('at t = 10')")
    end = page.locator(".ways .wf-rows").inner_text()
    assert "decades from the loss" in page.inner_text(".ways") and end.count("linear") == 3
    assert page.locator(".wf-bar .was").count() == 6  # the start, pale
    page.locator(".ways .wf-row:has(b:text-is('linear')) >> nth=-1").click()  # the first layer
    assert page.input_value(".ways select") == "0"
    share = page.inner_text("#r-share b")
    page.keyboard.press("2")  # an order of the lines, and not a story
    assert page.get_by_role("button", name="2 biggest first").get_attribute("aria-pressed") == "true"
    page.keyboard.press("1")
    page.get_by_label("flow time", exact=False).first.fill("0")
    screen.until(f"{text}.includes('at t = 0') && !document.querySelector('.wf-bar .was')")
    assert page.locator(".ways .wf-rows").inner_text() != end and page.inner_text("#r-share b") != share
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.keyboard.press("Escape")
    screen.until("!s.ways && !document.querySelector('.ways')")
