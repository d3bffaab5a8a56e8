"""Plans for remedies in the build of a network: skips, normalisations put in and taken out."""

from __future__ import annotations

import math

from gradientflow.depth.causes.case import rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.remedies.planner import Planner, body_of, named, unique, within_network
from gradientflow.ops import IN_A_BLOCK
from gradientflow.records import Change, Finding, Place


def add_norm(plan: Planner, finding: Finding) -> list[Change]:
    """In front of each hidden activation; behind each hidden layer where there are none; on queries and keys."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    if finding.cause == "attention-saturation":
        found = plan.scores(graph, finding)
        if found is None or not found[1].value.rms:
            return []
        entered, product = found
        width = next((graph.probe.ops[o.op].value.shape[-1] for o in product.operands if o.op is not None), 1)
        scale = entered.value.rms / product.value.rms
        length = rounded(math.sqrt(math.sqrt(width) / max(scale, 1e-30))) or 1.0
        at = [plan.place(product)]
        return [
            Change(
                "add-norm", f"queries and keys normalised to length {length:.3g} at {named(at)}", at, {"length": length}
            )
        ]
    at = _activations(plan, graph)
    if at:
        return [Change("add-norm", f"layer norm (without parameters) in front of the activations at {named(at)}", at)]
    hidden = unique(plan.place(graph.probe.ops[i]) for i in graph.layers if i != graph.last_layer)
    return (
        [Change("add-norm", f"layer norm (without parameters) behind the layers at {named(hidden)}", hidden)]
        if hidden
        else []
    )


def _activations(plan: Planner, graph: Graph) -> list[Place]:
    ops = [op for op in body_of(graph) if op.kind == "activation"] if graph.body else []
    return within_network(plan, graph, unique(plan.place(op) for op in ops)[::-1])


def add_skip(plan: Planner, finding: Finding) -> list[Change]:
    """Around each block of the body that ends as wide as it began, scaled so that the sum does not grow with depth."""
    graph = plan.graph(finding)
    if graph is None or not graph.body:
        return []
    ops = graph.probe.ops
    ends = [i for i in graph.body if ops[i].kind == "activation"] or [i for i in graph.layers if i != graph.last_layer]
    blocks = [i for i in ends if _as_wide(graph, i)]
    at = within_network(plan, graph, unique(plan.place(ops[i]) for i in blocks)[::-1])
    if not at:
        return []
    scale = rounded(1.0 / math.sqrt(len(blocks)), 3) or 1.0
    return [
        Change("add-skip", f"x + {scale:g}·block(x) around {len(blocks)} blocks, at {named(at)}", at, {"scale": scale})
    ]


def _as_wide(graph: Graph, end: int) -> bool:
    """Whether the block that ends here has one layer, and data of one shape going in and out."""
    ops = graph.probe.ops
    index: int | None = end
    while index is not None and index not in graph.layers:
        made_by = [o.op for o in ops[index].operands if o.op is not None]
        if ops[index].kind not in IN_A_BLOCK and not (ops[index].name == "add" and len(made_by) == 1):
            return False
        index = next(iter(made_by), None)
    if index is None:
        return False
    entering = [
        ops[o.op].value.shape for o in ops[index].operands if o.op is not None and o.op not in graph.weights_only
    ]
    return ops[end].value.shape in entering


def remove_norm(plan: Planner, finding: Finding) -> list[Change]:
    """Every batch normalisation of the body."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    at = within_network(plan, graph, unique(plan.place(op) for op in body_of(graph) if op.kind == "norm"))
    what = "/".join(sorted({p.op or "" for p in at}))
    return [Change("remove-norm", f"{what} left out at {named(at)}", at)] if at else []
