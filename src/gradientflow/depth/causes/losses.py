"""The loss of a probe: what it compares the network's answer with, and what an answer that ignores the data would cost."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.causes import places, theory
from gradientflow.depth.causes.graph import Graph
from gradientflow.records import Op, Operand, Place, ValueStat


def target(graph: Graph) -> tuple[Op, Operand, ValueStat, ValueStat] | None:
    """Return (operation, target, its value, the network's answer) where a loss compares an answer with data: on the
    gradient's way, else (a loss over several outputs) anywhere behind the last layer.
    """
    last = max(graph.layers, default=-1)
    for index in [*graph.head, *(i for i in reversed(graph.reached) if i > last)]:
        op = graph.probe.ops[index]
        if op.name not in ("sub", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            continue
        answer = next((graph.probe.ops[o.op].value for o in op.operands if o.op is not None), None)
        for operand in op.operands:
            if operand.op is None and operand.param is None and operand.value and operand.value.numel > 1 and answer:
                return op, operand, operand.value, answer
    return None


def of_its_own(graph: Graph) -> Operand | None:
    """Return what the loss is held against, or picks by, where the network itself made it, without gradients."""
    before = set(graph.layers)
    todo = list(before)
    while todo:
        for operand in graph.probe.ops[todo.pop()].operands:
            if operand.op is not None and operand.op not in before:
                before.add(operand.op)
                todo.append(operand.op)
    side = (graph.probe.ops[i] for i in graph.reached if i not in before)
    return next((o for op in side for o in op.operands if o.own and o.op is None and o.param is None), None)


def line(graphs: Sequence[Graph]) -> Place | None:
    """Return the line of the loss that the backward pass of the first of some probes began at."""
    root = graphs[0].probe.root if graphs else None
    return places.of_op(graphs[0].probe.ops[root], graphs[0].meta) if root is not None else None


def ignorance(graph: Graph) -> float | None:
    """Return the loss of the best constant answer, for a probe whose loss is one plain squared error or cross-entropy; None
    for any other loss (with penalties, factors or parts), whose level is not known.
    """
    root = graph.probe.ops[graph.probe.root] if graph.probe.root is not None else None
    if root is None:
        return None
    if root.name == "cross_entropy":
        scores = next((graph.probe.ops[o.op].value for o in root.operands if o.op is not None), None)
        return (
            theory.chance(scores.shape[1] if len(scores.shape) > 1 else scores.shape[-1])
            if scores is not None
            else None
        )
    found = target(graph)
    plain = root.name == "mse_loss" or (root.name == "mean" and _squared(graph, root))
    return found[2].std ** 2 if plain and found is not None and found[2].std > 0 else None


def _squared(graph: Graph, root: Op) -> bool:
    """Whether an operation takes the mean of the square of a difference."""
    made = next((graph.probe.ops[o.op] for o in root.operands if o.op is not None), None)
    if made is None or not (made.name == "square" or (made.name == "pow" and made.scalars[:1] == [2.0])):
        return False
    return any(graph.probe.ops[o.op].name == "sub" for o in made.operands if o.op is not None)
