"""Bars in a terminal: one row's bar, the axis above the bars, the strip of a budget, a sparkline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from gradientflow.records import Share
from gradientflow.report.rows import Scale, Span, broken
from gradientflow.report.words import decades, elide, finite, is_zero, one_line

EIGHTHS = " ▏▎▍▌▋▊▉█"
_SEEN = 3  # eighths of a cell that a shade is worth
SPARKS = "▁▂▃▄▅▆▇█"

# The ink of each meaning; blue is the gradient that is left, and it dims as it gets less.
INK = {
    "vanishing": "#e8772e",
    "exploding": "#d94fb0",
    "not-finite": "#e5484d",
    "dead": "#8b95a7",
    "healthy": "#2f9e7d",
    "not-measured": "#8b95a7",
    "watching": "#8b95a7",
    "left": "#3f8fc0",
    "took": "#9a7b66",
    "grew": "#9a78b0",
    "merge": "#5b7f95",
}
_DEEP, _BRIGHT = (28, 74, 120), (78, 176, 214)
_STRIP = ("#3b6ea5", "#b8652f", "#3f8577", "#7a62a3", "#8a7a3c", "#6b7280")


def ink(symptom: str | None) -> str:
    """The colour of a symptom; orange for the ones without their own."""
    return INK.get(symptom or "", INK["vanishing"])


def _flow(at: float) -> str:
    """The blue of the gradient at a place of the axis, dim at the low end."""
    r, g, b = (round(d + (e - d) * at) for d, e in zip(_DEEP, _BRIGHT, strict=True))
    return f"#{r:02x}{g:02x}{b:02x}"


def bar(row: Share, span: Span, axis: Scale, width: int, *, plain: bool) -> Text:
    """One row's bar: what is left, and at its end what this row took (░) or added (▒).

    Args:
        row: the row, for its kind and mark.
        span: decades before and after it.
        axis: the common scale.
        width: cells.
        plain: without colours; shades tell the pieces apart.

    Returns:
        A text of exactly `width` cells.
    """
    if broken(row) and span.after is None:
        return Text(("✕ " * width)[:width], style="" if plain else INK["not-finite"])
    units = 8 * width
    have = [max(round(units * axis(x)), 1) for x in span if x is not None]  # (what is not zero is seen)
    if not have:
        return _empty(axis, width, 0, plain)
    solid = 0 if span.after is None else min(have)
    end = max(have)
    grew = span.before is not None and span.after is not None and span.after > span.before
    if row.mark:
        piece = ink(row.mark)
    else:
        piece = INK["merge"] if row.kind == "branch" else INK["grew" if grew else "took"]
    text = Text()
    for cell in range((end + 7) // 8):
        s, p = min(max(solid - 8 * cell, 0), 8), min(max(end - 8 * cell, 0), 8)
        flow = _flow((cell + 0.5) / width)
        if plain:
            seen = p >= _SEEN or end <= _SEEN  # the end of a piece, or all there is
            text.append("█" if s == 8 else EIGHTHS[s] if s else ("▒" if grew else "░") if seen else " ")
        elif s == 8:
            text.append("█", flow)
        elif s:
            text.append(EIGHTHS[s], Style(color=flow, bgcolor=piece if p - s >= 4 else None))
        else:
            text.append(EIGHTHS[p], piece)
    return text + _empty(axis, width, len(text), plain)


def _empty(axis: Scale, width: int, start: int, plain: bool) -> Text:
    """The rest of a row: a dot at each whole decade."""
    dots = {min(int(width * axis(float(d))), width - 1) for d in range(math.ceil(axis.low), math.floor(axis.high) + 1)}
    return Text("".join("·" if c in dots else " " for c in range(start, width)), style="" if plain else "dim")


def ruler(axis: Scale, width: int) -> str:
    """The axis above the bars: decades at their places, as many as fit."""
    line = [" "] * width
    step = max(1, math.ceil((axis.high - axis.low) * 6 / width))
    free = width + 1
    for d in range(math.floor(axis.high), math.ceil(axis.low) - 1, -1):
        if d % step:
            continue
        text = "1" if d == 0 else f"10^{d}".replace("-", "−")
        start = min(int(width * axis(float(d))), width - 1) - len(text) + 1
        if start >= 0 and start + len(text) < free:
            line[start : start + len(text)] = text
            free = start
    return "".join(line).rstrip()


def sorted_parts(shares: Sequence[Share]) -> list[Share]:
    """Parts that changed the gradient, by as much as is told of it (0.00 is nothing), the largest first."""
    parts = [s for s in shares if s.decades is not None and math.isfinite(s.decades) and not is_zero(s.decades)]
    return sorted(parts, key=lambda s: -abs(s.decades or 0.0))


def strip(shares: Sequence[Share], width: int, *, plain: bool) -> list[Text]:
    """A budget as one divided strip, the largest part first, with every part in words below it.

    Args:
        shares: rows by kind or by module.
        width: cells of the strip.
        plain: without colours.

    Returns:
        The strip, then lines that name the parts with their signed decades.
    """
    parts = sorted_parts(shares)
    total = sum(abs(s.decades or 0) for s in parts)
    if not total:
        return []
    line, used = Text(), 0
    for k, part in enumerate(parts):
        share, behind = abs(part.decades or 0) / total, len(parts) - 1 - k
        cells = min(max(round(share * width), 1), width - used - behind) if behind else width - used
        if cells <= 0:
            continue
        used += cells
        if plain:
            body = f" {one_line(part.name)} " if cells >= cell_len(one_line(part.name)) + 4 else ""
            end = "┤" if k == len(parts) - 1 and cells > 1 else ""
            line.append("├" + body.center(cells - 1 - len(end), "─") + end)
        else:
            name = elide(one_line(part.name), cells - 1) if cells > 4 else ""
            style = Style(color="#ffffff", bgcolor=_STRIP[min(k, len(_STRIP) - 1)])
            line.append(f" {name}".ljust(cells)[:cells] if cell_len(name) == len(name) else " " * cells, style)
    words = Text()
    lines = [line]
    for k, part in enumerate(parts[:12]):
        piece = Text.assemble(
            ("" if plain else "■ ", "" if plain else _STRIP[min(k, len(_STRIP) - 1)]),
            one_line(part.name),
            " ",
            (decades(part.decades), "" if plain else "bold"),
        )
        if words and cell_len(words.plain) + 3 + cell_len(piece.plain) > width:
            lines.append(words)
            words = Text()
        words = Text.assemble(words, " · ", piece) if words else piece
    return [*lines, words]


def sparkline(values: Sequence[float | None], width: int) -> str:
    """A curve in `width` cells; on a log scale where it spans more than two decades; ✕ where it is not finite; empty where it is
    exactly zero and goes no lower.

    Example:
        >>> sparkline([2.0, 1.0, 1e-9, 0.0], 4), sparkline([0.0, 0.0], 2), sparkline([-1.0, 0.0, 1.0], 3)
        ('█▅▁ ', '  ', '▁▅█')
    """
    cells: list[float | None] = []
    n = min(width, len(values))
    for k in range(n):
        part = [v for v in values[k * len(values) // n : (k + 1) * len(values) // n] if v is not None]
        if part:
            good = finite(part)
            cells.append(sum(good) / len(good) if len(good) == len(part) else None)
    seen = finite(cells)
    if not seen:
        return "✕" * len(cells)
    least = min(seen)
    log = least > 0 and max(seen) > 100 * min(seen)
    low, high = (math.log(min(seen)), math.log(max(seen))) if log else (min(seen), max(seen))
    out = ""
    for v in cells:
        if v is None:
            out += "✕"
        elif v == 0 == least:
            out += " "
        elif high / 2 - low / 2 <= 1e-12 * max(abs(high), abs(low)):
            out += SPARKS[3]
        else:  # (halved, as the difference of two large numbers overflows)
            out += SPARKS[min(int(8 * ((math.log(v) if log else v) / 2 - low / 2) / (high / 2 - low / 2)), 7)]
    return out
