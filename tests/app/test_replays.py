"""Remedies that are tried from the page: what is refused, what can be seen of a replay, and that none outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gradientflow import store
from gradientflow.app.fields import Fields
from gradientflow.app.guard import Keys
from gradientflow.app.replays import ERRAND, Replays, _spawn
from gradientflow.app.runs import Runs, Seen
from gradientflow.app.server import serve
from gradientflow.depth.watch.session import run_script
from gradientflow.errors import UsageError
from gradientflow.records import Step, Trying
from tests.app.run_records import Served, meta, served
from tests.app.test_guard import PORT, Client
from tests.app.test_runs_browser import look, until  # noqa: F401
from tests.app.test_server import INSIDE
from tests.depth.scripts import sandbox
from tests.test_cli_replay import DIVERGES

WAITS = "import sys, time\nprint('gradientflow: replay 1/2: as it is', file=sys.stderr, flush=True)\ntime.sleep({0})\nprint('gradientflow: {1}', file=sys.stderr)\nsys.exit({2})"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose step is too large, of a script that is still there."""
    place = tmp_path_factory.mktemp("sick")
    (place / "train.py").write_text(DIVERGES.format(pause=0.01), encoding="utf-8")
    before = Path.cwd()
    os.chdir(place)
    try:
        with sandbox():
            run_script(["train.py"], out=place / "runs" / "one")
    finally:
        os.chdir(before)
    return place / "runs" / "one"


@pytest.fixture
def replays() -> Iterator[Callable[..., Replays]]:
    made: list[Replays] = []

    def start(seconds: float = 0.0, said: str = "", code: int = 0) -> Replays:
        def spawn(command: list[str]) -> subprocess.Popen[bytes]:
            assert command[:4] == ["replay", "--add", "--remedy", "lower-step"]
            text = WAITS.format(seconds, said, code)
            return subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stderr=subprocess.PIPE)

        made.append(Replays(spawn))
        return made[-1]

    yield start
    for one in made:
        one.close()


def ended(one: Replays, seen: Seen, seconds: float = 20.0) -> Trying:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (now := one.trying(seen)) is not None and now.state != "going":
            return now
        time.sleep(0.02)
    raise AssertionError("it still goes on")


def test_what_may_be_tried_is_told_with_what_it_runs(folder: Path, replays: Callable[..., Replays]) -> None:
    told = replays().offers(Seen(folder))
    assert "lower-step" in {r.kind for r in told.remedies} and told.refused == "" and told.trying is None
    assert told.runs.startswith(f"python train.py in {folder.parent.parent}")


def test_only_a_remedy_of_the_verdict_is_tried(folder: Path, replays: Callable[..., Replays]) -> None:
    for kind in ("add-skip", "--budget", "", "lower-step --json x"):
        with pytest.raises(UsageError, match="is no remedy of what was found"):
            replays().start(Seen(folder), kind)


def test_a_script_that_is_not_as_it_was_is_refused(folder: Path, replays: Callable[..., Replays]) -> None:
    script = folder.parent.parent / "train.py"
    text = script.read_text(encoding="utf-8")
    try:
        script.write_text(text + "\n", encoding="utf-8")
        assert "has changed since it was watched" in replays().offers(Seen(folder)).refused
        with pytest.raises(UsageError, match="has changed"):
            replays().start(Seen(folder), "lower-step")
        script.unlink()
        with pytest.raises(UsageError, match="cannot read"):
            replays().start(Seen(folder), "lower-step")
    finally:
        script.write_text(text, encoding="utf-8")
    assert replays().start(Seen(folder), "lower-step").state in ("going", "failed")  # the control


def test_a_run_that_goes_on_is_not_run_again(tmp_path: Path, replays: Callable[..., Replays]) -> None:
    kept = store.Store(tmp_path / "run")
    kept.meta(meta(4, ended=None))
    kept.step(Step(1, 0.1, 0, 0.1, 1.0, 1.0, 1.0, 0.1))
    kept.flush()
    told = replays().offers(Seen(tmp_path / "run"))
    kept.close()
    assert told.refused and told.remedies == []


def test_one_at_a_time_and_a_cancelled_one_is_gone(folder: Path, replays: Callable[..., Replays]) -> None:
    seen, one = Seen(folder), replays(60)
    one.start(seen, "lower-step")
    with pytest.raises(UsageError, match="one at a time"):
        one.start(seen, "lower-step")
    end = time.monotonic() + 20
    while "replay 1/2" not in one.trying(seen).text and time.monotonic() < end:  # type: ignore[union-attr]
        time.sleep(0.02)
    assert one.trying(seen).text == "replay 1/2: as it is"  # type: ignore[union-attr]
    assert one.cancel(seen).state == "cancelled" and one._last is not None
    assert one._last.process.returncode is not None
    with pytest.raises(UsageError, match="nothing is being tried"):
        one.cancel(seen)
    one.start(seen, "lower-step")  # and another may begin
    one.close()
    assert one._last.process.returncode is not None


