"""Plans for operations at their singular points."""

from __future__ import annotations

import math

from gradientflow.depth.causes.case import rounded
from gradientflow.depth.remedies.planner import Planner
from gradientflow.limits import Limit
from gradientflow.records import Change, Finding, Place
from gradientflow.records.replay import Setting

EPS = 1e-6  # of the operand's usual size: how far it is kept from the singular point
SMALL = Limit("operand_at_least", 1e-2, "chosen: a size of a few steps may be that of this operand by chance")
LARGE = Limit("operand_at_most", 1e2, "chosen: what stands so far out is the trouble, not the usual size")


def clamp_op(plan: Planner, finding: Finding) -> list[Change]:
    """The operand at the finding's line, a millionth of its usual size from the singular point."""
    at = finding.place
    if at is None or at.op is None or at.file is None or at.op == "data":
        return []
    size = finding.evidence.get("operand_max")
    size = min(max(abs(size), SMALL), LARGE) if isinstance(size, (int, float)) and math.isfinite(size) else 1.0
    eps = rounded(EPS * size, 1) or EPS
    place = Place(at.file, at.line, None, at.op)
    settings: dict[str, Setting] = {"eps": eps}
    text = f"the operand of {at.op} at {at.file}:{at.line} kept {eps:g} from its singular point"
    if finding.cause == "overflow":
        text = f"what enters {at.op} at {at.file}:{at.line} kept below overflow"
    if at.op == "exp":
        text = f"the exponent at {at.file}:{at.line} kept below overflow"
        dim = _softmax_dim(plan, finding, place)
        if dim is not None:
            settings |= {"shift": True, "dim": dim}
            text = f"the largest exponent taken off first at {at.file}:{at.line}, as softmax does"
    return [Change("clamp-op", text, [place], settings)]


def _softmax_dim(plan: Planner, finding: Finding, place: Place) -> int | None:
    """Return the dimension over which one exp is summed and divided: a softmax by hand; None where it is not one."""
    graph = plan.graph(finding)
    found = plan.at(graph, place) if graph is not None else []
    if graph is None or len({tuple(op.value.shape) for op in found}) != 1:
        return None
    users = [graph.probe.ops[i] for i in graph.consumers[found[0].index]]
    sums = [op for op in users if op.name == "sum"]
    if not sums or not any(op.name == "div" for op in users) or not sums[0].scalars:
        return None
    return int(sums[0].scalars[0])
