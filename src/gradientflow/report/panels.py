"""The figure of a flow in many dimensions: loss, gradient norm, sharpness, and distance to each descent, over flow time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradientflow.records import Flow, Story, Track
from gradientflow.report.dock import wrapped
from gradientflow.report.flow_words import power, solved_by, solving, tolerance, trust, unresolved
from gradientflow.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOW_INK = "#14213d"
INKS = ("#d55e00", "#0072b2", "#b5508c", "#009e73", "#c48a00", "#6a4fb3")  # Okabe and Ito 2008, some darker for white
PLATE = {"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}  # behind words that lines may cross
GREY, TEXT, FRAME = "#6b7688", "#1c2635", "#c9d0da"
WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 9.6, 1.75, 0.95, 1.75, 0.72, 0.72  # inches
BETWEEN, LINE = 0.16, 0.155
SPARSE = 40  # measured moments of a path that are marked as large dots
EACH = 0.125  # height of a label, as a share of a panel


def draw_panels(flow: Flow) -> Figure:
    """Return the figure: the flow as the thick dark line, each descent in its own colour with its name beside its end."""
    from matplotlib.figure import Figure

    story = flow.stories[0]
    kinds = _panels(story)
    said = _said(flow, story)
    bottom = BOTTOM + LINE * len(said)
    height = TOP + bottom + (PANEL + BETWEEN) * len(kinds) - BETWEEN
    figure = Figure(figsize=(WIDTH, height), dpi=150, facecolor="#ffffff")
    log = _logarithmic(story)
    begin = min((t.times[1] for t in (story.flow, *story.descents) if len(t.times) > 1), default=1e-3) if log else 0.0
    end = max(t.times[-1] for t in (story.flow, *story.descents) if t.times)
    first: Axes | None = None
    for k, kind in enumerate(kinds):
        low = bottom + (PANEL + BETWEEN) * (len(kinds) - 1 - k)
        axes = figure.add_axes(
            (LEFT / WIDTH, low / height, (WIDTH - LEFT - RIGHT) / WIDTH, PANEL / height), sharex=first
        )
        if first is None:
            first = axes
            if log:
                axes.set_xscale("log")
            axes.set_xlim(begin, end if end > begin else begin + 1)
        _frame(axes, last=k == len(kinds) - 1)
        {"loss": _loss, "slope": _slope, "sharp": _sharp, "apart": _apart, "step": _step}[kind](axes, story)
    figure.text(LEFT / WIDTH, 1 - 0.30 / height, flow.field, size=13, weight="bold", color=TEXT, parse_math=False)
    under = [f"{number(flow.size)} parameters, {flow.dtype}", f"flow time 0 to {number(end)}", flow.description]
    figure.text(
        LEFT / WIDTH, 1 - 0.54 / height, " · ".join(u for u in under if u), size=8.5, color=GREY, parse_math=False
    )  # fmt: skip
    _caption(figure, flow, said, height)
    return figure


def _panels(story: Story) -> list[str]:
    kinds = ["loss"] if story.flow.loss else []
    kinds.append("slope")
    if any(x is not None for t in (story.flow, *story.descents) for x in t.sharpness):
        kinds.append("sharp")
    kinds.append("apart" if story.apart else "step")
    return kinds


def _logarithmic(story: Story) -> bool:
    """Whether most moments lie in the first twentieth of the time: then time is drawn on a log axis."""
    times = story.flow.times
    return len(times) > 8 and times[-1] > 0 and times[len(times) // 2] < 0.05 * times[-1]


def _frame(axes: Axes, *, last: bool) -> None:
    for name, side in axes.spines.items():
        side.set_visible(name in ("left", "bottom"))
        side.set_color(FRAME)
    axes.grid(True, which="major", color="#eceff3", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelsize=8, length=3, color=FRAME, labelbottom=last)
    axes.tick_params(which="minor", length=0, labelleft=False, labelbottom=False)
    if last:
        axes.set_xlabel(
            "flow time t  (one gradient-descent step of learning rate η advances t by η)", size=9, color=TEXT
        )


def _name(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, size=9, color=TEXT)
    axes.yaxis.set_label_coords(-0.085, 0.5)


def _lines(
    axes: Axes, story: Story, which: str, *, positive: bool, measured: bool = False
) -> list[tuple[float, str, str]]:
    """Draw one quantity of every path, the descents below the flow; return where each ends, its name and ink.

    `measured`: known only at some moments; those are marked, and what joins them is thin.
    """
    ends: list[tuple[float, str, str]] = []
    values = [(t, getattr(t, which) or []) for t in (story.flow, *story.descents)]
    seen = [x for _, ys in values for x in ys if x is not None and math.isfinite(x)]
    if positive and seen and min(seen) >= 0 and max(seen) > 0:
        axes.set_yscale("log")
        top = max(seen)
        floor = max(min((x for x in seen if x > 0), default=1e-16), 1e-18 * top)
        axes.set_ylim(floor / 1.6, top * 1.8)
    for k, (track, ys) in reversed(list(enumerate(values))):
        if not any(y is not None for y in ys):
            continue
        ink, thick = (FLOW_INK, 2.6) if k == 0 else (INKS[(k - 1) % len(INKS)], 1.2 if len(ys) < 1500 else 0.8)
        known, layer = _known(track.times, ys), 3 if k == 0 else 2
        if measured:
            size = (1.3 if k == 0 else 0.8) * (4.0 if len(known[0]) <= SPARSE else 2.2)
            axes.plot(*known, color=ink, lw=1.0 if k == 0 else 0.7, ls=(0, (1.5, 1.5)), zorder=layer)
            axes.plot(*known, color=ink, lw=0, marker="o", ms=size, mew=0, zorder=layer)
        else:
            axes.plot(*known, color=ink, lw=thick, solid_capstyle="round", zorder=layer)
        last = next((y for y in reversed(ys) if y is not None and math.isfinite(y)), None)
        if last is not None:
            ends.append((last, track.label, ink))
    return ends


def _known(times: Sequence[float], ys: Sequence[float | None]) -> tuple[list[float], list[float]]:
    pairs = [(t, y) for t, y in zip(times, ys, strict=False) if y is not None]
    return [t for t, _ in pairs], [y for _, y in pairs]


def _beside(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Names at the right edge, at the height where each line ends; those that would overlap share the room around it."""
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = sorted(
        (min(max(float(to_axes.transform((axes.get_xlim()[1], y))[1]), 0.0), 1.0), n, i) for y, n, i in ends
    )
    heaps: list[list[float]] = []  # [sum of the wanted heights, number of names]
    for at, _, _ in wanted:
        heaps.append([at, 1])
        while len(heaps) > 1 and _middle(heaps[-1]) - _middle(heaps[-2]) < EACH * (heaps[-1][1] + heaps[-2][1]) / 2:
            last = heaps.pop()
            heaps[-1] = [heaps[-1][0] + last[0], heaps[-1][1] + last[1]]
    places = [_middle(heap) + EACH * (k - (heap[1] - 1) / 2) for heap in heaps for k in range(int(heap[1]))]
    for (_, label, ink), at in zip(wanted, places, strict=True):
        axes.text(
            1.015, at, label, transform=axes.transAxes, size=8.5, color=ink, va="center",
            weight="bold" if ink == FLOW_INK else "normal", parse_math=False,
        )  # fmt: skip


