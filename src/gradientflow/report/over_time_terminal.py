"""The gradient over time in a terminal: one line per layer and direction, with a curve over t."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from gradientflow.records import Run, Verdict
from gradientflow.report import tell, words
from gradientflow.report.bars import INK, SPARKS, ink
from gradientflow.report.over_time import Row, over_time

_WIDEST, _NARROWEST = 60, 12  # cells of a curve


def time_lines(verdict: Verdict, run: Run | None, width: int, *, plain: bool) -> Iterator[Text]:
    """Yield the lines, beginning with an empty one; nothing where nothing recurs.

    Args:
        verdict: what the run means.
        run: what was seen of it.
        width: columns.
        plain: without colours.
    """
    shown = over_time(verdict, run)
    if shown is None:
        return
    names = [_name(row) for row in shown.rows]
    w_name = min(max(map(cell_len, names)), max(width // 3, 20))
    heads = ["carried", "reach", "ρ", "λ"]
    cells = [[r.carried, r.reach, r.radius, r.exponent] for r in shown.rows]
    widths = [max(cell_len(x) for x in column) for column in zip(heads, *cells, strict=True)]
    while (w_curve := min(width - 6 - w_name - sum(widths) - 2 * len(widths), _WIDEST)) < _NARROWEST and widths:
        widths.pop()  # in a narrow terminal the curve comes before the numbers
    longest = max(r.seen.steps for r in shown.rows)
    w_curve = min(w_curve, max(longest, _NARROWEST))
    yield Text()
    kinds = {r.what for r in shown.rows}
    what = "∂L/∂h_t, ∂L/∂c_t of an LSTM" if len(kinds) > 1 else f"∂L/∂{kinds.pop()}_t"
    scale = f"log scale: █ its largest, ▁ 10^{int(shown.low)} of it or less".replace("-", "−")
    title = f"  the gradient over time, {what}"
    rest = words.elide(f"   {scale}   step {shown.step}", max(width - cell_len(title), 1))
    yield Text.assemble((title, "bold"), (rest, "dim"))
    ends = {(r.seen.skipped + 1, r.seen.skipped + r.seen.steps) for r in shown.rows}
    first, last = ends.pop() if len(ends) == 1 else ("first", "last")
    axis = f"t = {first}" + str(last).rjust(w_curve - len(f"t = {first}"))
    head = "  ".join(words.pad(h, w, right=True) for h, w in zip(heads, widths, strict=False))
    yield Text("  " + " " * w_name + "  " + axis + "  " + head, "dim")
    for row, name, numbers in zip(shown.rows, names, cells, strict=True):
        tone = f"bold {ink(row.mark)}" if row.mark and not plain else ""
        line = Text.assemble("  ", (words.pad(name, w_name), "bold" if row.mark else ""), "  ")
        line.append(words.pad(curve(row.levels, shown.low, w_curve), w_curve), "" if plain else INK["left"])
        line.append("  " + "  ".join(words.pad(x, w, right=True) for x, w in zip(numbers, widths, strict=False)), tone)
        line.append(f" {words.mark(row.mark)}" if row.mark else "", tone)
        yield line
    for text in _legend(shown.rows, shown.left_out, width - 2):
        yield Text("  " + text, "dim")


def _name(row: Row) -> str:
    op = row.op
    parts = [tell.site(op.file, op.line), words.one_line(op.module or op.name), row.which]
    return "  ".join(part for part in parts if part)


def curve(levels: Sequence[float], low: float, width: int) -> str:
    """A curve in at most `width` cells: decades from `low` up to 0; ○ where it is exactly zero, ✕ where not finite.

    A cell that stands for several time steps shows the largest of them.

    Example:
        >>> curve([float("-inf"), -8.0, -4.0, 0.0, float("nan")], -8.0, 5)
        '○▁▅█✕'
    """
    n = min(width, len(levels))
    out = ""
    for k in range(n):
        part = levels[k * len(levels) // n : (k + 1) * len(levels) // n]
        if any(math.isnan(x) for x in part):
            out += "✕"
        elif max(part) == -math.inf:
            out += "○"
        else:
            out += SPARKS[min(max(round(7 * (1 - max(part) / low)), 0), 7)]
    return out


def _legend(rows: Sequence[Row], left_out: int, width: int) -> list[str]:
    told = []
    if any(row.carried != "—" for row in rows):
        told.append("carried: decades from the newest state to the oldest, by the recurrence alone")
    if any(row.reach != "—" for row in rows):
        told.append("reach: steps back until less than 1 % of it is left")
    if any(row.radius != "—" and not row.radius.endswith("J") for row in rows):
        told.append("ρ: spectral radius of the recurrent weight")
    if any(row.radius.endswith("J") for row in rows):
        told.append("ρ … J: of the Jacobian of one step")
    if any(row.exponent != "—" for row in rows):
        told.append("λ: Lyapunov exponent per step")
    if left_out:
        told.append(f"{left_out} more in the record")
    return textwrap.wrap(" · ".join(told), width)
