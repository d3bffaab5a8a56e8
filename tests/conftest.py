"""What holds for every test: it leaves none of PyTorch's hooks of all modules behind, which every later test would run through.

And what several rooms of tests use: a warm interpreter, and a browser.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.running import Warm


def _hooks() -> list[object]:
    """Return the hooks of all modules and optimizers that stand; none where nothing has loaded PyTorch yet."""
    rooms = [sys.modules.get(name) for name in ("torch.nn.modules.module", "torch.optim.optimizer")]
    return [
        hook
        for room in rooms
        if room is not None
        for name, hooks in vars(room).items()
        if name.startswith("_global_") and isinstance(hooks, dict)
        for hook in hooks.values()
    ]


@pytest.fixture(autouse=True)
def no_hook_is_left() -> Iterator[None]:
    before = _hooks()
    yield
    left = [hook for hook in _hooks() if not any(hook is one for one in before)]
    assert left == [], "hooks of all modules that this test left behind"


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """An interpreter that has loaded PyTorch and forks for each run: a tenth of the time of starting one."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    with Warm() as runner:
        yield runner


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on the PATH (on Debian: apt-get install chromium)")
    software = "--enable-unsafe-swiftshader"  # WebGL2 without a GPU
    with api.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-background-networking", software]
        browser = driver.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def pytest_collection_finish() -> None:
    """What is loaded by now stays to the end: the garbage collector need not walk through it again, test after test."""
    if "torch" in sys.modules:
        from gradientflow.depth.watch.post import set_aside

        set_aside()
