"""What stands beside the picture of a plane: which plane it is, the keys, how far each path is from it, and two scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradientflow.records import Flow, Portrait
from gradientflow.report.dock import BRIGHT, CALM, FAINT, Dock, shortened, width_of, wrapped
from gradientflow.report.flow_words import share
from gradientflow.report.signs import INKS, MOST_NUMBERED, SHAPES
from gradientflow.report.water_dock import scale
from gradientflow.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHITE = "#ffffff"


def fill_plane_dock(dock: Dock, portrait: Portrait, flow: Flow | None, speeds: tuple[float, float]) -> None:
    """Write the dock.

    Args:
        dock: the column.
        portrait: what is drawn.
        flow: what was solved, for the losses of the paths; None where that is not known.
        speeds: log10 of the speeds at the two ends of the water's colours.
    """
    dock.line("RIVER · A PLANE" if portrait.plane else "RIVER", 7.5, FAINT, weight="bold")
    for part in wrapped(portrait.name, dock.width, 13, "bold"):
        dock.line(
            part if width_of(part, 13, "bold") <= dock.width else shortened(part, 0.88 * dock.width, 13),
            13,
            BRIGHT,
            weight="bold",
        )
    plane = portrait.plane
    if plane is not None:
        dock.gap(0.04)
        dock.para(f"two of {number(plane.size)} dimensions: {plane.about}", 8.5, CALM)
        if plane.share is not None:
            dock.para(f"they hold {share(sum(plane.share))} of the variance of the path's points", 8.5, CALM)
    dock.rule()
    _keys(dock, portrait)
    if portrait.shadows:
        dock.rule()
        _distances(dock, portrait, flow)
    if portrait.leak:
        dock.rule()
        _leaks(dock, portrait)
    heights = [x for x in portrait.loss or [] if x is not None]
    if heights:
        dock.para(f"the loss in the picture goes from {number(min(heights), 2)} to {number(max(heights), 2)}", 8, CALM)
    for note in portrait.notes[:3]:
        dock.para(note, 7.5, FAINT)
    if portrait.leak:
        _leak_scale(dock)
    scale(dock, speeds)


def inks(portrait: Portrait) -> dict[str, str]:
    """The colour of each path by its label: flows white, optimizers in their order."""
    labels = dict.fromkeys(s.label for s in portrait.shadows if s.kind != "flow")
    told = {s.label: WHITE for s in portrait.shadows if s.kind == "flow"}
    return told | {label: INKS[k % len(INKS)] for k, label in enumerate(labels)}


def _keys(dock: Dock, portrait: Portrait) -> None:
    def stroke(**style: Any) -> Callable[[Axes, float], Any]:
        return lambda axes, y: axes.plot([0.02, 0.2, 0.38], [y, y, y], **style)

    def cross(axes: Axes, y: float) -> None:
        axes.plot([0.2], [y], ls="", marker="+", ms=7.5, color=BRIGHT, mew=1.4)

    flows = sum(ink == WHITE for ink in inks(portrait).values())
    for k, (label, ink) in enumerate(inks(portrait).items()):
        white = ink == WHITE
        sign: dict[str, Any] = {
            "marker": SHAPES[(k - flows) % len(SHAPES)],
            "ms": 5.5,
            "mec": WHITE,
            "mew": 0.8,
            "markevery": [2],
        }
        dock.key(
            stroke(color=ink, lw=2.3 if white else 1.2, **({} if white else sign)),
            "flow, solved: its shadow" if white else f"{label}, and where it ends", colour=BRIGHT,
        )  # fmt: skip
    if any(s.off and max(s.off) > portrait.near for s in portrait.shadows):
        dock.key(
            stroke(color=WHITE, lw=1.6, ls=(0, (2.6, 1.9))), f"dashed: the path is more than {number(portrait.near, 2)} away from the plane"
        )  # fmt: skip
    if portrait.loss is not None:
        dock.key(stroke(color="#c9a24d", lw=0.9, alpha=0.9), "level of the loss, logarithmic: true in the plane")
    for name in portrait.plane.marks if portrait.plane and len(portrait.plane.marks) == 1 else ():
        dock.key(cross, name)


def _distances(dock: Dock, portrait: Portrait, flow: Flow | None) -> None:
    """How far from the plane each path is: at its start, at its farthest, at its end."""
    dock.line("distance out of the plane", 9, BRIGHT, weight="bold")
    losses = _losses(flow)
    head = ["", "start", "most", "end", *(["loss"] if losses else [])]
    rows, colours = [], []
    for seen in [s for s in portrait.shadows if s.off][:MOST_NUMBERED]:
        row = [seen.label, *(number(x, 2) for x in (seen.off[0], max(seen.off), seen.off[-1]))]
        if losses:
            row.append(losses.get(seen.label, "—"))
        rows.append(row)
        colours.append(inks(portrait)[seen.label])
    if rows:
        dock.table(head, rows, colours)
        dock.line(
            f"the picture is {_side(portrait.box[0], portrait.box[1])} wide, {_side(*portrait.box[2:])} high",
            7.5,
            FAINT,
        )


def _side(low: float, high: float) -> str:
    return number(high - low, 2)


def _losses(flow: Flow | None) -> dict[str, str]:
    if flow is None or not flow.stories:
        return {}
    tracks = (flow.stories[0].flow, *flow.stories[0].descents)
    return {t.label: number(t.loss[-1], 2) for t in tracks if t.loss}


def _leaks(dock: Dock, portrait: Portrait) -> None:
    known = sorted(x for x in portrait.leak if x is not None)
    dock.line("leak: the share of dθ/dt that leaves the plane", 9, BRIGHT, weight="bold")
    if not known:
        dock.line("not known: the rate is zero, or not finite", 8, CALM)
        return
    tenth, half, most = (number(known[round(q * (len(known) - 1))], 2) for q in (0.1, 0.5, 0.9))
    dock.para(f"a tenth of the samples leak at most {tenth}, half of them {half}, nine tenths {most}", 8, CALM)


def _leak_scale(dock: Dock) -> None:
    """From the water's colour to grey, above the scale of speeds."""
    import numpy as np

    from gradientflow.report.water import greyed, tint

    at = np.linspace(0, 1, 240)
    colours = greyed(tint(np.full(240, 0.75)), at)[None]
    top = dock.axes.get_ylim()[1]
    dock.axes.imshow(colours, extent=(0, dock.width, 0.92, 1.04), aspect="auto", interpolation="bilinear")
    dock.axes.set_ylim(0, top)
    for x, text, align in (
        (0.0, "0", "left"),
        (dock.width / 2, "leak: grey water leaves the plane", "center"),
        (dock.width, "1", "right"),
    ):
        dock.axes.text(x, 0.74, text, size=7.5, color=FAINT, ha=align, parse_math=False)