def _middle(heap: list[float]) -> float:
    half = EACH * heap[1] / 2
    return min(max(heap[0] / heap[1], half - 0.05), 1.05 - half)


def _loss(axes: Axes, story: Story) -> None:
    _name(axes, "loss L")
    _beside(axes, _lines(axes, story, "loss", positive=True))
    _shade(axes, story.flow, story.flow.loss or [], story.flow.loss_floor)


def _slope(axes: Axes, story: Story) -> None:
    _name(axes, "‖∇L‖" if story.flow.loss else "‖dθ/dt‖")
    _beside(axes, _lines(axes, story, "grad_norm", positive=True))
    _shade(axes, story.flow, story.flow.grad_norm, story.flow.grad_floor)


def _shade(axes: Axes, track: Track, values: Sequence[float | None], floors: Sequence[float | None]) -> None:
    """Shade what the flow's tolerance does not resolve, over the times at which the flow itself is there."""
    low = unresolved(values, floors)
    if not any(low):
        return
    bottom = axes.get_ylim()[0]
    times = track.times[: len(low)]
    tops = [max(f or bottom, bottom) for f in floors[: len(low)]]
    axes.fill_between(
        times, tops, bottom, where=low, color=GREY, alpha=0.22, lw=0, hatch="////", edgecolor="#ffffff", zorder=3.5
    )
    axes.annotate(
        f"shaded: below what {tolerance(track) or 'the tolerance'} resolves", (0.012, 0.09), xycoords="axes fraction", size=7.5,
        color=GREY, bbox=PLATE, parse_math=False, zorder=4,
    )  # fmt: skip


