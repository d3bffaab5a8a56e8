"""The heat map: gradient norm of every parameter over the steps, as codes of a colour map."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from gradientflow.records import ABSENT, ParamNorms, Run
from gradientflow.report import words
from gradientflow.report.palette import BROKEN, DEAD, NOTHING, level

COLUMNS = 400  # at most
MAX_PARAMS = 1500
MAX_CELLS = 500_000
_FLOOR = -12.0  # decades below the largest of a step where the map ends


def domain(run: Run) -> tuple[int, int] | None:
    """Return the first and last step seen."""
    seen = [s.step for s in run.steps] + [n.step for n in run.norms]
    return (min(seen), max(seen)) if seen else None


def column(step: int, ends: tuple[int, int], columns: int) -> int:
    """Return the column of a step when the axis is cut into `columns`."""
    return min(max((step - ends[0]) * columns // (ends[1] - ends[0] + 1), 0), columns - 1)


class Heat:
    """Gradient norms of parameters over steps, as codes of the colour map.

    Rows run from the loss side (the parameters made last) down to the input; a column holds one recorded step, a bad
    one if there is one among those it stands for. Each cell is log10 of the norm relative to the largest of its step.

    Args:
        run: what was seen.
        only: parameters to draw; None: all.
        cells: at most.
    """

    def __init__(self, run: Run, only: Container[int] | None = None, cells: int = MAX_CELLS) -> None:
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
            self._fill(run, self.ends, max(1, min(COLUMNS, cells // len(self.params), self.ends[1] - self.ends[0] + 1)))

    def _fill(self, run: Run, ends: tuple[int, int], columns: int) -> None:
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
