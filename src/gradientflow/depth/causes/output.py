"""An output that cannot answer: an activation before the loss that does not fit it, told by the floor it puts under the loss."""

from __future__ import annotations

import math
from typing import Any

from gradientflow.depth.causes import losses, places, theory
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS, LEARNS_WELL, LOSSES
from gradientflow.limits import Limit, told
from gradientflow.ops import RANGES, output_range
from gradientflow.records import Finding, Op, Operand, ValueStat

SATURATED = Limit("saturated", 0.8, "chosen: of the outputs, at the end of their range")
CUT = Limit("cut_off", 0.15, "chosen: of the output units, that a ReLU holds at zero for the whole batch")
FLOOR = Limit("floor_over_loss", 0.5, "chosen: of the loss, that no network with this output could take away")
ABOVE = Limit("floor_over_loss_at_most", 2.0, "chosen: a floor that the loss is far below is none")


def output_activation(case: Case) -> list[Finding]:
    """The loss side passes almost nothing: an activation on the output that is saturated, cuts scores off, or is applied
    where the loss applies its own.
    """
    graphs = case.finite
    if not graphs or not case.main.measured or case.main.progress > LEARNS_WELL:
        return []
    graph = graphs[-1]
    doubled = _twice(case, graph)
    if doubled is not None:
        return [doubled]
    found = losses.target(graph)
    for index in graph.head:
        op = graph.probe.ops[index]
        evidence: dict[str, Any] = {"step": graph.probe.step, "progress": rounded(case.main.progress)}
        reading = (found is not None and _unreachable(case, op, found, evidence)) or (
            _closed(op, evidence) if case.main.progress <= LEARNS else None
        )
        if not reading:
            continue
        place = places.of_op(op, case.meta)
        return [
            Finding(
                "crawling", "output-activation", 0.75, place,
                f"{reading.format(f'{op.name} at {place.file}:{place.line}')}: the output layer cannot give what the loss asks for.",
                evidence | told(gates=(LOSSES, LEARNS, LEARNS_WELL, ABOVE)), remedies("fix-output", "scale-target", at=place),
            )
        ]  # fmt: skip
    return []


def _unreachable(
    case: Case, op: Op, found: tuple[Op, Operand, ValueStat, ValueStat], evidence: dict[str, Any]
) -> str | None:
    """Compare the loss with the floor that an output range puts under a squared error, for targets as they are."""
    loss, _, wanted, _ = found
    reached = output_range(op.name)
    if reached is None or (wanted.min >= reached[0] and wanted.max <= reached[1]):
        return None
    low, high = reached
    floor = theory.unreachable(low, high, wanted.mean, wanted.std)
    evidence |= {
        "target_mean": rounded(wanted.mean),
        "target_std": rounded(wanted.std),
        "range_low": low,
        "range_high": high,
    }
    ends = (
        f"above {low:g}"
        if math.isinf(high)
        else f"below {high:g}"
        if math.isinf(low)
        else f"between {low:g} and {high:g}"
    )
    reach = f"The targets lie around {wanted.mean:.3g} (±{wanted.std:.2g}), but {{}} can only answer {ends}"
    if loss.name == "mse_loss" or (loss.name == "sub" and case.main.end > 0):
        over = floor / max(case.main.end, 1e-300)
        evidence |= {"loss_end": rounded(case.main.end), "loss_floor": rounded(floor), "floor_over_loss": rounded(over)} | told(FLOOR)  # fmt: skip
        if FLOOR <= over <= ABOVE:
            return f"{reach} and the squared error cannot fall below {floor:.3g} (it ends at {case.main.end:.3g})"
    if math.isfinite(high - low) and not low - (high - low) <= wanted.mean <= high + (high - low):
        return reach
    return None


def _closed(op: Op, evidence: dict[str, Any]) -> str | None:
    """Whether an activation of the output lets no gradient through for most of its entries."""
    if op.name in RANGES and op.name != "relu6" and (op.value.saturated or 0.0) > SATURATED:
        evidence |= {"saturated": rounded(op.value.saturated)} | told(SATURATED)
        return f"{op.value.saturated:.0%} of the network's outputs are at the end of the range of {{}}, where no gradient passes"
    if op.name == "relu" and CUT < (op.value.dead or 0.0) < 1.0:
        evidence |= {"cut_off": rounded(op.value.dead)} | told(CUT)
        return f"{op.value.dead:.0%} of the network's outputs are cut off to zero for the whole batch by {{}}, where no gradient passes"
    return None


def _twice(case: Case, graph: Graph) -> Finding | None:
    """An activation whose result goes straight into a loss that applies the same again, or that expects its logarithm."""
    for index in graph.head:
        op = graph.probe.ops[index]
        made = _source(graph, op)
        if made is None:
            continue
        classes = made.value.shape[-1] if made.value.shape else 1
        if op.name in ("cross_entropy", "log_softmax") and made.name == "softmax" and classes > 1:
            floor = math.log(1 + (classes - 1) / math.e)
            why = f"a loss that applies softmax again: over {classes} classes that loss cannot fall below {floor:.3g}"
        elif op.name in ("cross_entropy", "log_softmax") and made.name == "sigmoid" and classes > 1:
            floor = math.log(1 + (classes - 1) / math.e)
            why = f"a softmax loss: scores between 0 and 1 over {classes} classes cannot bring it below {floor:.3g}"
        elif op.name == "binary_cross_entropy_with_logits" and made.name in ("sigmoid", "softmax"):
            floor = math.log(1 + math.exp(-1.0))
            why = (
                f"a loss that applies sigmoid itself: scores between 0 and 1 cost at least {math.log(2):.2g} where the answer "
                f"is no and {floor:.2g} where it is yes"
            )
        elif op.name == "nll_loss" and made.name == "softmax":
            floor = -1.0
            why = "a loss that expects logarithms of probabilities (log_softmax): its gradient does not grow where the answer is wrong"
        else:
            continue
        place = places.of_op(made, case.meta)
        return Finding(
            "crawling", "output-activation", 0.85, place,
            f"{made.name} at {place.file}:{place.line} goes into {why}, and its gradient is a fraction of what it should be.",
            {"classes": classes, "loss_floor": rounded(floor), "loss_end": rounded(case.main.end)}
            | told(gates=(LOSSES, LEARNS_WELL)),
            remedies("fix-output", at=place),
        )  # fmt: skip
    return None


def _source(graph: Graph, op: Op) -> Op | None:
    """Return the operation that made the first operand, seen through changes of shape."""
    made = next((graph.probe.ops[o.op] for o in op.operands if o.op is not None), None)
    while made is not None and made.kind == "shape":
        made = next((graph.probe.ops[o.op] for o in made.operands if o.op is not None), None)
    return made
