"""How near what a singular operation consumes is to its singularity."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.stats import value_stat
from gradientflow.depth.probe.traced import Trace
from gradientflow.records import Operand


def nearness(trace: Trace, registry: Registry, inputs: Sequence[Tensor], operands: list[Operand]) -> None:
    """Keep the value of what a singular operation consumes, with its smallest |entry|.

    Args:
        trace: what was seen before.
        registry: who is who among the parameters.
        inputs: what it was called with.
        operands: their records, which are added to.
    """
    data = iter([o for o in operands if o.op is None and o.value is not None])
    for t in inputs:
        if not t.is_floating_point() or not t.numel():
            continue
        if not t.requires_grad:
            operand = next(data, None)
        elif t.grad_fn is not None:
            made_by = trace.owner.get(t.grad_fn)
            operand = next((o for o in operands if o.op == made_by and made_by is not None), None)
        else:
            leaf = registry.find(t)
            operand = next((o for o in operands if o.param == leaf and leaf is not None), None)
        if operand is not None:
            operand.value = operand.value or value_stat(t)
            operand.value.absmin = float(t.detach().abs().min())
