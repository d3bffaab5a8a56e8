"""Singular points that a run has not met: how near it came, as a remark beside a verdict and not as a finding."""

from __future__ import annotations

import math

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case
from gradientflow.limits import Limit
from gradientflow.ops import GROWING, LARGEST, LOGS

NEAR = Limit(
    "smallest_operand", 1e-3, "chosen: three decades below 1; a probability that a network is unsure of lies above"
)
FAR_UP = Limit("share_of_exponents", 0.25, "chosen: a quarter of the decades of the format, 10 of 38 in float32")
_SAFE = {"softmax": "F.log_softmax", "sigmoid": "F.logsigmoid"}


def remark(case: Case) -> str:
    """Return a clause about the logarithm of a probability, or the exponential, that came nearest to its end; empty if none did."""
    nearest: tuple[float, str] = (math.inf, "")
    for graph in case.finite:
        for index in graph.reached:
            op = graph.probe.ops[index]
            made = next((graph.probe.ops[o.op] for o in op.operands if o.op is not None), None)
            value = next((o.value for o in op.operands if o.value is not None), None)
            at = places.of_op(op, case.meta)
            where = f"{op.name} at {(at.file or '').rpartition('/')[2]}:{at.line}"
            if (
                op.name in LOGS
                and made is not None
                and made.name in _SAFE
                and value is not None
                and value.absmin is not None
            ):
                left = math.log10(max(value.absmin, 1e-300))
                if value.absmin < NEAR and left < nearest[0]:
                    text = f"the {where} of a {made.name} came to {value.absmin:.2g} from its singular point at 0 ({_SAFE[made.name]} has none)"
                    nearest = left, text
            limit = LARGEST.get(op.value.dtype)
            if op.name in GROWING and limit is not None and op.value.absmax > 0:
                share = math.log10(op.value.absmax) / math.log10(limit)
                if share > FAR_UP and -share < nearest[0]:
                    nearest = (
                        -share,
                        f"the {where} came to {op.value.absmax:.2g} ({op.value.dtype} ends at {limit:.2g})",
                    )
    return nearest[1]
