"""The wheel, as somebody gets it: installed where the repository is not known, and opened in a browser."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gradientflow
from gradientflow.app import server
from tests.app.conftest import App, Screen
from tests.app.run_records import write

ROOT = Path(__file__).resolve().parents[2]
HEAVIEST = 1_300_000  # bytes; most of it is Python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _called(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel. It borrows this environment's packages, but not its way to the sources."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    own = next(folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages")
    borrowed = Path(pytest.__file__).parents[1]
    own.joinpath("borrowed.pth").write_text(
        f"{borrowed}\n", encoding="utf-8"
    )  # (its own .pth files are not read that way)
    _called(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        str(own),
        str(wheel),
    )
    return next(folder.glob("bin/python"), folder / "Scripts" / "python.exe")


def _called(*command: str, cwd: Path | None = None) -> str:
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_holds_both_bundles_and_is_no_heavier_than_it_must(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        size = wheel.stat().st_size
    for room in ("app", "report"):
        inside = {n.rpartition("/")[2] for n in names if n.startswith(f"gradientflow/{room}/static/")}
        assert inside == {f.name for f in (ROOT / "src" / "gradientflow" / room / "static").iterdir()}
    assert set(server.NEEDED) <= {n.rpartition("/")[2] for n in names}
    assert not [n for n in names if n.endswith((".png", ".map", ".ts", ".tsx"))]
    assert size < HEAVIEST


@pytest.fixture
def installed(python: Path, tmp_path: Path) -> Iterator[App]:
    write(tmp_path / "runs" / "one").close()
    app = App(tmp_path, python=python)
    yield app
    app.kill()


@pytest.mark.browser
def test_installed_it_opens_in_a_browser(
    python: Path, installed: App, screens: Callable[..., Screen], tmp_path: Path
) -> None:
    where = Path(_called(str(python), "-c", "import gradientflow; print(gradientflow.__file__)", cwd=tmp_path).strip())
    assert where.is_relative_to(python.parents[1]) and where != Path(gradientflow.__file__)
    screen = screens(installed)
    screen.until("s.samples && s.frame")  # River
    screen.page.click("text=Depth")
    screen.page.wait_for_selector(".heat canvas")
    _called(str(python), "-m", "gradientflow", "report", "-q", "runs/one", cwd=tmp_path)
    screen.page.goto((tmp_path / "runs" / "one" / "report.html").as_uri())
    screen.page.wait_for_selector(".heat canvas")