def _sharp(axes: Axes, story: Story) -> None:
    """Sharpness where it was measured; the line at which each descent gets unstable; and between which times the flow crosses it."""
    _name(axes, "sharpness λ")
    ends = _lines(axes, story, "sharpness", positive=False, measured=True)
    tracks = (story.flow, *story.descents)
    seen = [x for t in tracks for x in t.sharpness if x is not None and math.isfinite(x)]
    lines = [(k, t) for k, t in enumerate(story.descents) if t.threshold is not None]
    near = [t.threshold for _, t in lines if t.threshold is not None and t.threshold <= 4 * max(seen)]
    top = 1.12 * max([*seen, *near])
    axes.set_ylim(min(0.0, 1.1 * min(seen)), top)
    _beside(axes, ends)
    for k, track in lines:
        if track.threshold is None:
            continue
        ink = INKS[k % len(INKS)]
        told = f"{track.threshold_name or 'stable below'} = {number(track.threshold)}"
        if track.threshold > top:
            axes.text(
                0.995, 0.93 - 0.13 * k, f"{told} ({track.label}): above the picture ↑", transform=axes.transAxes, size=7.5, bbox=PLATE,
                color=ink, ha="right", va="center", parse_math=False,
            )  # fmt: skip
            continue
        axes.axhline(track.threshold, color=ink, lw=1.0, ls=(0, (5, 3)), zorder=1.5)
        axes.annotate(
            told, (0.008, track.threshold), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
            size=7.5, bbox=PLATE, color=ink, parse_math=False,
        )  # fmt: skip
        cross = crossing(story, track)
        if cross is not None:
            axes.plot(cross, [track.threshold] * 2, color=ink, lw=4.0, solid_capstyle="butt", zorder=3.5)
            axes.plot([cross[1]], [track.threshold], marker="X", ms=7, color=ink, mec="#ffffff", mew=0.8, zorder=4)
    axes.text(
        0.995, 0.07, "dots: measured; dotted lines only join them", transform=axes.transAxes, size=7.5, bbox=PLATE, color=GREY,
        va="center", ha="right",
    )  # fmt: skip


def crossing(story: Story, track: Track) -> tuple[float, float] | None:
    """The two measured times between which the flow's sharpness passes a descent's threshold, as the comparison told them."""
    if track.threshold is None:
        return None
    return next((a.crossed for a in story.apart if a.label == track.label), None)


def _apart(axes: Axes, story: Story) -> None:
    """Distance of each descent to the flow, measured and, thin, as the theory's leading term predicts it."""
    _name(axes, "distance to flow")
    inks = {t.label: INKS[k % len(INKS)] for k, t in enumerate(story.descents)}
    ends: list[tuple[float, str, str]] = []
    seen = [x for a in story.apart for x in a.distance if x]
    if seen:
        axes.set_yscale("log")
        axes.set_ylim(max(min(seen), 1e-6 * max(seen)) / 1.6, 2.2 * max(seen))
    for a in story.apart:
        ink = inks.get(a.label, GREY)
        axes.plot(*_known(a.times, [x or None for x in a.distance]), color=ink, lw=1.4)
        if any(a.predicted):
            axes.plot(
                *_known(a.times, [x or None for x in a.predicted]), color=ink, lw=1.0, ls=(0, (1.5, 1.5)), alpha=0.8
            )
        last = next((x for x in reversed(a.distance) if x), None)
        if last is not None:
            ends.append((last, a.label, ink))
        if a.left is not None and seen:
            axes.axvline(a.left, color=ink, lw=0.9, alpha=0.7)
            axes.annotate(
                "leaves", (a.left, 0.04), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
                size=7.5, bbox=PLATE, color=ink,
            )  # fmt: skip
    _beside(axes, ends)
    if any(any(a.predicted) for a in story.apart):
        axes.text(
            0.995, 0.07, "dotted: predicted to leading order, η‖e(t)‖", transform=axes.transAxes, size=7.5, bbox=PLATE, color=GREY,
            va="center", ha="right",
        )  # fmt: skip


def _step(axes: Axes, story: Story) -> None:
    _name(axes, "step h")
    axes.set_yscale("log")
    axes.plot(
        *_known(story.flow.times, [h or None for h in story.flow.step]), color=FLOW_INK, lw=1.6, drawstyle="steps-pre"
    )
    most = max(story.flow.stages, default=0)
    axes.text(
        0.008, 0.93, f"flow time in one step, at most {number(most)} gradients each", transform=axes.transAxes, size=7.5, bbox=PLATE,
        color=GREY, va="center",
    )  # fmt: skip


def _said(flow: Flow, story: Story) -> list[str]:
    """The caption, in lines."""
    said = [f"flow: solved by {solved_by(flow)}"]
    for t in story.descents:
        end = "" if t.ending.ok else f", {t.ending.reason}"
        said.append(f"{t.label}: {number(solving(t.spent))} gradients{end}")
    for t in story.descents:
        at = crossing(story, t)
        if at is not None:
            when = f"between t = {power(at[0])} and {power(at[1])}" if at[1] else "from the start"
            said.append(f"✕ the flow's sharpness passes {t.threshold_name} of {t.label} {when}")
    return wrapped(" · ".join(said), WIDTH - LEFT - 0.4, 8)


def _caption(figure: Figure, flow: Flow, said: list[str], height: float) -> None:
    y = BOTTOM - 0.55 + LINE * len(said)
    for line in said:
        figure.text(LEFT / WIDTH, y / height, line, size=8, color=GREY, parse_math=False)
        y -= LINE
    figure.text(
        LEFT / WIDTH, y / height, trust(flow), size=8, color="#c62828" if flow.broken else TEXT,
        weight="bold" if flow.broken else "normal", parse_math=False,
    )  # fmt: skip
