"""The gradient over time on the page: time to the right, one row per layer and direction, and the same numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

from gradientflow.records import Run, Verdict
from gradientflow.report import parts, tell, words
from gradientflow.report.over_time import OverTime, Row, over_time
from gradientflow.report.palette import BROKEN, DEAD, LOWEST, batlow, data_uri, level

COLUMNS = 400  # of a picture, at most
_LISTED = 25  # time steps in the table
_ROW = 26  # pixels


def time_card(verdict: Verdict, run: Run | None) -> str:
    """Return the card as HTML that needs no script; empty where nothing recurs or nothing was measured over time."""
    shown = over_time(verdict, run)
    if shown is None:
        return ""
    charts = "".join(
        _chart(list(rows), shown.low) for _, rows in groupby(shown.rows, key=lambda r: (r.seen.steps, r.op.index))
    )
    more = f" Shown: {len(shown.rows)} of {len(shown.rows) + shown.left_out} recurrences." if shown.left_out else ""
    return (
        '<section class="card over time" aria-labelledby="h-t"><h2 id="h-t">Over the time steps</h2>'
        f'<p class="fine">Norm of the gradient at each state of the recurrence, in step {shown.step} of training; relative '
        f"to the largest of its row, log scale.{more}</p>{charts}{_legend(shown)}{_summary(shown)}{_table(shown)}</section>"
    )


def _chart(rows: Sequence[Row], low: float) -> str:
    """The rows of one operation: names beside one picture, t below."""
    seen, op = rows[0].seen, rows[0].op
    steps = seen.steps
    left = f" (the first {seen.skipped} time steps were not run again)" if seen.skipped else ""
    columns = min(steps, COLUMNS)
    codes = [bytes(_code(_worst(row.levels, c, columns), low) for c in range(columns)) for row in rows]
    names = "".join(
        f'<span style="top:{100 * (k + 0.5) / len(rows):.3f}%" title="{parts.text(_title(row))}">{parts.text(_short(row))}</span>'
        for k, row in enumerate(rows)
    )
    boxes = "".join(
        f'<i class="{"x-nf" if code == BROKEN else "x-dead"}" style="left:{100 * a / columns:.3f}%;width:{100 * (b - a) / columns:.3f}%;'
        f'top:{100 * k / len(rows):.3f}%;height:{100 / len(rows):.3f}%"></i>'
        for k, line in enumerate(codes)
        for code, a, b in _runs(line)
    )
    where = " · ".join(
        parts.text(x)
        for x in (tell.site(op.file, op.line), op.module or "", rows[0].seen.cell, f"∂L/∂{rows[0].what} at time t")
        if x
    )
    return (
        f'<div class="lane"><div class="gutter"></div><p class="fine">{where}</p></div>'
        f'<div class="lane heat"><div class="gutter names">{names}</div><div class="plot" role="img" '
        f'aria-label="{escape(_said(rows))}" style="height:{_ROW * len(rows)}px;background-image:url({data_uri(codes)})">'
        f"{boxes}</div></div>"
        f'<div class="lane"><div class="gutter"></div><div class="plot axis"><span>t = {seen.skipped + 1}</span>'
        f'<span class="says">time →{left}</span><span>t = {seen.skipped + steps}</span></div></div>'
    )


def _worst(levels: Sequence[float], column: int, columns: int) -> float:
    """The level that stands for a column: not finite where one is, else the largest."""
    part = levels[column * len(levels) // columns : (column + 1) * len(levels) // columns]
    return math.nan if any(math.isnan(x) for x in part) else max(part)


def _code(x: float, low: float) -> int:
    if math.isnan(x):
        return BROKEN
    return DEAD if math.isinf(x) else max(level(x, low, 0.0), LOWEST)


def _runs(codes: bytes) -> list[tuple[int, int, int]]:
    """Runs of broken or zero cells: code, first column, stop."""
    found, start = [], 0
    for code, run in groupby(codes):
        stop = start + sum(1 for _ in run)
        if code in (BROKEN, DEAD):
            found.append((code, start, stop))
        start = stop
    return found


def _short(row: Row) -> str:
    return " ".join(x for x in (words.mark(row.mark) if row.mark else "", row.which or f"∂L/∂{row.what}") if x)


def _title(row: Row) -> str:
    return " ".join(
        x
        for x in (tell.site(row.op.file, row.op.line), row.op.module or row.op.name, f"∂L/∂{row.what}", row.which)
        if x
    )


def _said(rows: Sequence[Row]) -> str:
    """The picture in words."""
    told = "; ".join(f"{_title(r)}: {r.carried} decades carried to the oldest state, reach {r.reach}" for r in rows)
    return words.one_line(f"Gradient over {rows[0].seen.steps} time steps. {told}. The numbers are in the table below.")


def _legend(shown: OverTime) -> str:
    stops = ", ".join(batlow(k / 8) for k in range(9))
    seen = {
        x
        for row in shown.rows
        for x in ("nf" if math.isnan(v) else "dead" if math.isinf(v) else "" for v in row.levels)
    }
    return (
        f'<div class="legend"><span>10<sup>{words.number(int(shown.low))}</sup> or less</span>'
        f'<i class="ramp" style="background:linear-gradient(90deg,{stops})"></i><span>1, the largest of the row</span>'
        + ('<span class="key"><i class="sw x-nf"></i>✕ not finite</span>' if "nf" in seen else "")
        + ('<span class="key"><i class="sw x-dead"></i>○ exactly zero</span>' if "dead" in seen else "")
        + (
            '<span class="key">→ reads forwards, ← backwards</span>'
            if any(r.seen.backwards for r in shown.rows)
            else ""
        )
        + "</div>"
    )


def _summary(shown: OverTime) -> str:
    """One line of numbers per row."""
    heads = (
        ("recurrence", ""),
        ("carried", "decades from the newest state to the oldest, by the recurrence alone"),
        ("reach", "steps back until less than 1 % of it is left"),
        ("ρ", "spectral radius of the recurrent weight; J: of the Jacobian of one step"),
        ("σ", "largest singular value of the recurrent weight"),
        ("λ", "leading Lyapunov exponent per time step, natural log"),
        ("rows", "of the batch that were measured"),
    )
    head = "".join(
        f'<th scope="col"{f" title={chr(34)}{escape(t)}{chr(34)}" if t else ""}>{escape(h)}</th>' for h, t in heads
    )
    body = ""
    for row in shown.rows:
        tone = f' class="{parts.tone(row.mark)}"' if row.mark else ""
        mark = f"{words.mark(row.mark)} " if row.mark else ""
        rows = f"{row.seen.rows} of {row.seen.batch}" if row.seen.batch else "—"
        cells = (row.carried, row.reach, row.radius, words.number(row.seen.sigma), row.exponent, rows)
        body += (
            f'<tr{tone}><th scope="row">{mark}{parts.text(_title(row))}</th>'
            + "".join(f"<td>{escape(c)}</td>" for c in cells)
            + "</tr>"
        )
    told = " · ".join(f"{h}: {t}" for h, t in heads if t)
    return (
        f'<div class="scroll"><table class="facts times"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="fine">{escape(told)}</p>'
    )


def _table(shown: OverTime) -> str:
    """The twin of the pictures: the norms themselves."""
    out = ""
    for (steps, _), grouped in groupby(shown.rows, key=lambda r: (r.seen.steps, r.seen.skipped)):
        rows = list(grouped)
        n = min(steps, _LISTED)
        at = [round(k * (steps - 1) / max(n - 1, 1)) for k in range(n)]
        alone = len({row.op.index for row in shown.rows}) == 1
        names = [f"∂L/∂{row.what} {row.which}" if alone else _title(row) for row in rows]
        head = "".join(f'<th scope="col">{parts.text(name)}</th>' for name in names)
        body = "".join(
            f'<tr><th scope="row">{t + 1 + rows[0].seen.skipped}</th>'
            + "".join(f"<td>{escape(words.number(row.values[t]))}</td>" for row in rows)
            + "</tr>"
            for t in at
        )
        out += (
            f'<div class="scroll"><table class="facts times"><thead><tr><th scope="col">t</th>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
    return f"<details><summary>the norms as a table</summary>{out}</details>"
