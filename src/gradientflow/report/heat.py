"""The heat map: gradient norm of every parameter over the steps, as a picture that needs no script."""

from __future__ import annotations

import base64
import math
from collections.abc import Container, Sequence
from html import escape
from typing import Any

from gradientflow.records import ABSENT, ParamNorms, Run
from gradientflow.report import words
from gradientflow.report.curve import column, domain
from gradientflow.report.palette import BROKEN, DEAD, LOWEST, NOTHING, batlow, data_uri, level

COLUMNS = 400  # at most
MAX_PARAMS = 1500
MAX_CELLS = 500_000
_FLOOR = -12.0  # decades below the largest of a step where the map ends


class Heat:
    """Gradient norms of parameters over steps, as codes of the colour map.

    Rows run from the loss side (the parameters made last) down to the input; a column holds one recorded step, a bad
    one if there is one among those it stands for. Each cell is log10 of the norm relative to the largest of its step.

    Args:
        run: what was seen.
        only: parameters to draw; None: all.
    """

    def __init__(self, run: Run, only: Container[int] | None = None) -> None:
        self.ends = domain(run)
        seen = sorted({p for n in run.norms for p in n.params if only is None or p in only}, reverse=True)
        self.left_out = max(0, len(seen) - MAX_PARAMS)
        self.params = seen if not self.left_out else [seen[k * len(seen) // MAX_PARAMS] for k in range(MAX_PARAMS)]
        self.names = [_param_name(run, p) for p in self.params]
        self.steps: list[int] = []
        self.largest: list[float | None] = []
        self.low = -3.0
        self.codes: list[bytes] = []
        if self.ends is not None and self.params:
            self._fill(run, self.ends)

    def _fill(self, run: Run, ends: tuple[int, int]) -> None:
        columns = max(1, min(COLUMNS, MAX_CELLS // len(self.params), ends[1] - ends[0] + 1))
        picked: list[list[ParamNorms]] = [[] for _ in range(columns)]
        for norms in run.norms:
            picked[column(norms.step, ends, columns)].append(norms)
        row_of = {p: k for k, p in enumerate(self.params)}
        cells: list[list[float | None]] = [[None] * columns for _ in self.params]
        for c, group in enumerate(picked):
            chosen = _chosen(group)
            if not chosen:  # thinned out: the step before stands on
                self.steps.append(self.steps[-1] if self.steps else ends[0])
                self.largest.append(self.largest[-1] if self.largest else None)
                for row in cells:
                    row[c] = row[c - 1] if c else None
                continue
            self.steps.append(chosen[0].step)
            here = [(p, g) for n in chosen for p, g in zip(n.params, n.grad, strict=False) if p in row_of]
            told = {p for p, _ in here}
            for k, p in enumerate(self.params):
                if p not in told and c:  # another optimizer's step: what it last did stands on
                    cells[k][c] = cells[k][c - 1]
            biggest = max((g for _, g in here if math.isfinite(g)), default=0.0)
            self.largest.append(biggest)
            for p, g in here:
                if g == ABSENT:
                    continue  # no gradient came
                if not math.isfinite(g):
                    value = math.nan
                elif g <= 0:
                    value = -math.inf
                else:
                    value = math.log10(g / biggest) if g / biggest > 0 else _FLOOR
                cells[row_of[p]][c] = value
        lowest = min((v for row in cells for v in row if v is not None and math.isfinite(v)), default=-3.0)
        self.low = max(min(math.floor(lowest), -3.0), _FLOOR)
        self.codes = [bytes(self._code(v) for v in row) for row in cells]

    def _code(self, v: float | None) -> int:
        if v is None:
            return NOTHING
        if math.isnan(v):
            return BROKEN
        return DEAD if math.isinf(v) else level(v, self.low, 0.0)

    def data(self) -> dict[str, Any]:
        """What the page's script needs to tell numbers: names, steps, the largest norm of each column, the codes."""
        flat = base64.b64encode(b"".join(self.codes)).decode("ascii")
        largest = [None if x is None else float(f"{x:.4g}") for x in self.largest]
        return {
            "params": self.names,
            "steps": self.steps,
            "largest": largest,
            "low": self.low,
            "lowest": LOWEST,
            "codes": flat,
        }

    def html(self) -> str:
        """The map with its labels and legend; empty where no norms were kept."""
        if not self.codes:
            return ""
        rows, columns = len(self.codes), len(self.codes[0])
        height = min(max(300 / rows, 2.0), 15.0)
        every = max(1, math.ceil(12 / height))
        names = "".join(
            f'<span style="top:{100 * (k + 0.5) / rows:.3f}%" title="{escape(name)}">'
            f"{escape(words.elide(name, 21))}</span>"
            for k, name in enumerate(self.names)
            if k % every == 0
        )
        stops = ", ".join(batlow(k / 8) for k in range(9))
        more = f" Shown: {rows} of {rows + self.left_out} parameters." if self.left_out else ""
        return (
            '<div class="lane heat"><div class="gutter names">' + names + "</div>"
            f'<div class="plot" id="heat" tabindex="0" role="application" aria-describedby="heat-says" '
            f'aria-label="Gradient norm of {rows} parameters over the steps; arrow keys move, the cell is told below" '
            f'style="height:{height * rows:.0f}px;background-image:url({data_uri(self.codes)})">'
            + self._overlays(rows, columns)
            + '<i class="cross"></i><i class="cell"></i></div></div>'
            '<div class="lane"><div class="gutter"></div><div class="plot axis">'
            f"<span>step {self.ends[0] if self.ends else 0}</span>"
            f'<span id="heat-says" class="says" role="status">norm relative to the largest of the step;'
            f" loss side at the top.{more}</span>"
            f"<span>step {self.ends[1] if self.ends else 0}</span></div></div>"
            f'<div class="legend"><span>10<sup>{words.number(int(self.low))}</sup></span>'
            f'<i class="ramp" style="background:linear-gradient(90deg,{stops})"></i><span>1, the largest</span>'
            '<span class="key"><i class="sw x-nf"></i>✕ not finite</span>'
            '<span class="key"><i class="sw x-dead"></i>○ exactly zero</span>'
            '<span class="key"><i class="sw"></i>no gradient, or not kept</span></div>'
        )

    def _overlays(self, rows: int, columns: int) -> str:
        """Hatched boxes over cells that are broken or dead: equal runs of neighbouring rows are one box."""
        boxes: list[tuple[int, int, int, int, int]] = []  # code, first column, stop, first row, stop
        above: dict[tuple[int, int, int], int] = {}
        for r in range(rows + 1):
            here: dict[tuple[int, int, int], int] = {}
            for key in _runs(self.codes[r]) if r < rows else []:
                here[key] = above.get(key, r)
            boxes.extend((*key, first, r) for key, first in above.items() if key not in here)
            above = here
        boxes.sort(key=lambda b: -(b[2] - b[1]) * (b[4] - b[3]))
        return "".join(
            f'<i class="{"x-nf" if code == BROKEN else "x-dead"}" style="left:{100 * a / columns:.2f}%;'
            f'width:{100 * (b - a) / columns:.2f}%;top:{100 * top / rows:.2f}%;height:{100 * (end - top) / rows:.2f}%">'
            f"</i>"
            for code, a, b, top, end in boxes[:4000]
        )


def _runs(codes: bytes) -> list[tuple[int, int, int]]:
    """Runs of broken or dead cells in one row: code, first column, stop."""
    out = []
    start = 0
    for c in range(1, len(codes) + 1):
        if c == len(codes) or codes[c] != codes[start]:
            if codes[start] in (BROKEN, DEAD):
                out.append((codes[start], start, c))
            start = c
    return out


def _chosen(group: Sequence[ParamNorms]) -> list[ParamNorms]:
    """The record that stands for a column, one per optimizer: the first with a bad number, else the last."""
    out: dict[int, tuple[bool, ParamNorms]] = {}
    for n in group:
        worse = any(math.isinf(g) for g in n.grad)
        if n.optimizer not in out or not out[n.optimizer][0]:
            out[n.optimizer] = (worse, n)
    return [n for _, n in out.values()]


def _param_name(run: Run, index: int) -> str:
    params = run.meta.params
    if 0 <= index < len(params) and params[index].index == index:
        return words.one_line(params[index].name)
    return next((words.one_line(p.name) for p in params if p.index == index), f"parameter {index}")
