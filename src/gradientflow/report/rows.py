"""The waterfall's geometry: what each row of a budget had, has and took; one scale; and folding of long ones.

Shared by the terminal and the page, so that both draw the same picture. Rows are `records.Share` throughout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from gradientflow.records import Place, Share, Verdict
from gradientflow.report.words import count, finite, gain


class Span(NamedTuple):
    """Decades of gradient before and after one row; None where not measured, not finite, or nothing is left."""

    before: float | None
    after: float | None


class Scale(NamedTuple):
    """The axis of the waterfall, in decades; `low` lies below everything measured, so that no bar is empty."""

    low: float
    high: float

    def __call__(self, x: float | None) -> float:
        """Where `x` lies on the axis, 0..1."""
        if x is None or math.isnan(x):
            return 0.0
        return min(max((x - self.low) / (self.high - self.low), 0.0), 1.0)


class Fold(NamedTuple):
    """Rows start..stop (exclusive) of a waterfall drawn as one line; a single row where `stop == start + 1`."""

    start: int
    stop: int
    period: int = 0  # rows after which the pattern repeats; 0: the rows are not alike

    @property
    def folded(self) -> bool:
        return self.stop - self.start > 1


def spans(rows: Sequence[Share]) -> list[Span]:
    """What is left before and after each row, read from the loss back.

    Decades are added up from where by definition one is left: the network's output, or the loss where nothing arrives at that
    (`from_the_loss`). A row that lets nothing through (dead, or not finite) has no `after`; beyond it a row is drawn again only
    if it tells what is left there. What is exactly zero has neither: its bar is empty.

    Args:
        rows: op rows, the loss first.

    Returns:
        One span per row.
    """
    start = 0 if from_the_loss(rows) else _output(rows)
    out: list[Span] = []
    here: float | None = 0.0
    for row in reversed(rows[:start]):
        change = _drawn(row.decades)
        above = here - change if here is not None and change is not None else None
        out.append(Span(above, here if change is not None else None))
        here = above
    out.reverse()
    here = 0.0
    for row in rows[start:]:
        change = _drawn(row.decades)
        if row.norm == 0:
            here = None
        elif here is None and not blocked(row):
            here = _drawn(row.left)
        if here is None or blocked(row):
            out.append(Span(here, None))
            here = None
        else:
            out.append(Span(here, here + (change or 0.0)))
            here += change or 0.0
    return out


def _output(rows: Sequence[Share]) -> int:
    """The row of the network's output: the first of its body."""
    return next((i for i, row in enumerate(rows) if row.body), 0)


def from_the_loss(rows: Sequence[Share]) -> bool:
    """Whether nothing of the gradient arrives at the network's output, so that what is left is told as a share of the loss's."""
    start = _output(rows)
    return start > 0 and rows[start].norm == 0


def blocked(row: Share) -> bool:
    """Whether nothing finite gets through this row."""
    return _drawn(row.decades) is None and (broken(row) or row.mark == "dead" or row.gain == 0)


def _drawn(x: float | None) -> float | None:
    """Decades that can be drawn: finite, and of a size that a gradient can have."""
    return x if x is not None and abs(x) < 1000 else None


def broken(row: Share) -> bool:
    """Whether the gradient is not finite at this row."""
    return row.mark == "not-finite" or any(x is not None and not math.isfinite(x) for x in (row.gain, row.norm))


def scale(rows: Sequence[Share], least: float = 3.0) -> Scale:
    """The common axis of these rows: at least `least` decades wide, so that a calm gradient looks calm."""
    seen = finite(x for span in spans(rows) for x in span)
    if not seen:
        return Scale(-least, 0.0)
    low, high = min(seen), max(seen)
    margin = max(0.3, 0.05 * (high - low))
    return Scale(min(low - margin, high - least), high)


def alike(row: Share) -> tuple[object, ...]:
    """What two rows must have in common to be "more like this": op, line, and module up to its numbers."""
    return (row.name, row.kind, row.file, row.line, re.sub(r"\d+", "#", row.module or ""), row.mark, row.body)


def folds(rows: Sequence[Share], limit: int) -> list[Fold]:
    """How to draw these rows in about `limit` lines.

    First repeating patterns are folded (a loop over layers or time steps), longest first, keeping the first and the
    last turn; then the rows that matter least. A marked row is never hidden, unless more than half of `limit` rows
    are marked alike: then the line that stands for them carries their mark and their number.

    Args:
        rows: op rows, the loss first.
        limit: lines wanted.

    Returns:
        Folds that cover all rows in order.
    """
    lines = [Fold(i, i + 1) for i in range(len(rows))]
    if len(rows) <= limit:
        return lines
    crowded = sum(1 for row in rows if row.mark) > limit // 2
    lines = _fold_patterns(rows, limit, crowded)
    return _fold_small(rows, lines, limit) if len(lines) > limit + 4 else lines


