"""The way from the gradient to the step as a table: a row for each stage, a column for each of a few steps of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gradientflow.records import StepBudget, Verdict
from gradientflow.report import words
from gradientflow.report.ways import called

COLUMNS = 5  # steps that are shown, the first and the last among them
SHOWN = 0.001  # a share that is worth a row
GROUPS = 4  # parameter groups that are shown


@dataclass(frozen=True)
class Table:
    """One group's table, every cell already spelt.

    Args:
        title: optimizer and group.
        steps: the columns.
        rows: name, a factor for each column, and the decades of each (None: no number).
        boxed: the optimizer's rule is not known.
    """

    title: str
    steps: list[str]
    rows: list[tuple[str, list[str], list[float | None]]]
    boxed: bool


def tables(verdict: Verdict) -> list[Table]:
    """Return a table for each parameter group of each optimizer, in order."""
    groups: dict[tuple[int, int], list[StepBudget]] = {}
    for one in verdict.step_budgets:
        groups.setdefault((one.index, one.group), []).append(one)
    names = {own.index: called(own) for own in verdict.optimizers}
    count = Counter(index for index, _ in groups)
    return [
        _table(names.get(index, found[0].optimizer) + (f", group {group}" if count[index] > 1 else ""), spread(found))
        for (index, group), found in sorted(groups.items())[:GROUPS]
    ]


def spread(found: Sequence[StepBudget], count: int = COLUMNS) -> list[StepBudget]:
    """Return so many of them, evenly spread, the first and the last among them."""
    n = len(found)
    return list(found) if n <= count else [found[round(i * (n - 1) / (count - 1))] for i in range(count)]


def _table(title: str, shown: list[StepBudget]) -> Table:
    names = list(dict.fromkeys(stage.name for one in shown for stage in one.stages))
    rows: list[tuple[str, list[str], list[float | None]]] = [
        ("‖gradient‖", [words.number(one.gradient) for one in shown], [None] * len(shown))
    ]
    for name in names:
        cells, decades = [], []
        for one in shown:
            mine = [s for s in one.stages if s.name == name]
            cells.append(" ".join(words.gain(s.factor) for s in mine) or "—")
            decades.append(sum(s.decades for s in mine if s.decades is not None) if mine else None)
        rows.append((name, cells, decades))
    rows.append(("‖update‖", [words.number(one.update) for one in shown], [None] * len(shown)))
    for name, shares in (("eps rules", [o.eps_rules for o in shown]), ("lost to rounding", [o.lost for o in shown])):
        if any(share is not None and share >= SHOWN for share in shares):
            rows.append((name, [words.percent(share) for share in shares], [None] * len(shown)))
    return Table(title, [f"step {words.number(one.step)}" for one in shown], rows, any(one.boxed for one in shown))
