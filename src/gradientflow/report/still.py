"""Small still pictures for places where nothing moves, as the output of a notebook's cell: SVG in a figure, and a sentence.

They load nothing and run nothing. Text takes the colour of what is around it and inks are of middling lightness, so that they are
read on white and on black.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from gradientflow.report.words import finite, number, one_line

WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 560, 160, 64, 20, 10
INKS = ("#2f86c6", "#d07018", "#8a6fd1", "#c2559b", "#2f9a70", "#a07c2c")  # each 3:1 on white and on #111
FAINT, POINTS, MOST = 0.28, 300, 12  # opacity of lines of the frame; points of a curve; names beside bars
SPAN = 30  # largest over least, from which on a scale is logarithmic
FONT = "font-family:system-ui,sans-serif;font-size:12px"


class Curve(NamedTuple):
    """A curve: its name, and where it goes; what is not finite is a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Arrow(NamedTuple):
    """Where a field leads at a point."""

    x: float
    y: float
    u: float
    v: float


def chart(curves: Sequence[Curve], said: str, across: str, up: str) -> str:
    """Return curves on one pair of axes; logarithmic upwards where they span much.

    Args:
        curves: at least one.
        said: the picture in a sentence.
        across, up: what the axes are.
    """
    xs, ys = finite(x for c in curves for x in c.x), finite(y for c in curves for y in c.y)
    if not xs or not ys:
        return figure("", said)
    log = min(ys) > 0 and max(ys) > SPAN * min(ys)
    left, right = _wide(min(xs), max(xs))
    low, high = _wide(*(math.log10(y) if log else y for y in (min(ys), max(ys))))

    def place(x: float, y: float) -> tuple[float, float] | None:
        if not (math.isfinite(x) and math.isfinite(y)) or (log and y <= 0):
            return None
        height = (math.log10(y) if log else y) - low
        return LEFT + (WIDTH - LEFT - 8) * (x - left) / (right - left), HEIGHT - BELOW - (
            HEIGHT - BELOW - ABOVE
        ) * height / (high - low)

    parts = [_frame(across, up), *_ends(left, right, *((10**low, 10**high) if log else (low, high)))]
    for k, curve in enumerate(curves):
        points = [place(x, y) for x, y in _thin(list(zip(curve.x, curve.y, strict=True)))]
        parts.append(f'<path d="{_pen(points)}" fill="none" stroke="{INKS[k % len(INKS)]}" stroke-width="1.8"/>')
    return figure(_svg(HEIGHT, "".join(parts), said), said, [c.name for c in curves] if len(curves) > 1 else [])


def bars(rows: Sequence[tuple[str, float]], said: str) -> str:
    """Return the first of some named sizes as bars, on a scale of decades where they span much; what is not finite has none."""
    shown = [(name, x) for name, x in rows[:MOST]]
    sizes = [x for x in finite(x for _, x in shown) if x > 0]
    if not sizes:
        return figure("", said)
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    log = max(sizes) > SPAN * min(sizes)
    parts, room = [], WIDTH - 300
    for k, (name, x) in enumerate(shown):
        y = 18 * k + 13
        part = (
            ((math.log10(x) - low + 1) / (high - low + 1) if log else x / max(sizes))
            if x > 0 and math.isfinite(x)
            else 0.0
        )
        told = one_line(name)
        parts.append(
            f'<text x="190" y="{y}" text-anchor="end" fill="currentColor">{escape(told if len(told) <= 28 else "…" + told[-27:])}</text>'
        )
        parts.append(f'<rect x="198" y="{y - 9}" width="{room * part:.1f}" height="10" fill="{INKS[0]}"/>')
        parts.append(f'<text x="{206 + room * part:.1f}" y="{y}" fill="currentColor">{escape(number(x))}</text>')
    return figure(_svg(18 * len(shown) + 6, "".join(parts), said), said)


