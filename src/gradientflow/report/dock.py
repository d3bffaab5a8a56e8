"""A column of text beside a picture: paragraphs, keys and small tables, laid out from the top in inches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BRIGHT, CALM, FAINT, RULE = "#eef3fb", "#c3cede", "#8e9bb3", "#26324d"
POINT = 1 / 72  # inches


@lru_cache(maxsize=4096)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Width of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if not text.strip():
        return 0.3 * size * POINT * len(text)
    font = FontProperties(family="DejaVu Sans", weight=weight, size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) * POINT


def wrapped(text: str, room: float, size: float, weight: str = "normal") -> list[str]:
    """A text in lines of at most `room` inches."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size, weight) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shortened(text: str, room: float, size: float) -> str:
    """A text cut to `room` inches, with … where something is missing."""
    if width_of(text, size) <= room:
        return text
    while text and width_of(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


class Dock:
    """A column; `y` is where the next line goes, in inches from the bottom.

    Args:
        figure: where it stands.
        left, bottom, width, height: in inches.
    """

    def __init__(self, figure: Figure, left: float, bottom: float, width: float, height: float) -> None:
        size = figure.get_size_inches()
        self.axes: Axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(0, height)
        self.width, self.y = width, height
        self._figure, self._corner = figure, (left, bottom)

    def line(self, text: str, size: float = 8.5, colour: str = CALM, x: float = 0.0, weight: str = "normal") -> None:
        """One line, at `x` inches from the left."""
        self.y -= 1.5 * size * POINT
        self._put(x, text, size, colour, weight)

    def para(self, text: str, size: float = 8.5, colour: str = CALM, x: float = 0.0, weight: str = "normal") -> None:
        """A paragraph, wrapped."""
        for part in wrapped(text, self.width - x, size, weight):
            self.line(part, size, colour, x, weight)

    def key(self, draw: Callable[[Axes, float], Any], text: str, size: float = 8.5, colour: str = CALM) -> None:
        """An entry of a legend: `draw(axes, y)` draws its sign in the first 0.4 inches, the words stand beside it."""
        for k, part in enumerate(wrapped(text, self.width - 0.5, size)):
            self.line(part, size, colour, 0.5)
            if k == 0:
                draw(self.axes, self.y + 0.36 * size * POINT)

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str], size: float = 8.0
    ) -> None:
        """A table; the first column to the left, the others to the right; `colours` one per row."""
        body = [*rows, head] if any(head) else list(rows)
        needs = [max(width_of(row[k], size) for row in body) for k in range(len(head))]
        first = max(self.width - sum(needs[1:]) - 0.13 * (len(head) - 1), 0.55)
        rights, x = [0.0], first if needs[0] > first else max(needs[0], 0.62)
        spare = max(self.width - x - sum(needs[1:]), 0.0) / max(len(head) - 1, 1)
        for need in needs[1:]:
            x += min(spare, 0.42) + need
            rights.append(x)
        lines = (
            [(head, FAINT), *zip(rows, colours, strict=True)] if any(head) else list(zip(rows, colours, strict=True))
        )
        for row, colour in lines:
            self.y -= 1.55 * size * POINT
            self._put(0, shortened(row[0], first, size), size, colour, "normal")
            for right, cell in zip(rights[1:], row[1:], strict=True):
                self._put(right, cell, size, FAINT if row is head else BRIGHT, "normal", "right")

    def inset(self, x: float, y: float, width: float, height: float) -> Axes:
        """Small axes within the column, in inches from its lower left corner."""
        size = self._figure.get_size_inches()
        left, bottom = self._corner
        axes = self._figure.add_axes(((left + x) / size[0], (bottom + y) / size[1], width / size[0], height / size[1]))
        axes.set_facecolor("none")
        for name, side in axes.spines.items():
            side.set_visible(name in ("left", "bottom"))
            side.set_color(RULE)
        axes.tick_params(colors=FAINT, labelsize=7, length=2, color=RULE)
        axes.tick_params(which="minor", length=0, labelleft=False)
        return axes

    def gap(self, inches: float = 0.12) -> None:
        """Leave room."""
        self.y -= inches

    def rule(self) -> None:
        """A thin line across."""
        self.y -= 0.11
        self.axes.plot([0, self.width], [self.y, self.y], color=RULE, lw=0.8, clip_on=False)
        self.y -= 0.02

    def _put(self, x: float, text: str, size: float, colour: str, weight: str, align: str = "left") -> None:
        self.axes.text(
            x, self.y, text, size=size, color=colour, weight=weight, ha=align, va="baseline", parse_math=False
        )  # fmt: skip
