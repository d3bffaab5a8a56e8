"""The picture of a plane of many parameters: levels of the loss, the water, grey where it leaks, and shadows of paths.

The levels are true: the loss is that of the whole network at points of the plane. The water is not where it is grey: the
rate leaves the plane there. A path's shadow is dashed where the path itself is far from the plane.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from gradientflow.records import Flow, Portrait, Shadow
from gradientflow.report.dock import BRIGHT, CALM, FAINT, RULE, Dock, wrapped
from gradientflow.report.flow_words import leaking, solved_by, trust
from gradientflow.report.plane_dock import WHITE, fill_plane_dock, inks
from gradientflow.report.signs import DARK, MOST_DOTS, PAGE, SHAPES
from gradientflow.report.water_page import levels, mark_drop, mark_end, pour, structure
from gradientflow.report.words import number, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
TALL, WIDE, DOCK = 6.6, 8.6, 3.6  # inches
LEFT, BOTTOM, TOP, RIGHT, BETWEEN = 0.85, 1.06, 0.25, 0.25, 0.4
LEAST = 5.4  # inches of height that the dock wants
DASHES = (0, (2.6, 1.9))


def draw_plane(portrait: Portrait, flow: Flow | None = None) -> Figure:
    """Return the figure.

    Args:
        portrait: of a plane, with the shadows in it.
        flow: what was solved, for the words on it; None: there is nothing but the portrait.

    Returns:
        A matplotlib figure that no window knows of.
    """
    from matplotlib.figure import Figure

    x0, x1, y0, y1 = portrait.box
    ratio = (x1 - x0) / (y1 - y0)
    shape = ratio if 0.5 <= ratio <= 2.4 else 1.25
    width, height = (WIDE, WIDE / shape) if WIDE / shape <= TALL else (TALL * shape, TALL)
    page = (LEFT + width + BETWEEN + DOCK + RIGHT, BOTTOM + max(height, LEAST) + TOP)
    figure = Figure(figsize=page, dpi=DPI, facecolor=PAGE)
    low = BOTTOM + max(0.0, LEAST - height)
    axes = figure.add_axes((LEFT / page[0], low / page[1], width / page[0], height / page[1]))
    speeds = pour(axes, portrait, round(width * DPI), round(height * DPI))
    levels(axes, portrait, strong=True)
    structure(axes, portrait)
    _shadows(axes, portrait)
    for side in axes.spines.values():
        side.set_color(RULE)
    axes.tick_params(colors=FAINT, labelsize=8, length=3, color=RULE)
    names = portrait.plane.names if portrait.plane else ("θ₁", "θ₂")
    axes.set_xlabel(names[0], color=CALM, size=9.5, labelpad=3, parse_math=False)
    axes.set_ylabel(names[1], color=CALM, size=9.5, labelpad=3, parse_math=False)
    dock = Dock(figure, LEFT + width + BETWEEN, 0.2, DOCK, page[1] - 0.2 - TOP)
    fill_plane_dock(dock, portrait, flow, speeds)
    _caption(figure, portrait, flow, low)
    return figure


def _shadows(axes: Axes, portrait: Portrait) -> None:
    from matplotlib.patheffects import withStroke

    shade = [withStroke(linewidth=4.2, foreground=DARK, alpha=0.75)]
    colours = inks(portrait)
    flows = sum(s == WHITE for s in colours.values())
    for seen in reversed(portrait.shadows):  # the flow on top
        white = seen.kind == "flow"
        style: dict[str, Any] = (
            {"lw": 2.2, "path_effects": shade} if white else {"lw": 1.2 if len(seen.points) <= MOST_DOTS / 4 else 0.8}
        )
        for near, line in runs(seen, portrait.near):
            xs, ys = [p[0] for p in line], [p[1] for p in line]
            axes.plot(
                xs, ys, color=colours[seen.label], ls="-" if near else DASHES, zorder=5.5 if white else 4.5, **style
            )  # fmt: skip
        if not seen.points:
            continue
        if white:
            mark_end(axes, seen.points[-1])
        else:
            shape = SHAPES[(list(colours).index(seen.label) - flows) % len(SHAPES)]
            axes.plot(
                *seen.points[-1],
                ls="",
                marker=shape,
                ms=6.5,
                color=colours[seen.label],
                mec="#ffffff",
                mew=0.9,
                zorder=5.6,
            )
    starts = list(dict.fromkeys(s.points[0] for s in portrait.shadows if s.points and s.kind == "flow"))
    for k, at in enumerate(starts):
        mark_drop(axes, at, k + 1)
    marks = portrait.plane.marks if portrait.plane else {}
    for name, at in marks.items():
        axes.plot(*at, ls="", marker="+", ms=10, color=DARK, mew=3.4, zorder=6)
        axes.plot(*at, ls="", marker="+", ms=9, color=BRIGHT, mew=1.4, zorder=6.1)
        if len(marks) > 1:
            left = at[0] > portrait.box[1] - 0.15 * (portrait.box[1] - portrait.box[0])
            axes.annotate(
                name, at, xytext=(-7 if left else 7, 5), ha="right" if left else "left", textcoords="offset points", size=8.5,
                color=BRIGHT, zorder=7, annotation_clip=True, path_effects=shade,
            )  # fmt: skip


def runs(seen: Shadow, near: float) -> list[tuple[bool, list[tuple[float, float]]]]:
    """The shadow in pieces, each either near the plane or far from it; each begins where the one before ends.

    Example:
        >>> runs(Shadow("flow", "flow", [0.0, 1.0, 2.0], [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)], [0.0, 0.0, 9.0]), 0.5)
        [(True, [(0.0, 0.0), (1.0, 0.0)]), (False, [(1.0, 0.0), (2.0, 0.0)])]
    """
    steps = [(max(a, b) <= near, p, q) for (a, p), (b, q) in pairwise(zip(seen.off, seen.points, strict=True))]
    told = []
    for close, some in groupby(steps, key=lambda s: s[0]):
        piece = list(some)
        told.append((close, [piece[0][1], *(q for _, _, q in piece)]))
    return told


def _caption(figure: Figure, portrait: Portrait, flow: Flow | None, low: float) -> None:
    size = figure.get_size_inches()
    width = size[0] - LEFT - BETWEEN - DOCK - RIGHT
    parts = [f"water: a sketch from {portrait.n}×{portrait.n} samples"]
    if portrait.spent is not None:
        parts[0] += f" ({number(round(portrait.spent.equivalents))} gradients, {seconds(portrait.spent.seconds)})"
    parts[0] += ", speed bent"
    if leaking(portrait):
        parts.append(f"grey: it leaves the plane, {leaking(portrait)}")
    if flow is not None:
        parts.append(f"white: solved, {solved_by(flow)}")
    lines = wrapped(" · ".join(parts), width, 8.2)[:3]
    y = low - 0.58
    for line in lines:
        figure.text(LEFT / size[0], y / size[1], line, size=8.2, color=FAINT, parse_math=False)
        y -= 0.16
    if flow is not None:
        broken = bool(flow.broken)
        figure.text(
            LEFT / size[0], (y - 0.02) / size[1], trust(flow), size=8.2, color="#ff8a80" if broken else BRIGHT,
            weight="bold" if broken else "normal", parse_math=False,
        )  # fmt: skip
