"""The progress of a path: on a terminal, in a log, and where there is nowhere to write."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from dataclasses import dataclass

import pytest

from gradientflow.report.flow_live import FlowLive, log_line, share_of, status


@dataclass
class Moment:
    t: float = 620.0
    t_end: float = 1000.0
    loss: float | None = 0.0123
    grad_norm: float = 0.01
    step: float = 2.1
    stages: int = 14
    sharpness: float = 31.2
    gradients: float = 3214.0
    remaining: float = 42.0
    method: str = "rkc2"


def drain(master: int) -> bytes:
    """All that was written to a pseudo-terminal so far."""
    seen = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(master, 65536):
            seen += data
    return seen


class Clock:
    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_line_has_all_there_is_to_know_where_it_fits() -> None:
    text = status("flow", Moment(), 140).plain
    for part in (
        "flow",
        "62 %",
        "t 620 of 1000",
        "loss 0.0123",
        "step 2.1 × 14 stages",
        "λ 31.2",
        "3214 gradients",
        "42 s left",
        "rkc2",
    ):
        assert part in text


@pytest.mark.parametrize("width", range(5, 160, 6))
def test_a_line_never_exceeds_the_width(width: int) -> None:
    wide = Moment(t=1e-300, loss=math.nan, sharpness=math.inf, gradients=10**12, remaining=1e9, method="漢字\x1b[2J")
    assert status("SGD lr=0.1:momentum=0.9 漢字", wide, width).cell_len <= width
    assert "\x1b" not in status("flow", wide, width).plain


@pytest.mark.parametrize(
    ("t", "t_end", "share"),
    [(0.0, 10.0, 0.0), (5.0, 10.0, 0.5), (11.0, 10.0, 1.0), (math.nan, 1.0, 0.0), (1.0, 0.0, 0.0)],
)
def test_the_share_is_between_nothing_and_all(t: float, t_end: float, share: float) -> None:
    assert share_of(Moment(t=t, t_end=t_end)) == share


def test_what_is_not_known_is_left_out() -> None:
    told = log_line("flow", Moment(loss=None, sharpness=math.nan, remaining=math.nan))
    assert told == "flow: 62 %, t 620 of 1000, 3214 gradients, step 2.1 × 14 stages, rkc2"
    assert "✕ nan" in log_line("flow", Moment(loss=math.nan))


def test_a_log_gets_a_line_every_few_seconds_and_no_escapes() -> None:
    out = io.StringIO()
    with FlowLive(out, "flow", Clock(0.1)) as live:
        for _ in range(200):  # 20 seconds
            live(Moment())
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in out.getvalue()
    quick = io.StringIO()
    with FlowLive(quick, "flow", Clock(0.001)) as live:  # over in a fifth of a second: nothing to say
        for _ in range(200):
            live(Moment())
    assert quick.getvalue() == ""


def test_a_stream_that_cannot_be_written_is_no_error() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    with FlowLive(Broken(), "flow", Clock(10.0)) as live:
        live(Moment())


@pytest.mark.skipif(sys.platform == "win32", reason="no pty on Windows")
def test_on_a_terminal_one_line_is_redrawn_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    pyte = pytest.importorskip("pyte", reason="pyte (a terminal emulator) is not installed")
    import fcntl
    import pty
    import struct
    import termios

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLUMNS", raising=False)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 90, 0, 0))
    os.set_blocking(master, False)
    screen = pyte.Screen(90, 8)
    feed = pyte.ByteStream(screen)
    with open(slave, "w", encoding="utf-8", closefd=False) as stream:
        stream.write("before\n")
        live = FlowLive(stream, "flow", Clock(0.2))
        for t in (0.0, 100.0, 500.0, 900.0):
            live(Moment(t=t))
        stream.flush()
        feed.feed(drain(master))
        assert screen.display[0].rstrip() == "before"
        assert "t 900 of 1000" in screen.display[1]
        assert sum("gradients" in row for row in screen.display) == 1
        live.close()
        live.close()
        stream.write("after\n")
        stream.flush()
        feed.feed(drain(master))
    os.close(master)
    os.close(slave)
    assert [row.rstrip() for row in screen.display if row.strip()] == ["before", "after"]
    assert not screen.cursor.hidden


def test_a_second_run_that_checks_the_first_is_named_so() -> None:
    out = io.StringIO()
    with FlowLive(out, "flow", Clock(6.0)) as live:
        for t in (500.0, 1000.0, 10.0, 900.0):
            live(Moment(t=t))
    assert [line.split(":")[0] for line in out.getvalue().splitlines()] == [
        "flow",
        "flow",
        "flow, check",
        "flow, check",
    ]
