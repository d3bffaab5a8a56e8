"""The status line on a real terminal: a pty, read by the terminal emulator pyte."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
from collections.abc import Callable, Iterator

import pytest

from gradientflow.report.live import LiveLine, status

pyte = pytest.importorskip("pyte", reason="pyte (a terminal emulator) is not installed")
if sys.platform == "win32":
    pytest.skip("no pty on Windows", allow_module_level=True)

import fcntl  # noqa: E402
import pty  # noqa: E402
import struct  # noqa: E402
import termios  # noqa: E402


class Terminal:
    """A pty with a screen that remembers what scrolled off."""

    def __init__(self, columns: int = 60, lines: int = 10) -> None:
        self.master, self.slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.screen = pyte.HistoryScreen(columns, lines, history=100_000, ratio=0.5)
        self.bytes = pyte.ByteStream(self.screen)
        self.stream = open(self.slave, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        self.seen = b""
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if (self.screen.columns, self.screen.lines) != (columns, lines):
            self.sync()
            self.screen.resize(lines, columns)

    def sync(self) -> None:
        """Feed what was written so far to the screen."""
        self.stream.flush()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.master, 65536):
                self.seen += data
                self.bytes.feed(data)

    def rows(self) -> list[str]:
        self.sync()
        return [row.rstrip() for row in self.screen.display]

    def everything(self) -> list[str]:
        """Scrolled-off rows and the screen, without the bottom row."""
        self.sync()
        old = ["".join(row[c].data for c in range(self.screen.columns)).rstrip() for row in self.screen.history.top]
        return old + self.rows()[:-1]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    t = Terminal()
    yield t
    t.stream.close()
    os.close(t.master)
    os.close(t.slave)


def test_script_output_is_neither_lost_nor_mangled(terminal: Terminal) -> None:
    line = LiveLine(terminal.stream, Clock())
    rng = random.Random(0)
    terminal.stream.write("before\n")
    line.open()
    sent = ["before"]
    for i in range(200):
        text = f"step {i} " + "x" * rng.randrange(1, 40)
        half = rng.randrange(len(text))
        terminal.stream.write(text[:half])
        terminal.stream.flush()
        line.update(i, 1.0 / (i + 1), "healthy", 0.031, float(i))  # in the middle of a line
        terminal.stream.write(text[half:] + "\n")
        sent.append(text)
        terminal.sync()
    assert [row for row in terminal.everything() if row] == sent
    assert "step 199" in terminal.rows()[-1]
    line.close()
    terminal.stream.write("after\n")
    assert [row for row in terminal.everything() if row] == [*sent, "after"]


def test_progress_bar_with_carriage_return_and_cursor_up_survives(terminal: Terminal) -> None:
    line = LiveLine(terminal.stream, Clock())
    terminal.stream.write("\n" * 12)  # the cursor stands in the last row
    line.open()
    for i in range(5):
        terminal.stream.write(f"\router {i}\n\rinner {i}\x1b[A")
        terminal.stream.flush()
        line.update(i, 0.5, "healthy", 0.01, 1.0)
    assert terminal.rows()[-3:-1] == ["outer 4", "inner 4"]
    assert "loss 0.5" in terminal.rows()[-1]


def test_unfinished_text_in_the_last_row_is_not_painted_over(terminal: Terminal) -> None:
    terminal.stream.write("\n".join(f"a{i}" for i in range(12)) + "\nloading ... ")
    line = LiveLine(terminal.stream, Clock())
    line.open()
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    terminal.stream.write("done\n")
    assert terminal.everything()[-3:-1] == ["a11", "loading ... done"]
    assert "step 1" in terminal.rows()[-1]


def test_line_comes_back_after_the_script_reset_the_region(terminal: Terminal) -> None:
    line = LiveLine(terminal.stream, Clock())
    line.open()
    terminal.stream.write("\x1b7\x1b[r\x1b8")
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    terminal.stream.write("".join(f"a{i}\n" for i in range(30)))
    assert "step 1" in terminal.rows()[-1]
    assert [row for row in terminal.everything() if row] == [f"a{i}" for i in range(30)]


def test_line_tells_step_loss_symptom_mark_cost_and_time(terminal: Terminal) -> None:
    terminal.resize(100, 10)
    line = LiveLine(terminal.stream, Clock())
    line.open()
    line.update(1234, 0.12345, "vanishing", 0.031, 75.0)
    row = terminal.rows()[-1]
    for part in ("▼ vanishing", "step 1234", "loss 0.1235", "3.1 %", "1 min 15 s"):
        assert part in row
    line.close()
    assert terminal.rows()[-1] == ""


@pytest.mark.parametrize("width", range(5, 120, 7))
def test_status_never_exceeds_the_width(width: int) -> None:
    text = status(10**9, float("nan"), "not-finite \x1b[2J 漢字漢字", 12.3, 1e6, width)
    assert text.cell_len <= width
    assert "\x1b" not in text.plain


@pytest.mark.parametrize(("columns", "lines"), [(60, 6), (60, 20), (30, 10), (90, 15)])
def test_resize_moves_the_line_and_keeps_the_output(terminal: Terminal, columns: int, lines: int) -> None:
    line = LiveLine(terminal.stream, Clock())
    line.open()
    for i in range(20):
        terminal.stream.write(f"a{i}\n")
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    terminal.resize(columns, lines)
    line.update(2, 1.0, "healthy", 0.0, 1.0)
    assert "✓ healthy" in terminal.rows()[-1]
    for i in range(40):
        terminal.stream.write(f"b{i}\n")
        line.update(3 + i, 1.0, "healthy", 0.0, 1.0)
    seen = terminal.everything()
    assert [row for row in seen if row.startswith("b")] == [f"b{i}" for i in range(40)]
    assert "✓ healthy" in terminal.rows()[-1]


def test_too_small_a_terminal_gets_no_line_until_it_grows(terminal: Terminal) -> None:
    terminal.resize(60, 3)
    line = LiveLine(terminal.stream, Clock())
    line.open()
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    assert not line.active
    assert terminal.rows() == ["", "", ""]
    terminal.resize(60, 8)
    line.update(2, 1.0, "healthy", 0.0, 1.0)
    assert line.active
    assert "step 2" in terminal.rows()[-1]
    terminal.resize(60, 3)
    line.update(3, 1.0, "healthy", 0.0, 1.0)
    assert not line.active


def test_close_twice_and_update_after_close_write_nothing(terminal: Terminal) -> None:
    line = LiveLine(terminal.stream, Clock())
    line.open()
    line.open()
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    line.close()
    terminal.sync()
    seen = terminal.seen
    line.close()
    line.update(2, 1.0, "healthy", 0.0, 1.0)
    terminal.sync()
    assert terminal.seen == seen
    assert seen.endswith(b"\x1b8")
    assert terminal.screen.margins is None or terminal.screen.margins.bottom == terminal.screen.lines - 1


def test_at_most_eight_redraws_a_second(terminal: Terminal) -> None:
    now = [0.0]
    line = LiveLine(terminal.stream, lambda: now[0])
    line.open()
    for i in range(1000):
        now[0] = i / 1000
        line.update(i, 1.0, "healthy", 0.0, 1.0)
    terminal.sync()
    assert 4 <= terminal.seen.count(b"\x1b[2K") <= 8


@pytest.mark.parametrize("term", ["dumb", ""])
def test_dumb_terminal_gets_nothing(terminal: Terminal, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    use(LiveLine(terminal.stream, Clock()))
    terminal.sync()
    assert terminal.seen == b""


@pytest.mark.parametrize("make", [io.StringIO, lambda: open(os.devnull, "w")])  # noqa: SIM115
def test_not_a_terminal_gets_nothing(make: Callable[[], io.StringIO]) -> None:
    with make() as stream:
        use(LiveLine(stream, Clock()))
        assert not isinstance(stream, io.StringIO) or stream.getvalue() == ""


def test_a_terminal_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    t = Terminal()
    line = LiveLine(t.stream, Clock())
    line.open()
    os.close(t.master)
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    t.stream.close()
    os.close(t.slave)
    line.update(2, 1.0, "healthy", 0.0, 1.0)
    line.close()


def use(line: LiveLine) -> None:
    line.open()
    line.update(1, 1.0, "healthy", 0.0, 1.0)
    line.close()