def arrows(found: Sequence[Arrow], trail: Sequence[tuple[float, float]], said: str) -> str:
    """Return where a field of two parameters leads: an arrow at each of some points, longer where it is faster, and a drop's way."""
    seen = [a for a in found if all(map(math.isfinite, a))]
    if not seen:
        return figure("", said)
    left, right = _wide(min(a.x for a in seen), max(a.x for a in seen))
    low, high = _wide(min(a.y for a in seen), max(a.y for a in seen))
    fastest = max(math.hypot(a.u, a.v) for a in seen) or 1.0
    tall = 300

    def place(x: float, y: float) -> tuple[float, float]:
        return 16 + (WIDTH - 32) * (x - left) / (right - left), tall - 16 - (tall - 32) * (y - low) / (high - low)

    parts = []
    for a in seen:
        x, y = place(a.x, a.y)
        speed = math.hypot(a.u, a.v)
        if not speed:
            continue
        way = (WIDTH - 32) / (right - left) * a.u, -(tall - 32) / (high - low) * a.v
        far = (5 + 13 * (speed / fastest) ** 0.35) / (math.hypot(*way) or 1.0)
        dx, dy = way[0] * far, way[1] * far
        parts.append(f'<path d="M{x - dx / 2:.1f} {y - dy / 2:.1f}l{dx:.1f} {dy:.1f}m{-0.3 * dx - 0.18 * dy:.1f} {-0.3 * dy + 0.18 * dx:.1f}l{0.3 * dx + 0.18 * dy:.1f} {0.3 * dy - 0.18 * dx:.1f}'
                     f'l{-0.3 * dx + 0.18 * dy:.1f} {-0.3 * dy - 0.18 * dx:.1f}" fill="none" stroke="{INKS[0]}" stroke-width="1.2"/>')  # fmt: skip
    drawn = [place(*p) for p in _thin(list(trail)) if left <= p[0] <= right and low <= p[1] <= high]
    if drawn:
        parts.append(f'<path d="{_pen(drawn)}" fill="none" stroke="{INKS[1]}" stroke-width="2.4"/>')
        parts.append(f'<circle cx="{drawn[0][0]:.1f}" cy="{drawn[0][1]:.1f}" r="4" fill="{INKS[1]}"/>')
    return figure(_svg(tall, "".join(parts), said), said)


def figure(picture: str, said: str, names: Sequence[str] = ()) -> str:
    """Return a picture with its sentence below, and which ink is whose."""
    keys = "".join(
        f'<span style="margin-right:14px;white-space:nowrap"><span style="color:{INKS[k % len(INKS)]}">━</span> {escape(one_line(name))}</span>'
        for k, name in enumerate(names)
    )
    legend = f'<div style="{FONT}">{keys}</div>' if keys else ""
    return f'<figure style="margin:4px 0;max-width:{WIDTH}px">{picture}{legend}<figcaption style="{FONT}">{escape(one_line(said))}</figcaption></figure>'


def _svg(height: float, inside: str, said: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(one_line(said))}" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'style="width:100%;height:auto;{FONT}">{inside}</svg>'
    )


def _frame(across: str, up: str) -> str:
    right, base = WIDTH - 8, HEIGHT - BELOW
    return (
        f'<path d="M{LEFT} {ABOVE}V{base}H{right}" fill="none" stroke="currentColor" opacity="{FAINT}"/>'
        f'<text x="{(LEFT + right) / 2:.0f}" y="{base + 15}" text-anchor="middle" fill="currentColor">{escape(one_line(across))}</text>'
        f'<text x="{right}" y="{ABOVE + 8}" text-anchor="end" fill="currentColor">{escape(one_line(up))}</text>'
    )


def _ends(left: float, right: float, low: float, high: float) -> list[str]:
    """The numbers at the ends of both axes."""
    base = HEIGHT - BELOW
    told = [
        (LEFT, base + 15, "start", left),
        (WIDTH - 8, base + 15, "end", right),
        (LEFT - 6, base, "end", low),
        (LEFT - 6, ABOVE + 8, "end", high),
    ]
    return [
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor">{escape(number(value))}</text>'
        for x, y, anchor, value in told
    ]


def _wide(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    by = max(1, math.ceil(len(points) / POINTS))
    return [*points[::by], *points[-1:]] if by > 1 else points


def _pen(points: Sequence[tuple[float, float] | None]) -> str:
    """A line through points, lifted where there is none."""
    out, pen = "", "M"
    for p in points:
        if p is None:
            pen = "M"
            continue
        out += f"{pen}{p[0]:.1f} {p[1]:.1f}"
        pen = "L"
    return out
