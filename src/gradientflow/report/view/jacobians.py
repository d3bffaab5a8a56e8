"""The singular values of the Jacobians, as a picture needs them: places on one log scale, and numbers in words."""

from __future__ import annotations

import math

from gradientflow.records import Jacobians, Probe, Reach, Run
from gradientflow.report import words
from gradientflow.report.isometry import Axis, Row, axis, measured, off_scale, rows, summary, views

MOST = 400  # rows that are sent
TICKS = 6


def jacobians(run: Run) -> list[Jacobians]:
    """Return the view of the first and the last probe with Jacobians; none where none were asked for."""
    return [_of(probe) for probe in views(run)]


def _of(probe: Probe) -> Jacobians:
    every = rows(probe)
    scale = axis(every)
    by = max(1, round((scale.high - scale.low) / TICKS))
    whole = [d for d in range(int(scale.low), int(scale.high) + 1) if d % by == 0]
    told = summary(probe)
    return Jacobians(
        probe.step, told[:1].upper() + told[1:], scale(1.0), [(scale(10.0**d), d) for d in whole],
        [_reach(r, scale) for r in [*every[:MOST], *(r for r in every[MOST:] if r.whole)]],
    )  # fmt: skip


def _reach(row: Row, scale: Axis) -> Reach:
    s = row.stretch
    low, high = (s.mean if x is None else x for x in (s.bottom, s.top))
    return Reach(
        where=row.where, name=row.name, word=row.word, mark=row.mark, symptom=row.symptom, how=measured(s),
        numbers=(words.number(s.mean), words.number(s.top), words.number(s.bottom)), low=_at(scale, low), high=_at(scale, high),
        mean=_at(scale, s.mean) if math.isfinite(s.mean) else None, quantiles=[_at(scale, x) for x in s.spectrum if x > 0],
        off=off_scale(s, scale), whole=row.whole,
    )  # fmt: skip


def _at(scale: Axis, x: float) -> float:
    return round(scale(x), 4) if math.isfinite(x) else 1.0
