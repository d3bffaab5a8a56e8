"""The gradient over the time steps of a recurrence: which probe is shown, and its rows as numbers and words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradientflow.records import Op, Probe, Recurrence, Run, Verdict
from gradientflow.report import words

FLOOR = -12.0  # decades below the largest of a row where the scale ends
READS = {"forward": "→", "backward": "←"}


@dataclass(frozen=True)
class Row:
    """One layer and direction.

    Attributes:
        seen: as it was measured.
        op: the operation that hides the recurrence, or one call of the loop.
        which: layer and direction in words, empty where there is only one.
        what: the quantity drawn: h, or c for the memory of an LSTM.
        values: norms by t.
        levels: log10 of each relative to the largest of the row; −inf where it is zero, NaN where it is not finite.
        carried: decades from the newest state to the oldest, by the recurrence alone; in words.
        reach: in words.
        radius: spectral radius, in words, with what it is of.
        exponent: leading Lyapunov exponent, in words.
        mark: the symptom, where a finding blames this row.
    """

    seen: Recurrence
    op: Op
    which: str
    what: str
    values: list[float]
    levels: list[float]
    carried: str
    reach: str
    radius: str
    exponent: str
    mark: str | None


@dataclass(frozen=True)
class OverTime:
    """What is shown: the step, its rows, the low end of the common scale in decades, and how many rows were left out."""

    step: int
    rows: list[Row]
    low: float
    left_out: int


def over_time(verdict: Verdict, run: Run | None) -> OverTime | None:
    """Return the gradient over time of the probe that the verdict speaks of, else of the last that has one.

    Args:
        verdict: what the run means.
        run: what was seen; None: only the verdict is at hand.

    Returns:
        None where nothing recurs, or nothing was measured over time.
    """
    probe = _probe(verdict, run)
    if probe is None:
        return None
    rows = [_row(verdict, probe, one) for one in probe.recurrent[: words.ROWS]]
    lowest = min((x for row in rows for x in row.levels if math.isfinite(x)), default=-1.0)
    return OverTime(
        probe.step, rows, max(min(math.floor(lowest), -1.0), FLOOR), max(0, len(probe.recurrent) - words.ROWS)
    )


def _probe(verdict: Verdict, run: Run | None) -> Probe | None:
    told = [p for p in run.probes if p.recurrent] if run is not None else []
    steps = [f.evidence.get("step") for f in verdict.findings if f.cause == "recurrence"]
    return next((p for p in told if p.step in steps), told[-1] if told else None)


def _row(verdict: Verdict, probe: Probe, one: Recurrence) -> Row:
    values = one.memory or one.norms
    largest = max((v for v in values if math.isfinite(v)), default=0.0)
    levels = [
        math.nan if not math.isfinite(v) else math.log10(v / largest) if v > 0 and v / largest > 0 else -math.inf
        for v in values
    ]
    same = [r for r in probe.recurrent if r.ops == one.ops]
    which = f"layer {one.layer}" if any(r.layer for r in same) else ""
    if any(r.backwards for r in same):
        which = f"{which} {READS['backward' if one.backwards else 'forward']}".strip()
    op = probe.ops[one.ops[len(one.ops) // 2]]
    radius = "—"
    if one.radius is not None:
        radius = words.number(one.radius)
    elif one.step_radius is not None:
        radius = f"{words.number(one.step_radius)} J"
    reach = "—" if one.reach is None else "all" if one.reach >= one.steps - 1 else str(one.reach)
    exponent = words.number(one.lyapunov[0], 2) if one.lyapunov else "—"
    return Row(
        one, op, which, "c" if one.memory else "h", values, levels, _carried(one), reach, radius, exponent, _mark(verdict, op, one)
    )  # fmt: skip


def _carried(one: Recurrence) -> str:
    way = one.carried
    if not way or not way[0] > 0 or not math.isfinite(way[0]) or not math.isfinite(way[-1]):
        return "—"
    return words.decades(math.log10(way[-1]) - math.log10(way[0])) if way[-1] > 0 else "to 0"


def _mark(verdict: Verdict, op: Op, one: Recurrence) -> str | None:
    for finding in verdict.findings:
        place, told = finding.place, finding.evidence
        if finding.cause != "recurrence" or place is None or place.op != op.name:
            continue
        if (place.file, place.line) not in ((op.file, op.line), (op.made_file, op.made_line)) and op.inside:
            continue
        direction = "backwards" if one.backwards else "forwards"
        if told.get("layer", one.layer) == one.layer and told.get("direction", direction) == direction:
            return finding.symptom
    return None