def _fold_patterns(rows: Sequence[Share], limit: int, crowded: bool) -> list[Fold]:
    """Fold repeating patterns, the longest first, until the lines fit."""
    runs: list[tuple[int, int, int]] = []  # start, stop, period
    signs: list[tuple[object, ...]] = [
        alike(row) if crowded or not row.mark else ("marked", i) for i, row in enumerate(rows)
    ]
    i = 0
    while i < len(rows):
        best = (0, 0)  # rows covered, period
        for period in range(1, min(16, (len(rows) - i) // 3) + 1):
            k = i
            while k + period < len(rows) and signs[k] == signs[k + period]:
                k += 1
            turns = (k - i) // period + 1
            if turns >= 3 and turns * period > best[0]:
                best = (turns * period, period)
        if best[0]:
            runs.append((i, i + best[0], best[1]))
        i += best[0] or 1
    hidden: dict[int, Fold] = {}
    lines = len(rows)
    for start, stop, period in sorted(runs, key=lambda r: r[0] - r[1]):
        first, last = start + period, stop - period
        if lines <= limit or last - first < 2:
            continue
        hidden[first] = Fold(first, last, period)
        lines -= last - first - 1
    out: list[Fold] = []
    i = 0
    while i < len(rows):
        fold = hidden.get(i, Fold(i, i + 1))
        out.append(fold)
        i = fold.stop
    return out


def _fold_small(rows: Sequence[Share], lines: list[Fold], limit: int) -> list[Fold]:
    """Fold the rows that change the gradient least, neighbours together, until the lines fit; ends and marks stay."""
    order = sorted(
        (k for k, fold in enumerate(lines[1:-1], 1) if not any(row.mark for row in rows[fold.start : fold.stop])),
        key=lambda k: (lines[k].folded, abs(merged(rows, lines[k]).decades or 0.0)),
    )
    small: set[int] = set()
    groups = 0
    for k in order:
        groups += 1 - (k - 1 in small) - (k + 1 in small)
        small.add(k)
        if len(lines) - len(small) + groups <= limit:
            break
    out: list[Fold] = []
    for k, fold in enumerate(lines):
        if k in small and k - 1 in small:
            out[-1] = Fold(out[-1].start, fold.stop)
        else:
            out.append(fold)
    return out


def merged(rows: Sequence[Share], fold: Fold) -> Share:
    """The row that stands for a fold: gains multiplied, decades added, and a name that says how many it stands for."""
    part = rows[fold.start : fold.stop]
    if not fold.folded:
        return part[0]
    parts = finite(_drawn(row.decades) for row in part)
    total = sum(parts) if len(parts) == len(part) else None
    last = part[-1]
    if fold.period:
        turns = len(part) // fold.period
        each = "" if total is None or abs(total) > 300 else f", {gain(10 ** (total / turns))} each"
        name = (
            f"… {turns} more like this{each}"
            if fold.period == 1
            else (f"… {turns} more like these {fold.period}{each}")
        )
    else:
        name = f"… {count(len(part), 'more op')}"
    marks = {row.mark for row in part if row.mark}
    return Share(
        name=name,
        kind="fold",
        decades=total,
        gain=None if total is None or total > 300 else 10**total,
        count=len(part),
        mark=marks.pop() if len(marks) == 1 else None,
        body=last.body,
    )


def row_of(rows: Sequence[Share], place: Place | None) -> int | None:
    """The row of a place: same line, and as much else in common as there is."""
    if place is None or place.file is None:
        return None
    here = [i for i, row in enumerate(rows) if (row.file, row.line) == (place.file, place.line)]
    return max(
        here,
        key=lambda i: (rows[i].module == place.module, rows[i].name == place.op, rows[i].mark is not None, -i),
        default=None,
    )


def first_look(verdict: Verdict, rows: Sequence[Share]) -> int | None:
    """The row of a way back to open with: where the top finding is, else the worst."""
    found = row_of(rows, verdict.findings[0].place) if verdict.findings else None
    return worst(rows) if found is None else found


def worst(rows: Sequence[Share]) -> int | None:
    """The row to look at first: the first marked one, else the one that changes most, the loss side last."""
    for i, row in enumerate(rows):
        if row.mark:
            return i
    if not rows:
        return None
    return max(
        range(len(rows)), key=lambda i: (rows[i].body, rows[i].kind != "branch", abs(rows[i].decades or 0.0), -i)
    )
