"""The way back at one probed step, and one of its rows in full."""

from __future__ import annotations

import base64
import math

from gradientflow.app.run_view import excerpt
from gradientflow.app.runs import Moment
from gradientflow.errors import UsageError
from gradientflow.records import Budget, HeatMap, Op, OpSeen, Probe, Routes, Run, TimeRow, Way
from gradientflow.report import tell, words
from gradientflow.report.branches import branches
from gradientflow.report.over_time import Row, over_time
from gradientflow.report.palette import BROKEN, DEAD, LOWEST, level
from gradientflow.report.rows import first_look, folds, from_the_loss, merged, scale, spans
from gradientflow.report.waterfall import details

MOST = 5000  # rows of a way back that are sent
COLUMNS = 2000  # time steps of a recurrence that are drawn
FOLDED = 40  # rows that a way back without modules is folded to


def way(moment: Moment, index: int) -> Way:
    """Return the way back of a probe.

    Raises:
        UsageError: there is no such probe.
    """
    return moment.once(f"way {index}", lambda: _way(moment, index))


def _way(moment: Moment, index: int) -> Way:
    probe = moment.probe(index)
    budget = _bounded(moment.budget(index))
    axis = scale(budget.by_op)
    return Way(
        probe=index, step=probe.step, budget=budget, spans=[(s.before, s.after) for s in spans(budget.by_op)], low=axis.low, high=axis.high,
        first=first_look(moment.verdict, budget.by_op), whose="loss" if from_the_loss(budget.by_op) else "output",
        took=tell.took(budget.total_decades), sites=[tell.site(row.file, row.line) for row in budget.by_op],
        paths=[_path(_op(probe, row.op), row.module) for row in budget.by_op],
        folds=[(f.start, f.stop, merged(budget.by_op, f).name) for f in folds(budget.by_op, FOLDED) if f.folded],
    )  # fmt: skip


def op_seen(moment: Moment, index: int, row: int) -> OpSeen:
    """Return one row of a way back in full.

    Raises:
        UsageError: there is no such probe, or no such row.
    """
    probe = moment.probe(index)
    budget = _bounded(moment.budget(index))
    if not 0 <= row < len(budget.by_op):
        raise UsageError(f"row {row}: this way back has {len(budget.by_op)} of them, counted from 0.")
    share = budget.by_op[row]
    whose = "loss" if from_the_loss(budget.by_op) else "output"
    groups = details(share, spans(budget.by_op)[row], _op(probe, share.op), whose)
    where = [tell.site(share.file, share.line), words.one_line(share.module or "")]
    return OpSeen(
        name=words.one_line(share.name), where=" · ".join(w for w in where if w),
        groups=[(name, [(a, b) for a, b in facts]) for name, facts in groups.items()],
        excerpt=excerpt(moment.run, share.file, share.line),
    )  # fmt: skip


def routes(moment: Moment, index: int) -> Routes:
    """Return what a single way back does not show: where routes part, and the gradient over the time of recurrences.

    Raises:
        UsageError: there is no such probe.
    """
    probe = moment.probe(index)
    told = over_time(moment.verdict, Run(moment.run.meta, probes=[probe]))
    if told is None:
        return Routes(probe.step, branches(probe), [])
    first = told.rows[0].seen
    alike = [k for k, r in enumerate(told.rows) if (r.seen.steps, r.seen.skipped) == (first.steps, first.skipped)]
    return Routes(
        probe.step, branches(probe), [_time(r) for r in told.rows], _map(told.rows, alike, told.low), told.left_out,
    )  # fmt: skip


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
    """The map of those rows that have the same time steps; its parameters are the rows' numbers."""
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
