"""A singular operation before anything breaks: all is finite still, but one entry stands so near the singular point that it
carries the gradient alone.

The slope of √x, log x, 1/x, x^p (p < 1), acos x and x/‖x‖ is without bound. What counts is not how large it is but how
far the worst entry stands out: the largest entry that leaves the operation, over what the slope at a typical operand would
have made of the largest entry that came in, followed down to the next layer. A factor that the operation before takes
away again (softmax before log, the square before √) takes it out of that number too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS_WELL, SPIKE
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, GradStat, Op, Operand, ValueStat

EXCESS = Limit("excess", 100.0, "chosen: times what a typical operand gives")
SHARE = Limit("share_of_one_entry", 0.3, "chosen: of the gradient's norm")
PEAK = Limit(
    "peak", 8.0, "chosen: largest entry over root mean square, where a whole row shares it; chance gives 3 to 5"
)
PEAK_GROWN = Limit("peak_over_incoming", 3.0, "chosen: times the peak of the gradient that came in")
ONCE = Limit("excess_seen_once", 1e4, "chosen: an excess that one probe is enough for")
ENTRIES = Limit("entries_of_an_operand", 4, "chosen: of fewer none is typical")


@dataclass
class Near:
    """One singular operation near its singular point."""

    graph: Graph
    op: Op
    excess: float
    share: float
    smallest: float | None
    typical: float
    slope: float  # largest entry out over largest entry in


def near(case: Case) -> list[Finding]:
    """Find the singular operation whose worst entry carries the gradient, in the probes where all is finite."""
    if case.first_bad_step is not None:
        return []  # something did break: told where it was born
    found = [n for g in case.finite for i in g.reached if (n := _measure(g, g.probe.ops[i])) is not None]
    sites: dict[tuple[str | None, int | None, str], list[Near]] = {}
    for n in found:
        sites.setdefault((n.op.file, n.op.line, n.op.name), []).append(n)
    sure = [max(group, key=lambda n: n.excess) for group in sites.values() if len(group) > 1 or group[0].excess > ONCE]
    if not sure:
        return []
    worst = max(sure, key=lambda n: n.excess)
    op, step = worst.op, worst.graph.probe.step
    place = places.of_op(op, case.meta)
    confidence = min(0.7 + 0.05 * math.log10(worst.excess / EXCESS), 0.95)
    if case.main.measured and case.main.progress > LEARNS_WELL and case.main.spike < SPIKE:
        confidence -= 0.25  # a run that learns well is not held up by it
    operand = (
        f"its smallest operand is {worst.smallest:.3g}" if worst.smallest is not None else "an operand is next to it"
    )
    return [
        Finding(
            "exploding", "singular-op", confidence, place,
            f"{op.name} at {place.file}:{place.line} stands next to its singular point at step {step}: {operand} (typical "
            f"{worst.typical:.3g}), and one entry leaves it {worst.excess:.2g} times as large as a typical operand would make it, with "
            f"{worst.share:.0%} of the gradient's norm. All is finite still; at the point itself it would not be.",
            {"step": step, "operation": op.name, "smallest_operand": rounded(worst.smallest), "typical_operand": rounded(worst.typical),
             "largest_slope": rounded(worst.slope), "excess": rounded(worst.excess), "share_of_one_entry": rounded(worst.share)}
            | told(EXCESS, SHARE, gates=(PEAK, PEAK_GROWN, ONCE, ENTRIES, LEARNS_WELL, SPIKE)),
            remedies("clamp-op", "clip-gradient", at=place),
        )
    ]  # fmt: skip


def _measure(graph: Graph, op: Op) -> Near | None:
    grad = op.grad
    if op.kind != "singular" or grad is None or grad.max <= 0 or grad.nonfinite:
        return None
    for operand in op.operands:
        share, value = operand.grad, operand.value
        if share is None or value is None or share.norm <= 0 or value.numel < ENTRIES or share.nonfinite:
            continue
        usual = _usual(op, operand, value)
        arrived, factor = _arrived(graph, operand)
        if usual is None or usual <= 0 or arrived is None or arrived.nonfinite:
            continue
        slope = share.max / grad.max
        excess, part = slope / usual * min(arrived.max / share.max / factor, 1.0), share.max / share.norm
        if excess > EXCESS and _alone(share, grad) and _alone(arrived, grad):
            return Near(graph, op, excess, part, value.absmin, value.rms, slope)
    return None


def _alone(out: GradStat, came: GradStat) -> bool:
    """Whether one entry (or one row) carries a gradient that came in spread over many."""
    if out.norm <= 0 or out.rms <= 0 or came.rms <= 0:
        return False
    peak = out.max / out.rms
    return out.max / out.norm > SHARE or (peak > PEAK and peak > PEAK_GROWN * came.max / came.rms)


def _usual(op: Op, operand: Operand, value: ValueStat) -> float | None:
    """Return the slope at an operand of typical size; None for an operation that has no singular point there."""
    size = value.rms
    if size <= 0:
        return None
    exponent = op.scalars[0] if op.scalars else None
    match op.name:
        case "sqrt":
            return 0.5 / math.sqrt(size)
        case "rsqrt":
            return float(0.5 * size**-1.5)
        case "log" | "log2" | "log10" | "log1p":
            return 1.0 / size
        case "reciprocal":
            return size**-2
        case "pow" | "float_power" if exponent is not None and exponent < 1 and exponent != 0:
            return float(abs(exponent) * size ** (exponent - 1))
        case "div" | "true_divide":
            tensors = [o for o in op.operands if o.value is not None]
            if len(tensors) < 2:
                return None  # by a number
            over = tensors[1].value
            if over is None or over.rms <= 0 or tensors[0].value is None:
                return None
            return 1.0 / over.rms if operand is tensors[0] else tensors[0].value.rms / over.rms**2
        case "acos" | "asin" | "arccos" | "arcsin" | "atanh" | "acosh":
            return 1.0
        case "normalize":
            width = value.shape[-1] if value.shape else 1
            return 1.0 / (size * math.sqrt(width))
        case _:
            return None


def _arrived(graph: Graph, operand: Operand) -> tuple[GradStat | None, float]:
    """Return (the gradient that arrives at the next layer or leaf behind an operand, by the way of the largest entry; what
    plain numbers on that way multiplied it by).
    """
    stat, index, factor = operand.grad, operand.op, 1.0
    layers = set(graph.layers)
    while index is not None:
        op = graph.probe.ops[index]
        if op.grad is not None:
            stat = op.grad
        sent = [o for o in op.operands if o.grad is not None]
        if index in layers or not sent:
            break
        if (
            op.name in ("mul", "div")
            and len(sent) == 1
            and len(op.operands) == 1
            and len(op.scalars) == 1
            and op.scalars[0]
        ):
            factor *= abs(op.scalars[0]) if op.name == "mul" else 1.0 / abs(op.scalars[0])
        largest = max(sent, key=lambda o: o.grad.max if o.grad is not None else 0.0)
        stat, index = largest.grad, largest.op
    return stat, factor
