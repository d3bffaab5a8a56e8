"""Inks and signs on the water: optimizers by colour and shape, points at rest by glyph. Never by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradientflow.records import Drops

PAGE, DARK = "#0a0f1c", "#0b1020"
DROP = "#ffd54a"
LINE = "#8fd0ff"  # valleys and other things of the field itself
INKS = ("#ffa94d", "#f48fd0", "#f3ec6a", "#b8a4ff", "#ff7b6b", "#9be38f")  # of the optimizers, on dark water
SHAPES = ("o", "s", "^", "D", "v", "P")
MOST_NUMBERED = 9  # drops that get a number
MOST_DOTS = 400  # steps that are drawn as dots; more of them become a line


@dataclass(frozen=True)
class Glyph:
    """The sign of one kind of point at rest, and its name."""

    name: str
    marker: str
    face: str | None
    edge: str
    inner: bool = False  # a dot inside

    def draw(self, axes: Axes, x: float, y: float, scale: float) -> None:
        """Draw it at a point."""
        axes.plot(
            [x], [y], ls="", marker=self.marker, ms=8.2 * scale, mfc=self.face or DARK, mec=self.edge, mew=1.6 * scale,
            zorder=6.2, clip_on=False,
        )  # fmt: skip
        if self.inner:
            axes.plot([x], [y], ls="", marker="o", ms=2.6 * scale, color=self.edge, zorder=6.3, clip_on=False)


GLYPHS = {
    "sink": Glyph("sink: the flow comes to rest", "o", LINE, DARK),
    "spiral-sink": Glyph("spiral sink", "o", LINE, DARK, True),
    "saddle": Glyph("saddle", "D", None, "#ffffff"),
    "source": Glyph("source: the flow leaves", "o", None, LINE),
    "spiral-source": Glyph("spiral source", "o", None, LINE, True),
    "centre": Glyph("centre: the flow goes round", "o", None, "#ffffff", True),
    "degenerate": Glyph("point at rest, no curvature", "*", None, LINE),
    "valley": Glyph("minima", "o", LINE, DARK),
    "ridge": Glyph("maxima", "o", None, LINE),
}


def basin_ink(drops: Drops, place: int) -> str | None:
    """The colour of the drops that came to rest in one place; None where there are too few or too many places."""
    return INKS[place] if 2 <= len(drops.rests) <= len(INKS) and 0 <= place < len(drops.rests) else None
