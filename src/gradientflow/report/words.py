"""Words and numbers as the reports write them: one spelling for the terminal and for the page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from rich.cells import cell_len

from gradientflow.records import MARKS

ROWS = 16  # of a long list that are shown; the rest is counted
YEAR = 365.25 * 86400.0  # seconds
_MORE_MARKS = {
    "disconnected": "∅",
    "oscillating": "↔",
    "diverging": "↗",
    "crawling": "⋯",
    "stalled": "=",
    "noisy": "≈",
    "healthy": "✓",
    "not-measured": "?",
    "watching": "◌",
}
# C0 and C1 controls, and the characters that turn the direction of writing round: neither a terminal nor a page may
# be steered by the name of a module or by a source line.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def mark(symptom: str | None) -> str:
    """The glyph of a symptom; every symptom has one, so that none is told by colour alone."""
    return MARKS.get(symptom or "", _MORE_MARKS.get(symptom or "", "•"))


def clean(text: object) -> str:
    """The text without control characters, direction overrides and lone surrogates; tabs become four spaces."""
    plain = str(text).encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\t", "    ")
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", plain)


def one_line(text: object) -> str:
    """The cleaned text on one line."""
    return " ".join(clean(text).split())


def elide(text: str, width: int) -> str:
    """Shorten to `width` terminal cells by leaving out the middle, where long names differ least."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    head = tail = 0
    room = width - 1
    while True:
        char = text[head] if head <= tail else text[len(text) - 1 - tail]
        room -= cell_len(char)
        if room < 0:
            return f"{text[:head]}…{text[len(text) - tail :]}"
        head, tail = (head + 1, tail) if head <= tail else (head, tail + 1)


def shown(text: object, width: int = 60) -> str:
    """What the user wrote, as it stands in a sentence: on one line, the middle left out where it is long."""
    line = one_line(text)
    return line if cell_len(line) <= width else f"{elide(line, width)} ({len(str(text))} characters)"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Elide to `width` cells and fill up with spaces (on the left when `right`)."""
    text = elide(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(x: float | int | None, digits: int = 3) -> str:
    """A number in few digits: 0.0312, 1.9e−7, 12,300; "—" where there is none."""
    if x is None:
        return "—"
    if isinstance(x, int) and abs(x) < 10**15:
        return (f"{x:,}" if abs(x) >= 10_000 else str(x)).replace("-", "−")
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "−inf"
    told = abs(float(f"{x:.{digits - 1}e}"))  # 0.00099999 is told as 0.001
    if x != 0 and not 1e-3 <= told < 10.0 ** max(digits + 1, 5):
        mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(x)))) if x else 0
    text = f"{x:.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def gain(x: float | None) -> str:
    """A gain as a factor: ×0.25, ×12.3, ×1.9e−7; "—" where it was not measured."""
    if x is None:
        return "—"
    if not math.isfinite(x) or x == 0:
        return "×" + number(float(x)).replace("0.0", "0")
    if 0.01 <= x < 10:
        return f"×{x:.2f}"
    if 10 <= x < 10_000:
        return f"×{x:.1f}" if x < 100 else f"×{x:.0f}"
    return "×" + number(x, 2)


def decades(x: float | None, *, sign: bool = True) -> str:
    """Decades with one digit after the point; two where one would round the number away."""
    if x is None:
        return "—"
    if not math.isfinite(x):
        return number(x)
    text = f"{abs(x):.1f}" if abs(x) >= 0.95 else f"{abs(x):.2f}"
    if not sign or float(text) == 0:
        return text
    return ("−" if x < 0 else "+") + text


def is_zero(x: float) -> bool:
    """Whether so many decades are told as 0.00."""
    return float(f"{x:.2f}") == 0


def percent(x: float | None) -> str:
    """A share of one as percent."""
    if x is None:
        return "—"
    if not math.isfinite(x):
        return number(x)
    if 0 < abs(x) < 0.001:
        return "<0.1 %"
    return f"{100 * x:.1f} %" if abs(x) < 0.0995 else f"{100 * x:.0f} %"


def seconds(x: float) -> str:
    """A duration: 0.4 s, 12 s, 3 min 05 s, 2 h 07 min, 1.2e9 years."""
    if x >= YEAR:
        return f"{number(x / YEAR, 2)} years"
    if x < 10:
        return f"{x:.1f} s"
    whole = round(x)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(n: int, noun: str) -> str:
    """A count with its noun: 1 step, 200 steps."""
    return f"{number(n)} {noun}" if n == 1 else f"{number(n)} {noun}s"


def finite(values: Iterable[float | None]) -> list[float]:
    """Only the finite numbers."""
    return [v for v in values if v is not None and math.isfinite(v)]
