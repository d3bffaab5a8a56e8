"""The way back at one probed step, and one of its rows in full."""

from __future__ import annotations

from gradientflow.app.run_view import excerpt
from gradientflow.app.runs import Moment
from gradientflow.errors import UsageError
from gradientflow.records import Budget, Op, OpSeen, Probe, Way
from gradientflow.report import tell, words
from gradientflow.report.rows import first_look, folds, from_the_loss, merged, scale, spans
from gradientflow.report.waterfall import details

MOST = 5000  # rows of a way back that are sent
FOLDED = 40  # rows that a way back without modules is folded to


def way(moment: Moment, index: int) -> Way:
    """Return the way back of a probe.

    Raises:
        UsageError: there is no such probe.
    """
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
