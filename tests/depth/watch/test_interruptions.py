"""An exception that a signal handler raises, or another thread throws, while our code runs reaches the script: once, at its
own line, with nothing of ours half done.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import gradientflow.depth.watch.session as session
from gradientflow.depth.probe.tracebacks import from_outside
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.shield import Shield
from tests.depth.scripts import sandbox, watched, write


class TimeUp(Exception):
    pass


class Late(RuntimeError):
    """Of a kind that our own code catches here and there."""


@pytest.fixture(autouse=True)
def isolated() -> Any:
    kept = signal.getsignal(signal.SIGUSR1)
    with sandbox():
        torch.set_num_threads(1)
        yield
    signal.signal(signal.SIGUSR1, kept)


def _plain(number: int, frame: Any) -> None:
    raise TimeUp


def _once(number: int, frame: Any) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    raise Late("over")


def _any(*given: Any) -> None:
    raise TimeoutError("over")


class _Callable:
    def __call__(self, number: int, frame: Any) -> None:
        del frame
        raise TimeUp


HANDLERS: dict[str, Callable[..., None]] = {
    "a function": _plain,
    "one that takes itself away": _once,
    "any arguments": _any,
    "a partial": partial(lambda word, number, frame: _plain(number, frame), "word"),
    "an object": _Callable(),
    "a nested raise": lambda n, f: _plain(n, f),
}


@pytest.mark.parametrize("name", list(HANDLERS))
def test_what_a_signal_handler_raises_in_the_shield_reaches_the_script(name: str) -> None:
    shield = Shield()
    signal.signal(signal.SIGUSR1, HANDLERS[name])

    def work() -> None:
        with torch.no_grad():
            signal.raise_signal(signal.SIGUSR1)
            sum(range(1000))

    with pytest.raises((TimeUp, Late, TimeoutError)) as caught:
        shield(work)
    assert torch.is_grad_enabled()
    assert shield.errors == []
    names = [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
    assert "work" not in names and "no_grad" not in names  # the way through our work is cut off


def test_what_our_own_work_raises_stays_in_the_shield() -> None:
    """Negative control: our faults, PyTorch's, and those of code of the script's that we called ourselves."""
    shield = Shield(limit=9)

    def own() -> None:
        raise TimeUp

    for fault in (
        lambda: 1 / 0,
        lambda: torch.ones(2) @ torch.ones(3),
        lambda: [].pop(),
        lambda: {}["x"],
        own,
        lambda: next(iter([])),
    ):
        shield(fault)
    assert len(shield.errors) == 6


def test_what_another_thread_throws_in_is_told_from_a_fault() -> None:
    source = "def work(throw, kind):\n    throw(kind)\n    for _ in range(10): pass\n"
    scope: dict[str, Any] = {}
    exec(compile(source, str(Path(torch.__file__).parent / "made.py"), "exec"), scope)  # its frame is PyTorch's
    throw = partial(ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.get_ident()))
    for kind in (TimeUp, TimeoutError, KeyboardInterrupt):
        with pytest.raises(kind):
            Shield()(scope["work"], throw, ctypes.py_object(kind))


SCRIPT = """
import signal, torch, traceback
from torch import nn
torch.manual_seed(0)
class TimeUp(RuntimeError): pass
def up(number, frame): raise TimeUp
signal.signal(signal.SIGUSR1, up)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(8, 4)
caught, frames = 0, []
for step in range(6):
    try:
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
    except TimeUp as problem:
        caught += 1
        frames = [f.filename for f in traceback.extract_tb(problem.__traceback__)]
"""


@pytest.mark.parametrize(
    "where",
    [
        "tracer._record", "tracer._see", "registry.index_of", "optimizers.watch", "_before_backward", "_after_backward", "window._sharpness",
        "window._meter.measure", "window.over_time.before", "_send_probe", "_open_window", "_emit", "sink.step", "_hook_losses",
    ],
)  # fmt: skip
def test_an_alarm_anywhere_in_our_work_is_caught_by_the_script(where: str, tmp_path: Path) -> None:
    rung = []

    def plant(monitor: Monitor) -> None:
        *way, last = where.split(".")
        owner: Any = monitor
        for name in way:
            owner = getattr(owner, name)
        real = getattr(owner, last)

        def ringing(*args: Any, **named: Any) -> Any:
            result = real(*args, **named)
            if not rung and monitor.steps >= 2:
                rung.append(1)
                signal.raise_signal(signal.SIGUSR1)
            return result

        setattr(owner, last, ringing)

    left = watched(write(tmp_path, SCRIPT), probe_every=1, prepare=plant)
    assert left.outcome is not None
    assert left.outcome.ending.how == "finished"
    assert rung and left.scope["caught"] == 1
    assert not [f for f in left.scope["frames"] if "gradientflow/depth" in f and "tests" not in f]
    assert left.outcome.verdict.watch.errors == []
    assert len(left.outcome.run.probes) >= 4  # and the watch went on


def test_an_exception_with_a_frame_of_the_scripts_is_not_taken_for_one_from_outside() -> None:
    with pytest.raises(TimeUp) as caught:
        raise TimeUp
    assert not from_outside(caught.value)


def test_the_verdict_in_between_is_not_made_in_the_scripts_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules keep what goes wrong in one of them, so an alarm that rang in one would be lost."""
    threads = []
    real = session.judge
    monkeypatch.setattr(session, "judge", lambda run: threads.append(threading.current_thread()) or real(run))
    left = watched(write(tmp_path, SCRIPT), probe_every=1)
    assert left.outcome is not None and len(left.outcome.run.probes) >= 4
    assert threads.count(threading.main_thread()) == 1  # the verdict at the end