def test_what_failed_says_why(folder: Path, replays: Callable[..., Replays]) -> None:
    seen, one = Seen(folder), replays(0, "the script could not be run again", 2)
    one.start(seen, "lower-step")
    now = ended(one, seen)
    assert now.state == "failed" and "could not be run again" in now.text


def test_curves_of_trials_grow_and_those_of_an_earlier_replay_are_left_out(
    folder: Path, replays: Callable[..., Replays]
) -> None:
    seen, one = Seen(folder), replays(60)
    old = folder / store.TRIALS / "3-old"
    old.mkdir(parents=True)
    (old / ERRAND).write_text("{}")
    os.utime(old / ERRAND, (1, 1))
    one.start(seen, "lower-step")
    (folder / store.TRIALS / "1-lower-step-seed2").mkdir()
    (folder / store.TRIALS / "1-lower-step-seed2" / ERRAND).write_text(
        "{}"
    )  # goes into the interval, not into the picture
    trial = folder / store.TRIALS / "1-lower-step"
    kept = store.Store(trial)
    (trial / ERRAND).write_text('{"changes": [{"text": "a lower\\u202e rate"}]}')
    kept.meta(meta(4, ended=None))
    for k, loss in enumerate((2.0, float("nan"), 0.5)):
        kept.step(Step(k + 1, 0.1, 0, 0.1, loss, 1.0, 1.0, 0.1))
    kept.flush()
    (told,) = one.trying(seen).trials  # type: ignore[union-attr]
    assert (told.name, told.steps, told.losses) == ("1-lower-step", [1, 2, 3], [2.0, None, 0.5])
    assert told.text.startswith("a lower") and "\u202e" not in told.text
    kept.step(Step(4, 0.1, 0, 0.1, 0.25, 1.0, 1.0, 0.1))
    kept.close()
    assert one.trying(seen).trials[0].losses[-1] == 0.25  # type: ignore[union-attr]


@pytest.mark.skipif(sys.platform == "win32", reason="how a process was ended is not told there")
def test_a_command_ends_when_its_parent_is_gone() -> None:
    text = "import threading, time; from gradientflow.app import tied; threading.Thread(target=tied._watch, daemon=True).start(); print('on', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == b"on\n" and child.poll() is None
    child.stdin.close()
    assert child.wait(20) == -signal.SIGTERM
    child.stdout.close()


def test_the_page_must_say_where_it_comes_from(folder: Path) -> None:
    keys = Keys(PORT, b"k" * 32)
    client = Client(serve(Fields("w1w2", lambda t: None), keys, Runs(folder)))  # type: ignore[arg-type, return-value]
    ask = msgspec.json.encode({"name": "one", "kind": "add-skip"})
    headers = INSIDE | {"Cookie": f"{keys.name}={keys.value}"}
    assert client.ask("POST", "/api/run/try", {k: v for k, v in headers.items() if k != "Origin"}, ask)[0] == 403
    assert client.ask("POST", "/api/run/try", headers | {"Origin": "http://evil.example"}, ask)[0] == 403
    assert client.ask("GET", "/api/run/try", headers)[0] == 405
    status, _, body = client.ask("POST", "/api/run/try", headers, ask)
    assert status == 422 and "no remedy" in msgspec.json.decode(body)["problem"]
    elsewhere = msgspec.json.encode({"name": "../../etc", "kind": "lower-step"})
    assert client.ask("POST", "/api/run/try", headers, elsewhere)[0] == 422


@pytest.fixture
def app(folder: Path) -> Iterator[Served]:
    with served(Runs(folder)) as running:
        running._app.app.state.replays._spawn = lambda command: _spawn(
            [*command, "--seeds", "1"]
        )  # (the shortest that is one)
        yield running


@pytest.mark.browser
@pytest.mark.slow
def test_a_click_tries_a_remedy_and_both_curves_grow(app: Served, look: Any, folder: Path) -> None:  # noqa: F811
    page = look(app)
    until(page, lambda: page.locator(".remedies li").count())
    assert "train.py in" in page.inner_text(".remedies")
    page.focus("[aria-label='try lower-step']")
    page.keyboard.press("Enter")
    until(page, lambda: page.locator(".trying .curve").count() >= 1, 60)
    assert page.is_disabled("[aria-label='try lower-step']")
    until(
        page,
        lambda: (
            page.locator(".trying .curve.is path").count()
            and len(page.get_attribute(".trying .curve.is path", "d")) > 60
        ),
        90,
    )
    until(page, lambda: "✓ better" in page.inner_text(".trying") or "✗" in page.inner_text(".trying"), 120)
    told = page.inner_text(".trying p >> nth=0")
    assert "learning rate" in told and "loss" in told and "[" in told  # the interval
    until(page, lambda: "replayed: better" in page.inner_text(".remedies li:has-text('lower-step')"))
    until(page, lambda: "lower-step" in page.inner_text("section:has(#d-tried)"))  # as the command line tells it
    replay = store.read_replay(folder)
    assert replay is not None and replay.best is not None
