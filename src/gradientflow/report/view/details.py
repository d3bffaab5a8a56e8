"""What is told of one row of a way back, in groups of facts."""

from __future__ import annotations

import math

from gradientflow.records import GradStat, Op, Share, ValueStat
from gradientflow.report import words
from gradientflow.report.rows import Span

Facts = list[tuple[str, str]]


def details(row: Share, span: Span, op: Op | None, whose: str = "output") -> list[tuple[str, Facts]]:
    """Return what is told of one row: (name, value) pairs in groups "gain", "forward", "backward", already spelled.

    Args:
        row: the row of the budget.
        span: what is left before and after it.
        op: the op it is about; None where no probe was kept.
        whose: gradient is told to be left: the output's, or the loss's.

    Returns:
        The groups; those without facts are left out.
    """
    gain: Facts = [("gain", words.gain(row.gain)), ("decades", words.decades(row.decades))]
    if span.after is not None:
        gain.append((f"left of the {whose}'s gradient", words.gain(_power(span.after))))
    gain += [("share that came this way", words.percent(row.share))] if row.share is not None else []
    gain += [("kind", words.one_line(row.kind))]
    out = [("gain", gain)]
    if op is not None:
        out.append(("forward: its output", _forward(op, op.value)))
        if op.grad is not None:
            out.append(("backward: gradient at its output", _backward(op.grad)))
    return out


def _power(x: float) -> float:
    """10 to the x, without overflow."""
    return 10.0**x if x < 300 else math.inf


def _forward(op: Op, v: ValueStat) -> Facts:
    facts: Facts = [
        ("shape", "×".join(str(d) for d in v.shape) + " " + words.one_line(v.dtype).removeprefix("torch.")),
        ("mean ± std", f"{words.number(v.mean)} ± {words.number(v.std)}"),
        ("least … most", f"{words.number(v.min)} … {words.number(v.max)}"),
        ("exact zeros", words.percent(v.zeros)),
    ]
    facts += [("saturated", words.percent(v.saturated))] if v.saturated is not None else []
    facts += [("dead units", words.percent(v.dead))] if v.dead is not None else []
    least = words.finite(x.value.absmin for x in op.operands if x.value is not None)
    facts += [("smallest |entry| of its input", words.number(min(least)))] if least else []
    facts += [("not finite", f"✕ {v.nan} NaN, {v.inf} inf")] if v.nonfinite else []
    facts += [("in place", "yes")] if op.inplace else []
    return facts


def _backward(g: GradStat) -> Facts:
    return [
        ("norm", words.number(g.norm)),
        ("rms", words.number(g.rms)),
        ("largest", words.number(g.max)),
        ("exact zeros", words.percent(g.zeros)),
        ("not finite", f"✕ {g.nan} NaN, {g.inf} inf" if g.nonfinite else "none"),
    ]
