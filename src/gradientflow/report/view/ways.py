"""The way back at one probed step, and one of its rows in full."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from typing import Literal

from gradientflow.errors import UsageError
from gradientflow.records import Budget, Excerpt, HeatMap, Op, OpSeen, Probe, Routes, Run, TimeRow, Way
from gradientflow.report import tell, words
from gradientflow.report.branches import branches
from gradientflow.report.over_time import Row, over_time
from gradientflow.report.palette import BROKEN, DEAD, LOWEST, level
from gradientflow.report.rows import first_look, folds, from_the_loss, merged, scale, spans
from gradientflow.report.view.details import details
from gradientflow.report.view.moment import Moment
from gradientflow.report.view.opened import excerpt

MOST = 5000  # rows of a way back that are sent
COLUMNS = 2000  # time steps of a recurrence that are drawn
FOLDED = 40  # rows that a way back without modules is folded to


def way(moment: Moment, index: int, own: int | None = None) -> Way:
    """Return the way back of a probe, or from it to what one optimizer trains.

    Raises:
        UsageError: there is no such probe, or no such optimizer.
    """
    return moment.once(f"way {index} {own}", lambda: _way(moment, index, own))


def _way(moment: Moment, index: int, own: int | None) -> Way:
    probe = moment.probe(index)
    budget = _bounded(moment.budget(index, own))
    axis = scale(budget.by_op)
    return Way(
        probe=index, step=probe.step, budget=budget, spans=[(s.before, s.after) for s in spans(budget.by_op)], low=axis.low, high=axis.high,
        first=first_look(moment.verdict, budget.by_op), whose=_whose(budget),
        took=tell.took(budget.total_decades), sites=[tell.site(row.file, row.line) for row in budget.by_op],
        paths=[_path(_op(probe, row.op), row.module) for row in budget.by_op],
        folds=[(f.start, f.stop, merged(budget.by_op, f).name) for f in folds(budget.by_op, FOLDED) if f.folded],
    )  # fmt: skip


def op_seen(moment: Moment, index: int, row: int, own: int | None = None) -> OpSeen:
    """Return one row of a way back in full.

    Raises:
        UsageError: there is no such probe, or no such row.
    """
    probe = moment.probe(index)
    budget = _bounded(moment.budget(index, own))
    if not 0 <= row < len(budget.by_op):
        raise UsageError(f"row {row}: this way back has {len(budget.by_op)} of them, counted from 0.")
    return next(_seen(moment, probe, budget, [row]))


def ops_seen(moment: Moment, index: int, own: int | None = None) -> Iterator[OpSeen]:
    """Yield every row of a way back in full.

    Raises:
        UsageError: there is no such probe.
    """
    budget = _bounded(moment.budget(index, own))
    return _seen(moment, moment.probe(index), budget, range(len(budget.by_op)))


def _seen(moment: Moment, probe: Probe, budget: Budget, rows: Iterable[int]) -> Iterator[OpSeen]:
    whose, left = _whose(budget), spans(budget.by_op)
    sources: dict[tuple[str | None, int | None], Excerpt | None] = {}  # many rows stand at one line
    for row in rows:
        share = budget.by_op[row]
        where = [tell.site(share.file, share.line), words.one_line(share.module or "")]
        line = (share.file, share.line)
        if line not in sources:
            sources[line] = excerpt(moment.run, *line)
        yield OpSeen(
            name=words.one_line(share.name), where=" · ".join(w for w in where if w),
            groups=details(share, left[row], _op(probe, share.op), whose), excerpt=sources[line],
        )  # fmt: skip


def users(moment: Moment, index: int, own: int | None = None) -> dict[int, int]:
    """Return of each parameter the row of the way back at a probe whose operation uses it.

    Raises:
        UsageError: there is no such probe.
    """
    found: dict[int, int] = {}
    rows = {
        share.op: row
        for row, share in reversed(list(enumerate(moment.budget(index, own).by_op)))
        if share.kind != "branch"
    }
    for op in moment.probe(index).ops:
        row = rows.get(op.index)
        if row is not None:
            for param in (o.param for o in op.operands if o.param is not None):
                found[param] = min(row, found.get(param, row))
    return found


def _whose(budget: Budget) -> Literal["loss", "output"]:
    """Whose gradient the bars are shares of."""
    return "loss" if from_the_loss(budget.by_op) else "output"


def routes(moment: Moment, index: int) -> Routes:
    """Return what a single way back does not show: where routes part, and the gradient over the time of recurrences.

    Raises:
        UsageError: there is no such probe.
    """
    probe = moment.probe(index)
    told = over_time(moment.verdict, Run(moment.run.meta, probes=[probe]))
    if told is None:
        return Routes(probe.step, branches(probe), [])
    alike: dict[tuple[int, int], list[int]] = {}
    for k, row in enumerate(told.rows):
        alike.setdefault((row.seen.steps, row.seen.skipped), []).append(k)
    maps = [_map(told.rows, shown, told.low) for shown in alike.values()]
    return Routes(probe.step, branches(probe), [_time(r) for r in told.rows], maps, told.left_out)


def _time(row: Row) -> TimeRow:
    seen = row.seen
    return TimeRow(
        name=_recurs(row), short=row.which or f"∂L/∂{row.what}", values=[v if math.isfinite(v) else None for v in row.values], first=seen.skipped + 1, carried=row.carried,
        reach=row.reach, radius=row.radius, sigma=words.number(seen.sigma), exponent=row.exponent,
        rows=f"{seen.rows} of {seen.batch}" if seen.batch else "—", mark=row.mark,
    )  # fmt: skip


def _recurs(row: Row) -> str:
    parts = [tell.site(row.op.file, row.op.line), row.op.module or row.op.name, f"∂L/∂{row.what}", row.which]
    return words.one_line(" ".join(p for p in parts if p))


def _map(rows: list[Row], shown: list[int], low: float) -> HeatMap:
    """The map of rows that have the same time steps; its parameters are their numbers."""
    seen = rows[shown[0]].seen
    codes = b"".join(bytes(_code(x, low) for x in rows[k].levels[:COLUMNS]) for k in shown)
    steps = range(seen.skipped + 1, seen.skipped + 1 + min(len(rows[shown[0]].levels), COLUMNS))
    return HeatMap([_recurs(rows[k]) for k in shown], shown, list(steps), low, base64.b64encode(codes).decode("ascii"))


def _code(x: float, low: float) -> int:
    if math.isnan(x):
        return BROKEN
    return DEAD if math.isinf(x) else max(level(x, low, 0.0), LOWEST)


def _path(op: Op | None, module: str | None) -> str:
    """The module of a row. (The root is recorded by its class, as it has no name.)"""
    return "" if op is not None and op.module == op.module_class else words.one_line(module or "")


def _op(probe: Probe, index: int | None) -> Op | None:
    return probe.ops[index] if index is not None and 0 <= index < len(probe.ops) else None


def _bounded(budget: Budget) -> Budget:
    if len(budget.by_op) <= MOST:
        return budget
    kept = Budget(**{name: getattr(budget, name) for name in budget.__struct_fields__})
    kept.by_op = budget.by_op[:MOST]
    kept.note = f"{budget.note} The first {MOST} of {len(budget.by_op)} rows are shown.".strip()
    return kept
