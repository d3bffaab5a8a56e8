"""What to do about an operation at its singular point, and what its operands say: by operation, not one paragraph for all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.limits import Limit
from gradientflow.ops import ARCS, GROWING, LOGS, PLACED, ROOTS
from gradientflow.records import Op, Place, Remedy, ValueStat

EIGEN = frozenset({"eigh", "linalg_eigh", "eig", "linalg_eig", "svd", "linalg_svd"})
_CHOOSING = frozenset(
    {"where", "masked_fill", "clamp", "clip", "clamp_min", "clamp_max", "nan_to_num", "minimum", "maximum"}
)
EXPONENT = Limit("exponent", 88, "ln of the largest float32, 88.7, rounded down")
BEHIND = Limit("operations_to_a_mask", 4, "chosen: between a value and a mask that comes too late for it")
_LENGTHS = frozenset({"sqrt", "norm", "vector_norm", "linalg_norm", "linalg_vector_norm", "dist", "cdist"})


@dataclass
class Mend:
    """What is read off an operation's operands, as the end of a sentence, and what helps."""

    reading: str
    remedies: list[Remedy] = field(default_factory=list)


def of(graph: Graph, op: Op, operand: ValueStat | None, place: Place) -> Mend:
    """Return what the operands of an operation that made something not finite say, and what mends it.

    Args:
        graph: the probe.
        op: where it was born.
        operand: what it consumed.
        place: its line, for the first remedy.
    """
    late = _chosen_late(graph, op)
    found = _rows_without_keys(op, place) or _lengths(op, place) or _eigen(op, place) or _quotient(graph, op, place)
    found = found or _by_name(graph, op, operand, place) or Mend("", remedies("clamp-op", at=place))
    if late is not None:
        found.remedies[:0] = remedies("mask-first", at=place)
        found.reading += (
            f"; {late.name} at {(late.file or '').rpartition('/')[2]}:{late.line} puts another value in its place, but the gradient still "
            f"passes here, and zero times infinity is NaN"
        )
    return found


def _own(kind: str, text: str, place: Place) -> list[Remedy]:
    at = f" at {place.file}:{place.line}" if place.file else ""
    return [Remedy(kind, text.format(at=at))]


