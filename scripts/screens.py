"""Take pictures of the app's screens, dark and light and at 400 pixels, for people to look at: `make screens`.

Needs Chromium and Playwright, as the browser tests do. The pictures are no assertion; the tests look at what the page knows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
NET = """
import torch
from torch import nn
import gradientflow as gf


def make():
    torch.manual_seed(0)
    x = torch.randn(64, 2)
    return gf.LossField(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)), nn.functional.mse_loss, (x, (x[:, :1] * x[:, 1:]).sign()))
"""
FLOWS = "gradientflow.state.drops.length && gradientflow.state.drops.every(d => d.flow && d.flow.exact)"
TOLD = "gradientflow.state.tale"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 400, "height": 800}


def main() -> None:
    """Start the app for each screen, wait for what it shows, and write its pictures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, default=ROOT / "build" / "screens", help="folder for the pictures")
    options.add_argument("--only", default="", help="some of the screens, by name, with commas between")
    asked = options.parse_args()
    out: Path = asked.out
    chosen = [s for s in SCREENS if not asked.only or s[0] in asked.only.split(",")]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the PATH (on Debian: apt-get install chromium)")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        folder = Path(scratch)
        (folder / "net.py").write_text(NET)
        script = shutil.copy(ROOT / "examples" / "deep_sigmoid.py", folder)
        watched = [sys.executable, "-m", "gradientflow", "run", "-q", "--replay", "--out", "deep_sigmoid", script]
        if any(target == "deep_sigmoid" for _, target, _ in chosen):
            subprocess.run(watched, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
        for name, target, act in chosen:
            with _app(folder, target) as link:
                _pictures(browser, link, act, out, name)
                print(out / f"{name}-*.png", flush=True)
        browser.close()


def _river(page: Any) -> None:
    _until(page, FLOWS)


def _tale(page: Any) -> None:
    _until(page, FLOWS)
    page.keyboard.press("4")
    _until(page, TOLD + " === 'edge' && " + FLOWS)


def _plane(page: Any) -> None:
    _until(page, FLOWS + " && gradientflow.state.plane && gradientflow.state.samples && !gradientflow.state.busy")


def _basins(page: Any) -> None:
    _until(page, FLOWS)
    page.keyboard.press("b")
    _until(page, "gradientflow.state.shores && !gradientflow.state.busy")


def _depth(page: Any) -> None:
    page.wait_for_selector(".heat canvas")


def _knobs(page: Any) -> None:
    page.goto(page.url.partition("#")[0] + "#knobs")
    page.wait_for_selector(".wf-row")


def _linked(page: Any) -> None:
    _knobs(page)
    page.wait_for_selector("section:has(#k-course) :text('over 60 steps')")
    page.keyboard.press("f")
    page.wait_for_selector("input[name=moment]", timeout=60_000)


SCREENS: tuple[tuple[str, str, Callable[[Any], None]], ...] = (
    ("river", "w1w2", _river),
    ("edge", "w1w2", _tale),
    ("basins", "himmelblau", _basins),
    ("plane", "net.py:make", _plane),
    ("depth", "deep_sigmoid", _depth),
    ("knobs", "w1w2", _knobs),
    ("linked", "w1w2", _linked),
)


@contextlib.contextmanager
def _app(folder: Path, target: str) -> Iterator[str]:
    command = [sys.executable, "-m", "gradientflow", "app", "--no-open", target]
    env = os.environ | {"XDG_STATE_HOME": str(folder)}
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=env) as app:
        try:
            assert app.stderr is not None
            link = next((found[0] for line in app.stderr if (found := re.search(r"http://\S+", line))), None)
            assert link is not None, "the app ended"
            yield link
        finally:
            app.terminate()


def _pictures(browser: Any, link: str, act: Callable[[Any], None], out: Path, name: str) -> None:
    with contextlib.closing(browser.new_context(viewport=WIDE, color_scheme="dark")) as context:
        page = context.new_page()
        page.on("console", lambda m: print(f"{name}: the page says {m.text}") if m.type == "error" else None)
        page.goto(link)
        act(page)
        page.wait_for_timeout(2500)  # for the water's trails
        page.screenshot(path=out / f"{name}-dark.png")
        page.keyboard.press("t")
        page.wait_for_timeout(2500)
        page.screenshot(path=out / f"{name}-light.png")
        page.set_viewport_size(NARROW)
        page.wait_for_timeout(2500)
        page.screenshot(path=out / f"{name}-400.png", full_page=True)


def _until(page: Any, what: str, seconds: float = 90.0) -> None:
    """Wait for something that the River knows. (The page's policy forbids Playwright's own way.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(f"typeof gradientflow !== 'undefined' && !!({what})"):
        if time.monotonic() > end:
            sys.exit(f"not within {seconds:g} s: {what}")
        page.wait_for_timeout(100)


if __name__ == "__main__":
    main()
