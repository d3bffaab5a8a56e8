"""The app in a process of its own, and Chromium to look at it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interrupts import heeds_ctrl_c

SLOW = "GPU stall due to ReadPixels"  # software GL says so when a picture is taken, and nothing is wrong


class App:
    """`gradientflow app`, running.

    Args:
        folder: where it runs and keeps its key.
        target: as on the command line.
        port: to listen on; None: a free one.
        python: the interpreter of another environment; None: this one.
    """

    def __init__(
        self, folder: Path, target: str | None = None, port: int | None = None, python: Path | None = None
    ) -> None:
        self.folder, self.target, self.python = folder, target, str(python or sys.executable)
        self.port = port or _free()
        self.cookies: list[Any] = []
        self.start()

    def start(self) -> None:
        """Start it, again where it was killed."""
        command = [self.python, "-m", "gradientflow", "app", "--no-open", "--port", str(self.port)]
        env = os.environ | {"XDG_STATE_HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command + ([self.target] if self.target else []), stderr=subprocess.PIPE, text=True, env=env, cwd=self.folder,
            preexec_fn=heeds_ctrl_c,
        )  # fmt: skip
        assert self.process.stderr is not None
        said = ""
        while not (found := re.search(r"http://\S+", said)):
            line = self.process.stderr.readline()
            assert line, f"the app ended: {said}"
            said += line
        self.link = found[0]

    def kill(self) -> None:
        """End it as nobody would."""
        self.process.kill()
        self.process.wait(10)
        if self.process.stderr is not None:
            self.process.stderr.close()


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., App]]:
    """Starts apps; all are ended."""
    running: list[App] = []

    def start(target: str | None = None, files: dict[str, str] | None = None) -> App:
        folder = tmp_path_factory.mktemp("app")
        for name, text in (files or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        running.append(App(folder, target))
        return running[-1]

    yield start
    for app in running:
        app.kill()


class Screen:
    """A page of the app, and what is known of it. `gradientflow` is the River as the page holds it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on(
            "console",
            lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") and SLOW not in m.text else None,
        )
        page.on("pageerror", lambda e: self.troubles.append(str(e)))
        page.on("dialog", lambda d: (self.troubles.append(f"dialog: {d.message}"), d.dismiss()))

    def state(self, what: str) -> Any:
        """Evaluate something of the River's state, `s`."""
        return self.page.evaluate(f"(() => {{ const s = gradientflow.state; return {what} }})()")

    def until(self, what: str, seconds: float = 60.0) -> Any:
        """Wait until something of the state is true. (The page's policy forbids Playwright's own way.)"""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := self.state(what):
                    return found
            except Exception as problem:  # the page is being loaded
                if "gradientflow" not in str(problem) and "context" not in str(problem):
                    raise
            self.page.wait_for_timeout(50)
        raise AssertionError(f"not within {seconds:g} s: {what}; the page says {self.page.inner_text('body')[:400]!r}")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the field is on the page."""
        box = self.page.locator(".stage").bounding_box()
        x0, x1, y0, y1 = self.state("s.frame.box")
        return box["x"] + (x - x0) / (x1 - x0) * box["width"], box["y"] + (y1 - y) / (y1 - y0) * box["height"]


@pytest.fixture
def screens(chromium: Any) -> Iterator[Callable[..., Screen]]:
    """Open pages; at the end no page has complained."""
    contexts, opened = [], []

    def show(app: App, path: str = "", *, init: str = "", like: Screen | None = None, **options: Any) -> Screen:
        asked = {
            "viewport": {"width": 900, "height": 620},
            "color_scheme": "dark",
            "reduced_motion": "reduce",
            **options,
        }
        context = like.page.context if like else chromium.new_context(**asked)
        contexts.append(context)
        if init:
            context.add_init_script(init)
        screen = Screen(context.new_page())
        opened.append(screen)
        if app.cookies:  # the link lets one browser in; this is the same one, with another window
            context.add_cookies(app.cookies)
            screen.page.goto(f"http://127.0.0.1:{app.port}/{path}")
        else:
            screen.page.goto(app.link)
            app.cookies = context.cookies()
        return screen

    yield show
    for context in contexts:
        context.close()
    assert [t for s in opened for t in s.troubles] == []