def _rows_without_keys(op: Op, place: Place) -> Mend | None:
    """A softmax, or attention, of rows in which every key is masked by −∞."""
    if op.kind not in ("softmax", "attention") or not op.value.nan or not op.value.shape:
        return None
    width = op.value.shape[-1] or 1
    rows, all_rows = math.ceil(op.value.nan / width), max(1, op.value.numel // width)
    return Mend(
        f"; {rows} of {all_rows} rows have nothing left to look at: every key of theirs is masked by −∞, and the softmax of such a "
        f"row is 0/0",
        remedies("unmask-row", at=place),
    )


def _lengths(op: Op, place: Place) -> Mend | None:
    if op.name != "ctc_loss":
        return None
    return Mend(
        "; a sample has fewer frames than its labels need (as many as labels, and one more between equal neighbours), so no "
        "path exists and its loss is infinite",
        remedies("fit-lengths", at=place),
    )


def _eigen(op: Op, place: Place) -> Mend | None:
    if op.name not in EIGEN:
        return None
    what = "singular values" if "svd" in op.name else "eigenvalues"
    return Mend(
        f"; its gradient divides by the differences of the {what}, and some of them are equal",
        remedies("part-eigenvalues", at=place),
    )


def _quotient(graph: Graph, op: Op, place: Place) -> Mend | None:
    """A division: which operand is zero, where it was made, in how many entries, and whether the other one is zero there too."""
    if op.name not in ("div", "true_divide", "reciprocal") or not op.operands:
        return None
    made = [(o, o.value) for o in op.operands if o.value is not None]
    if not made:
        return None
    below, value = made[-1] if op.name != "reciprocal" else made[0]
    if value.zeros <= 0.0:
        return None
    source = graph.probe.ops[below.op] if below.op is not None else None
    where = f" ({source.name} at {(source.file or '').rpartition('/')[2]}:{source.line})" if source is not None else ""
    entries = round(value.zeros * value.numel)
    nought = "0/0, which is NaN" if op.value.nan else "a number over 0, which is Inf"
    return Mend(
        f"; the denominator{where} is exactly 0 in {entries} of {value.numel} entries: {nought}",
        _own("clamp-op", "Keep the denominator{at} from 0: `clamp(min=eps)` where it cannot be negative, or leave out what is empty "
        "(a group without members, a constant column) before it is divided by.", place),
    )  # fmt: skip


def _by_name(graph: Graph, op: Op, operand: ValueStat | None, place: Place) -> Mend | None:
    exponent = op.scalars[0] if op.scalars else None
    fractional = op.name in ("pow", "float_power") and (exponent is None or not exponent.is_integer())
    negative = operand is not None and operand.min < 0
    at_zero = operand is not None and (operand.absmin == 0 or operand.zeros > 0)
    if op.name in ROOTS | LOGS | {"log1p"} and negative:
        return Mend(
            f"; {op.name} of a negative number is NaN, and through torch.where its gradient is NaN even where unused",
            _own("clamp-op", "Keep the operand{at} from below 0 (`clamp(min=eps)`), and find out what makes it negative: rounding, as in "
            "E[x²] − E[x]², or a sign.", place),
        )  # fmt: skip
    if fractional and negative:
        many = f" ({op.value.nan} of {op.value.numel} results are NaN)" if op.value.nan else ""
        return Mend(
            f"; a negative number has no fractional power{many}",
            _own("clamp-op", "Keep the base{at} from below 0: `clamp(min=eps)`, `abs()`, or shift it to where it cannot be negative "
            "before the power is taken.", place),
        )  # fmt: skip
    if at_zero and (op.name in _LENGTHS | ROOTS or fractional):
        return Mend(
            f"; the slope of {op.name} at 0 is infinite, and infinity times zero is NaN",
            _own("clamp-op", "Put a small epsilon inside{at} (`(x + eps).sqrt()`, `(x² + eps)**0.5`), or use the safe form "
            "(`torch.linalg.vector_norm`, whose slope at 0 is 0).", place),
        )  # fmt: skip
    if op.name in LOGS and at_zero:
        return _logarithm(graph, op, place)
    if op.name in GROWING:
        return Mend(
            "; exp overflows float32 above 88.7" if op.name == "exp" and operand is not None and operand.max > EXPONENT else "",
            _own("clamp-op", "Clamp what goes into it{at} (`x.clamp(max=80)`), not what comes out, or subtract the largest first "
            "(`softmax`, `logsumexp`, `softplus`).", place),
        )  # fmt: skip
    if op.name in ARCS:
        return Mend(
            "; its slope at ±1 is infinite",
            _own("clamp-op", "Keep the operand{at} within (−1 + eps, 1 − eps), or use `torch.atan2` of sine and cosine.", place),
        )  # fmt: skip
    return None


def _logarithm(graph: Graph, op: Op, place: Place) -> Mend:
    made = next((graph.probe.ops[o.op].name for o in op.operands if o.op is not None), "")
    safe = {"softmax": "`F.log_softmax` of the scores", "sigmoid": "`F.logsigmoid` of the scores, or "
            "`binary_cross_entropy_with_logits`", "sum": "`torch.logsumexp`"}.get(made)  # fmt: skip
    text = (
        f"Take {safe} instead of the logarithm of {made}{{at}}: it never forms the 0."
        if safe is not None
        else "Put a small epsilon inside{at} (`(x + eps).log()`), or use `log1p`, `xlogy` or `logsumexp`."
    )
    return Mend(
        f"; the logarithm of 0 is −∞{f' ({made} has rounded to 0)' if safe else ''}", _own("clamp-op", text, place)
    )


def masked_behind(graph: Graph, op: Op) -> Op | None:
    """Return the multiplication by a mask of zeros and ones that stands behind an operation, a few operations at most."""
    todo = [(op.index, 0)]
    while todo:
        index, depth = todo.pop()
        consumer = graph.probe.ops[index]
        masks = [o.value for o in consumer.operands if o.op is None and o.param is None and o.value is not None]
        if depth and consumer.name == "mul" and any(m.min == 0.0 and m.max == 1.0 for m in masks):
            return consumer
        if depth < BEHIND:
            todo += [(i, depth + 1) for i in graph.consumers[index]]
    return None


def _chosen_late(graph: Graph, op: Op) -> Op | None:
    """Return the operation that puts another value where this one's is not wanted: behind it, and so too late for the gradient."""
    for index in graph.consumers[op.index]:
        consumer = graph.probe.ops[index]
        if consumer.name in _CHOOSING or (consumer.name in PLACED and consumer.name not in ("cat", "stack")):
            return consumer
    return None
