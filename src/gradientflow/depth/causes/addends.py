"""The addends of a loss, by the operations that only add, scale and average on its way back from the root; and those that were
computed from weights but have no graph.

A constant is no addend that anybody misses. One that comes of weights which are trained is: it is counted in the loss, and
trains nothing. The exception is a value that is added to itself without its graph (`x + (q(x) − x).detach()`): what it
hides there, it passes on beside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.written import leads_to
from gradientflow.limits import Limit
from gradientflow.records import Cut, Op

_JOINING = frozenset({"add", "sub", "stack", "cat", "concat", "concatenate", "hstack", "vstack"})
_SCALING = frozenset({
    "mul", "div", "neg", "mean", "sum", "nansum", "nanmean", "squeeze", "unsqueeze", "reshape", "view", "flatten", "to", "float",
    "double", "half", "bfloat16", "clone", "contiguous", "positive", "type",
})  # fmt: skip

_OUTSIDE = frozenset({"numpy", "tolist", "array"})  # where no number can be followed any more

SAME_LINE = Limit(
    "error_of_the_line", 1e-6, "chosen: of the spread; what is a number plus a multiple of it leaves only rounding"
)
POINTS = Limit("probes_of_a_line", 3, "chosen: two points always lie on a line")


@dataclass
class Severed:
    """One addend without a graph, in one probe."""

    op: Op  # the addition
    cut: Cut
    value: float


def _tree(graph: Graph) -> Iterator[tuple[Op, bool]]:
    """Yield the operations that only add, scale and average on the way back from the root, each with whether it joins several;
    and the first behind them.
    """
    seen: set[int] = set()
    todo = [graph.probe.root] if graph.probe.root is not None else []
    while todo:
        index = todo.pop()
        if index in seen:
            continue
        seen.add(index)
        op = graph.probe.ops[index]
        alive = [o.op for o in op.operands if o.op is not None]
        joins = op.name in _JOINING
        yield op, joins
        if joins or (op.name in _SCALING and len(alive) == 1):
            todo += alive


def leaves(graph: Graph) -> list[Op]:
    """Return the operations that a loss is the sum of."""
    ops = list(_tree(graph))
    return [
        op
        for op, joins in ops
        if not joins and (op.name not in _SCALING or sum(o.op is not None for o in op.operands) != 1)
    ]


def severed(graph: Graph) -> list[Severed]:
    """Return the addends that come of trained weights and have no graph."""
    found = []
    loose = [(op, o) for op, joins in _tree(graph) if joins for o in op.operands if o.op is None and o.param is None]
    for op, operand in loose:
        if operand.cut is None or operand.value is None:
            continue
        cut = graph.probe.cuts[operand.cut]
        whole = operand.value.numel == 1 or cut.name == "grad"  # (part of a target, or of a divergence, is no addend)
        if whole and operand.value.rms > 0 and trained(graph, cut) and not _beside_itself(graph, op, cut):
            found.append(Severed(op, cut, operand.value.mean))
    return found


def reaches_training(graph: Graph) -> bool:
    """Whether the loss depends on a weight that is trained."""
    return any(
        _is_trained(graph, o.param) for i in graph.reached for o in graph.probe.ops[i].operands if o.param is not None
    )


def trained(graph: Graph, cut: Cut) -> bool:
    """Whether what a cut took out of the graph hangs on weights that are trained."""
    if cut.op < 0:
        return cut.param is not None and _is_trained(graph, cut.param)
    return any(
        _is_trained(graph, o.param)
        for i in behind(graph, cut.op)
        for o in graph.probe.ops[i].operands
        if o.param is not None
    )


def _is_trained(graph: Graph, param: int) -> bool:
    known = graph.params[param]
    return known.requires_grad and (known.optimizer is not None or (known.is_parameter and not graph.meta.optimizers))


def behind(graph: Graph, *indices: int) -> set[int]:
    """Return operations and all that they are computed from, whether or not the loss depends on them."""
    seen: set[int] = set()
    todo = list(indices)
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += [o.op for o in graph.probe.ops[at].operands if o.op is not None]
    return seen


def _beside_itself(graph: Graph, op: Op, cut: Cut) -> bool:
    """Whether what an addition adds without its graph is computed from what it adds with it."""
    if cut.op < 0:
        return False
    hidden = {_recipe(graph, i) for i in behind(graph, cut.op)}
    return any(_recipe(graph, o.op) in hidden for o in op.operands if o.op is not None)


def _recipe(graph: Graph, index: int) -> tuple[object, ...]:
    """Return what tells an operation's result: the same, computed twice, has the same."""
    op = graph.probe.ops[index]
    return (op.name, op.kind == "random" and index, *((o.op, o.param) for o in op.operands), *op.scalars)


