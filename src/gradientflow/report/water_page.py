"""The picture of a field of two parameters: the water, the solved paths on it, and a dock of keys and tables beside it.

Two inks: the water is a sketch from samples, the white paths are solved. The dock never covers the water.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradientflow.records import Flow, Portrait, Story, Track
from gradientflow.report.dock import BRIGHT, CALM, FAINT, RULE, Dock, wrapped
from gradientflow.report.flow_words import solved_by, trust
from gradientflow.report.signs import DARK, DROP, GLYPHS, INKS, LINE, MOST_DOTS, MOST_NUMBERED, PAGE, SHAPES, basin_ink
from gradientflow.report.water_dock import fill_dock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
SMOOTH = 150  # points along each side that levels of the loss are drawn from; coarser samples are interpolated
TALL, WIDE, DOCK = 7.2, 9.2, 3.5  # inches


def draw_water(flow: Flow, portrait: Portrait) -> Figure:
    """Return the figure.

    Args:
        flow: the drops, their solved paths, the optimizers.
        portrait: the field over a box.

    Returns:
        A matplotlib figure that no window knows of.
    """
    from matplotlib.figure import Figure

    x0, x1, y0, y1 = portrait.box
    ratio = (x1 - x0) / (y1 - y0)
    shape = ratio if 0.6 <= ratio <= 2.2 else 1.25  # sides of very different units are stretched
    width, height = (WIDE, WIDE / shape) if WIDE / shape <= TALL else (TALL * shape, TALL)
    left, bottom, top, right = 0.62, 0.92, 0.25, 0.25
    page = (left + width + 0.4 + DOCK + right, bottom + max(height, 6.0) + top)
    figure = Figure(figsize=page, dpi=DPI, facecolor=PAGE)
    low = bottom + max(0.0, 6.0 - height)
    axes = figure.add_axes((left / page[0], low / page[1], width / page[0], height / page[1]))
    speeds = pour(axes, portrait, round(width * DPI), round(height * DPI))
    if flow.potential:
        levels(axes, portrait)
    structure(axes, portrait)
    outside = _paths(axes, flow, portrait)
    for side in axes.spines.values():
        side.set_color(RULE)
    axes.tick_params(colors=FAINT, labelsize=8, length=3, color=RULE)
    axes.set_xlabel("θ₁", color=CALM, size=9.5, labelpad=2)
    axes.set_ylabel("θ₂", color=CALM, size=9.5, labelpad=0, rotation=0)
    dock = Dock(figure, left + width + 0.4, 0.2, DOCK, page[1] - 0.2 - top)
    fill_dock(dock, flow, portrait, speeds, outside)
    _caption(figure, flow, portrait, left, width)
    return figure


def pour(axes: Axes, portrait: Portrait, width: int, height: int) -> tuple[float, float]:
    from gradientflow.report.water import water

    drawn = water(portrait, width, height)
    axes.set_facecolor(DARK)
    axes.imshow(drawn.pixels, origin="lower", extent=portrait.box, aspect="auto", interpolation="antialiased", zorder=0)
    axes.set_xlim(*portrait.box[:2])
    axes.set_ylim(*portrait.box[2:])
    return drawn.slow, drawn.fast


def levels(axes: Axes, portrait: Portrait, *, strong: bool = False) -> None:
    """Faint contours of the loss, even steps of its logarithm above the least sample; strong where they are what is true."""
    import numpy as np

    from gradientflow.report.maps import batlow
    from gradientflow.report.water import smoothed

    if portrait.loss is None:
        return
    n, (x0, x1, y0, y1) = portrait.n, portrait.box
    loss = smoothed(np.asarray(portrait.loss, dtype=float).reshape(n, n), SMOOTH)
    n = len(loss)
    if not np.isfinite(loss).any():
        return
    above = loss - np.nanmin(loss)
    some = above[np.isfinite(above) & (above > 0)]
    if not some.size:
        return
    low, high = np.percentile(some, (1.5, 99.5))
    levels = np.unique(np.geomspace(max(low, high * 1e-9), high, 13))
    axes.contour(
        np.linspace(x0, x1, n), np.linspace(y0, y1, n), above, levels, colors=batlow(np.linspace(0.45, 1.0, len(levels))),
        linewidths=0.8 if strong else 0.6, alpha=0.6 if strong else 0.34, zorder=1,
    )  # fmt: skip


def structure(axes: Axes, portrait: Portrait) -> None:
    for line in portrait.separatrices:
        axes.plot(*_xy(line), ls=(0, (1, 2.4)), lw=1.3, color="#dfe7f5", alpha=0.75, zorder=2)
    for line in portrait.valleys:
        axes.plot(*_xy(line), lw=4.0, color=LINE, zorder=3, solid_capstyle="butt")
        axes.plot(*_xy(line), lw=1.5, color=DARK, zorder=3.1, solid_capstyle="butt")
    for line in portrait.ridges:
        axes.plot(*_xy(line), lw=2.0, color=LINE, ls=(0, (4, 2)), alpha=0.8, zorder=3)
    for p in portrait.fixed:
        GLYPHS[p.kind].draw(axes, p.at[0], p.at[1], 1.0)


def _paths(axes: Axes, flow: Flow, portrait: Portrait) -> dict[str, int]:
    """Draw drops, paths and steps; return how many steps of each optimizer lie outside the box."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    shade = [withStroke(linewidth=4.4, foreground=DARK, alpha=0.75)]
    outside: dict[str, int] = {}
    if flow.drops is not None:
        drops = flow.drops
        many = drops.count > MOST_NUMBERED
        lines = [t for t in drops.trails if len(t) > 1]
        if many:
            thin = 1.0 if drops.count <= 60 else 0.8 if drops.count <= 400 else 0.5
            alpha = 0.85 if drops.count <= 60 else 0.55 if drops.count <= 400 else 0.3
            axes.add_collection(LineCollection(lines, colors="#ffffff", linewidths=thin, alpha=alpha, zorder=4))
            small = 13 if drops.count <= 400 else 5
            axes.scatter(
                *_xy(drops.start),
                s=small,
                color=[basin_ink(drops, b) or DROP for b in drops.basin],
                edgecolors=DARK,
                linewidths=0.5,
                zorder=6,
            )
            axes.scatter(*_xy(drops.final), s=small, color="#ffffff", edgecolors=DARK, linewidths=0.5, zorder=6)
        else:
            for line in lines:
                axes.plot(*_xy(line), color="#ffffff", lw=2.1, zorder=5, path_effects=shade)
                mark_end(axes, line[-1])
            for k, at in enumerate(drops.start):
                mark_drop(axes, at, k + 1)
    for story in flow.stories:
        for k, track in enumerate(story.descents):
            outside[track.label] = outside.get(track.label, 0) + steps_of(axes, track, k, portrait.box)
        if len(story.flow.points) > 1:
            axes.plot(*_xy(story.flow.points), color="#ffffff", lw=2.3, zorder=5.5, path_effects=shade)
            mark_end(axes, story.flow.points[-1])
        begin = _begin(story)
        if begin is not None:
            mark_drop(axes, begin, story.drop)
    return outside


