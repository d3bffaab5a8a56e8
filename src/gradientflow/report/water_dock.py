"""What stands beside the water: title, keys, the table of every drop, and the scale of speeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradientflow.records import Flow, Portrait, Story, Track
from gradientflow.report.dock import BRIGHT, CALM, FAINT, Dock
from gradientflow.report.flow_words import losses, point, scatter, tolerance, unresolved
from gradientflow.report.signs import DARK, DROP, GLYPHS, INKS, LINE, MOST_DOTS, MOST_NUMBERED, SHAPES, Glyph, basin_ink
from gradientflow.report.words import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CIRCLED = "①②③④⑤⑥⑦⑧⑨"


def fill_dock(dock: Dock, flow: Flow, portrait: Portrait, speeds: tuple[float, float], outside: dict[str, int]) -> None:
    """Write the dock.

    Args:
        dock: the column.
        flow, portrait: what is drawn.
        speeds: log10 of the speeds at the two ends of the water's colours.
        outside: for each optimizer, how many of its steps lie outside the picture.
    """
    dock.line("RIVER", 7.5, FAINT, weight="bold")
    dock.line(flow.field, 14, BRIGHT, weight="bold")
    if flow.description:
        dock.gap(0.03)
        dock.para(flow.description, 8.5, CALM)
    dock.rule()
    _keys(dock, flow, portrait, outside)
    dock.rule()
    for story in flow.stories[:MOST_NUMBERED]:
        _story(dock, story)
    if flow.drops is not None:
        _drops(dock, flow)
    if flow.potential and flow.stories and dock.y > 2.6:
        _curve(dock, flow.stories[0])
    scale(dock, speeds)


def _keys(dock: Dock, flow: Flow, portrait: Portrait, outside: dict[str, int]) -> None:
    def stroke(**style: Any) -> Callable[[Axes, float], Any]:
        return lambda axes, y: axes.plot([0.02, 0.2, 0.38], [y, y, y], **style)

    def glyph(sign: Glyph) -> Callable[[Axes, float], Any]:
        return lambda axes, y: sign.draw(axes, 0.2, y, 0.85)

    def double(axes: Axes, y: float) -> None:
        axes.plot([0.02, 0.38], [y, y], lw=4.0, color=LINE, solid_capstyle="butt")
        axes.plot([0.02, 0.38], [y, y], lw=1.5, color=DARK, solid_capstyle="butt")

    dock.key(stroke(color="#ffffff", lw=2.3), "flow, solved", colour=BRIGHT)
    labels = list(dict.fromkeys(t.label for s in flow.stories for t in s.descents))
    for k, label in enumerate(labels):
        same = [t for s in flow.stories for t in s.descents if t.label == label]
        told = f"{label}: {number(max((t.moments or len(t.times)) - 1 for t in same))} steps"
        if outside.get(label):
            told += f", {number(outside[label])} outside the picture"
        many = max(len(t.points) for t in same) > MOST_DOTS
        dock.key(
            stroke(
                color=INKS[k % len(INKS)], lw=1.1, marker="" if many else SHAPES[k % len(SHAPES)], ms=4.2, mec=DARK, mew=0.4
            ),
            told + (" (drawn as a line)" if many else ""), colour=BRIGHT,
        )  # fmt: skip
    if flow.drops is not None and flow.drops.count > MOST_NUMBERED:
        dock.key(
            stroke(ls="", marker="o", ms=4.4, color=DROP, markevery=[1]),
            "a drop, where it was put on the water"
            + ("; its colour: where it ended" if basin_ink(flow.drops, 0) else ""),
        )
    kinds = Counter(p.kind for p in portrait.fixed)
    for kind, sign in GLYPHS.items():
        if kinds[kind]:
            dock.key(glyph(sign), sign.name + (f"   ({kinds[kind]})" if kinds[kind] > 1 else ""))
    if portrait.valleys:
        dock.key(double, "valley of minima: all of it at rest")
    if portrait.ridges:
        dock.key(stroke(lw=2.0, color=LINE, ls=(0, (4, 2)), alpha=0.8), "ridge: at rest, but the flow leaves it")
    if portrait.separatrices:
        dock.key(stroke(ls=(0, (1, 2.4)), lw=1.3, color="#dfe7f5", alpha=0.8), "separatrix: no path crosses it")
    if portrait.loss is not None and flow.potential:
        dock.key(stroke(color="#c9a24d", lw=0.8, alpha=0.8), "level of the loss, logarithmic")


def _story(dock: Dock, story: Story) -> None:
    dock.gap(0.05)
    start = story.flow.points[0] if story.flow.points else tuple(story.flow.start)
    dock.line(
        f"drop {CIRCLED[story.drop - 1] if story.drop <= 9 else story.drop}  at {point(start)}",
        9, BRIGHT, weight="bold",
    )  # fmt: skip
    laws = [name for name, (begin, _) in story.flow.conserved.items()][:1]
    short = all(len(law) <= 12 for law in laws)
    head = ["", "ends at", "loss" if story.flow.loss else "‖dθ/dt‖", *(laws if short else ["conserved"][: len(laws)])]
    rows, colours = [], []
    for k, track in enumerate((story.flow, *story.descents)):
        row = [track.label, _where(track), _last(track)]
        for law in laws:
            ends = track.conserved.get(law)
            row.append("—" if ends is None else number(ends[1]))
        rows.append(row)
        colours.append("#ffffff" if k == 0 else INKS[(k - 1) % len(INKS)])
    dock.table(head, rows, colours)
    for law in laws:
        begin = story.flow.conserved[law][0]
        dock.line(f"{law} = {number(begin)} at the start; the flow keeps it", 7.5, FAINT)


def _drops(dock: Dock, flow: Flow) -> None:
    drops = flow.drops
    if drops is None:
        return
    dock.gap(0.05)
    dock.line(f"{number(drops.count)} drops, where they ended", 9, BRIGHT, weight="bold")
    if drops.scattered:
        dock.para(scatter(drops), 8, CALM)
        dock.para(losses(drops, moving=False), 8, CALM)
    else:
        rows = [
            [point(rest.at), number(rest.count), f"{100 * rest.count / drops.count:.0f} %", number(rest.loss, 2)]
            for rest in drops.rests[:8]
        ]
        if rows:
            inks = [basin_ink(drops, k) or CALM for k in range(len(rows))]
            dock.table(["place", "drops", "share", "loss" if drops.loss else ""], rows, inks)
        if len(drops.rests) > 8:
            dock.line(f"and {number(len(drops.rests) - 8)} more places", 7.5, FAINT)
    missing = sum(b < 0 for b in drops.basin)
    if missing:
        dock.line(f"{count(missing, 'drop')} still moved at the end", 8, CALM)
    odd = {r: n for r, n in drops.reasons.items() if r not in ("reached", "event")}
    for reason, some in odd.items():
        dock.line(f"✕ {number(some)} ended early: {reason}", 8, "#ff8a80")


def _curve(dock: Dock, story: Story) -> None:
    """The loss of the first drop over flow time, small, on the clock of all."""
    tracks = [t for t in (story.flow, *story.descents) if t.loss and len(t.times) > 1]
    seen = [x for t in tracks for x in t.loss or [] if x is not None]
    if not tracks or not seen:
        return
    axes = dock.inset(0.42, 1.15, dock.width - 0.45, min(dock.y - 1.75, 1.7))
    if min(seen) >= 0 and max(seen) > 0:
        axes.set_yscale("log")
        axes.set_ylim(max(min((x for x in seen if x > 0), default=1.0), 1e-16 * max(seen)) / 3, max(seen) * 3)
    for k, track in reversed(list(enumerate(tracks))):
        ink = "#ffffff" if track is story.flow else INKS[(k - 1 if tracks[0] is story.flow else k) % len(INKS)]
        values = [float("nan") if x is None else x for x in track.loss or []]
        axes.plot(track.times, values, color=ink, lw=1.8 if track is story.flow else 0.9)
    axes.set_xlim(0, max(t.times[-1] for t in tracks))
    shaded = _shade(axes, story.flow)
    axes.set_title(
        "loss over flow time" + (f", drop {story.drop}" if story.drop > 1 else "") + (f"; {shaded}" if shaded else ""),
        size=8,
        color=FAINT,
        loc="left",
        pad=4,
    )


def _shade(axes: Axes, flow: Track) -> str:
    """Shade where the flow's loss is below what its tolerance resolves, and say what is shaded; "" where it never is."""
    low = unresolved(flow.loss or [], flow.loss_floor)
    if not any(low):
        return ""
    bottom = axes.get_ylim()[0]
    tops = [max(f or bottom, bottom) for f in flow.loss_floor[: len(low)]]
    axes.fill_between(flow.times[: len(low)], tops, bottom, where=low, color=CALM, alpha=0.25, lw=0, zorder=1.5)
    return f"shaded: unresolved at {tolerance(flow) or 'this tolerance'}"


def scale(dock: Dock, speeds: tuple[float, float]) -> None:
    """The colours of the water, at the foot of the dock."""
    import numpy as np

    from gradientflow.report.water import tint

    colours = tint(np.linspace(0, 1, 240))[None]
    dock.axes.imshow(colours, extent=(0, dock.width, 0.42, 0.54), aspect="auto", interpolation="bilinear")
    dock.axes.set_xlim(0, dock.width)
    dock.axes.set_ylim(0, dock.axes.get_ylim()[1])
    names = (number(10.0 ** speeds[0], 2), "speed of the water ‖dθ/dt‖, logarithmic", number(10.0 ** speeds[1], 2))
    for x, text, align in zip((0, dock.width / 2, dock.width), names, ("left", "center", "right"), strict=True):
        dock.axes.text(x, 0.24, text, size=7.5, color=FAINT, ha=align, parse_math=False)


def _where(track: Track) -> str:
    end = track.points[-1] if track.points else tuple(track.final)
    return point(end)


def _last(track: Track) -> str:
    values = track.loss if track.loss else track.grad_norm
    return number(values[-1], 2) if values else "—"