def numbers(graphs: list[Graph]) -> list[Severed]:
    """Return additions of a plain number that is, in every probe, one and the same line in a number that was taken out of the
    graph (`item()`, `float()`): its value, times a factor, plus a constant.
    """
    added: dict[tuple[str | None, int | None, int], dict[int, tuple[Op, float]]] = {}
    taken: dict[tuple[str | None, int | None, int], dict[int, Cut]] = {}
    for k, graph in enumerate(graphs):
        for n, (op, number) in enumerate(_plain(graph)):
            added.setdefault((op.file, op.line, n), {})[k] = (op, number)
        lines: dict[tuple[str | None, int | None], list[Cut]] = {}
        for cut in graph.probe.cuts:
            if cut.value is not None and math.isfinite(cut.value):
                lines.setdefault((cut.file, cut.line), []).append(cut)
        for (file, line), cuts_there in lines.items():
            every = msgspec.structs.replace(cuts_there[0], value=math.fsum(c.value or 0.0 for c in cuts_there))
            for n, cut in enumerate([every, *cuts_there]):  # (a loop may add them up)
                taken.setdefault((file, line, n), {})[k] = cut
    found = []
    for places in added.values():
        for cuts in taken.values():
            both = sorted(places.keys() & cuts.keys())
            if len(both) < len(places) or not _on_a_line([(cuts[k].value or 0.0, places[k][1]) for k in both]):
                continue
            k, (op, number) = both[-1], places[both[-1]]
            if trained(graphs[k], cuts[k]) and not _beside_itself(graphs[k], op, cuts[k]):
                found.append(Severed(op, cuts[k], number))
                break
    return found


def from_outside(graphs: list[Graph]) -> list[Severed]:
    """Return additions of a number, or of a tensor of one entry, that changes from probe to probe and that the source takes from
    what left PyTorch (`numpy`, `tolist`).
    """
    sites: dict[tuple[str | None, int | None, int], list[tuple[Graph, Op, float]]] = {}
    for graph in graphs:
        joins = {op.index: op for op, joins in _tree(graph) if joins and op.name in ("add", "sub")}
        for n, (_, op) in enumerate(sorted(joins.items())):
            alone = [
                o.value.mean
                for o in op.operands
                if o.op is None and o.param is None and o.cut is None and o.value and o.value.numel == 1
            ]
            for number in [*op.scalars[:1], *alone]:
                sites.setdefault((op.file, op.line, n), []).append((graph, op, number))
    found = []
    for seen in sites.values():
        graph, op, number = seen[-1]
        if len({n for *_, n in seen}) < POINTS or number == 0.0:
            continue
        text = graph.meta.sources.get(op.file or "", "")
        for cut in graph.probe.cuts:
            left = cut.name in _OUTSIDE and cut.file == op.file and cut.line is not None and op.line is not None
            if (
                left
                and trained(graph, cut)
                and not _beside_itself(graph, op, cut)
                and leads_to(text, op.line or 0, cut.line or 0)
            ):
                found.append(Severed(op, cut, number))
                break
    return found


def _plain(graph: Graph) -> list[tuple[Op, float]]:
    """Return the additions of one plain number among the addends of a loss."""
    joins = {op.index: op for op, joins in _tree(graph) if joins and op.name in ("add", "sub") and len(op.scalars) == 1}
    return [(op, op.scalars[0]) for _, op in sorted(joins.items())]


def _on_a_line(points: list[tuple[float, float]]) -> bool:
    """Whether y is a number plus a multiple of x, neither of them standing still."""
    if len(points) < POINTS:
        return False
    mx, my = (math.fsum(p[k] for p in points) / len(points) for k in range(2))
    sxx = math.fsum((x - mx) ** 2 for x, _ in points)
    syy = math.fsum((y - my) ** 2 for _, y in points)
    sxy = math.fsum((x - mx) * (y - my) for x, y in points)
    if sxx <= (SAME_LINE * mx) ** 2 or syy <= (SAME_LINE * my) ** 2:
        return False
    return syy - sxy * sxy / sxx <= (SAME_LINE * SAME_LINE) * syy