def steps_of(axes: Axes, track: Track, k: int, box: tuple[float, float, float, float]) -> int:
    points = [p for p in track.points if math.isfinite(p[0]) and math.isfinite(p[1])]
    ink, many = INKS[k % len(INKS)], len(points) > MOST_DOTS
    far = 1e3 * max(abs(b) for b in box)
    xs, ys = _xy([(min(max(x, -far), far), min(max(y, -far), far)) for x, y in points])
    axes.plot(xs, ys, color=ink, lw=1.3 if many else 1.0, alpha=0.9, zorder=4.4)
    if not many:
        size = 4.0 if len(points) <= 150 else 2.8
        axes.plot(
            xs, ys, ls="", marker=SHAPES[k % len(SHAPES)], ms=size, color=ink, mec=DARK, mew=0.4, zorder=4.5
        )  # fmt: skip
    if points:
        axes.plot(
            xs[-1:],
            ys[-1:],
            ls="",
            marker=SHAPES[k % len(SHAPES)],
            ms=6.5,
            color=ink,
            mec="#ffffff",
            mew=0.9,
            zorder=5.6,
        )
    return sum(not (box[0] <= x <= box[1] and box[2] <= y <= box[3]) for x, y in points)


def _begin(story: Story) -> tuple[float, float] | None:
    if story.flow.points:
        return story.flow.points[0]
    return (story.flow.start[0], story.flow.start[1]) if len(story.flow.start) == 2 else None


def mark_drop(axes: Axes, at: tuple[float, float], number: int) -> None:
    axes.plot([at[0]], [at[1]], ls="", marker="o", ms=11.5, color=DROP, mec=DARK, mew=1.2, zorder=7)
    axes.annotate(
        str(number), at, xytext=(0, -0.4), textcoords="offset points", size=7.5, weight="bold", color=DARK, ha="center",
        va="center", zorder=7.1, annotation_clip=True,
    )  # fmt: skip


def mark_end(axes: Axes, at: tuple[float, float]) -> None:
    axes.plot([at[0]], [at[1]], ls="", marker="o", ms=5.2, color="#ffffff", mec=DARK, mew=1.1, zorder=6.5)


def _caption(figure: Figure, flow: Flow, portrait: Portrait, left: float, width: float) -> None:
    broken = bool(flow.broken)
    lines = wrapped(
        f"water: a sketch from {portrait.n}×{portrait.n} samples, direction true, speed bent · white: solved, {solved_by(flow)}",
        width, 8.2,
    )  # fmt: skip
    size = figure.get_size_inches()
    y = 0.40 if len(lines) == 1 else 0.44
    for k, line in enumerate(lines[:2]):
        figure.text(left / size[0], (y - 0.16 * k) / size[1], line, size=8.2, color=FAINT, parse_math=False)
    figure.text(
        left / size[0], (y - 0.16 * len(lines[:2]) - 0.02) / size[1], trust(flow), size=8.2,
        color="#ff8a80" if broken else BRIGHT, weight="bold" if broken else "normal", parse_math=False,
    )  # fmt: skip


def _xy(points: Sequence[Any]) -> tuple[list[float], list[float]]:
    return [float(p[0]) for p in points], [float(p[1]) for p in points]
