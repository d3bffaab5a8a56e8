"""The budget: where the gradient's decades went between the loss and the first layer.

Along a chain gains multiply, so their logarithms add up exactly. A real network is a graph; the budget follows one path
through it, from the loss to the first layer, always along the consumer that sends most of the gradient. Each step of
the path has two factors: what the operation does to its own share, and the merge, where a tensor's gradient is the sum
of several routes (a residual stream, attention, several losses). Merges get rows of their own, so the parts still sum
to the total, but the text says that shares of different routes do not add in decades.
"""

from __future__ import annotations

import math
from collections import defaultdict

from gradientflow.depth.causes import places
from gradientflow.depth.causes.graph import Graph
from gradientflow.limits import Limit
from gradientflow.records import Budget, Op, Share

BRANCH_NOTE = (
    "The gradient has several routes (residual, attention, several losses or a tensor used twice); the path follows the largest "
    "share. Where routes join (⊕, kind 'branch') the others' share is added: it adds as a vector, not in decades."
)
_SPREADING = frozenset(
    {"reduce", "pool", "shape"}
)  # they spread a gradient over more entries, which lowers its norm by itself
MERGED = Limit("decades_of_a_merge", 0.005, "chosen: one percent; a smaller change is not worth a row")


def build(graph: Graph) -> Budget:
    """Return the budget of one probe.

    Args:
        graph: the probe's graph, with its layers and its path.

    Returns:
        Rows from the loss down. `total_decades` is None where the gradient is exactly zero or not finite on the way.
    """
    path = graph.path
    if len(path) < 2:
        return Budget(step=graph.probe.step, note="no path from the loss to a layer was measured")
    ops = graph.probe.ops
    start, end = ops[path[0]], ops[path[-1]]
    reference = _norm(ops[graph.last_layer]) if graph.last_layer is not None else _norm(start)
    rows: list[Share] = []
    branched = False
    in_body = False
    for position, index in enumerate(path):
        op = ops[index]
        in_body = in_body or index == graph.last_layer
        here = _norm(op)
        if position == len(path) - 1:
            rows.append(_row(graph, op, None, None, here, reference, in_body))
            break
        following = path[position + 1]
        share = graph.share(index, following)
        arrived = _norm(ops[following])
        gain = _ratio(share, here)
        rows.append(_row(graph, op, gain, _log(gain), here, reference, in_body))
        merge = _ratio(arrived, share)
        sent = graph.shares_into(following)
        if merge is not None and len(sent) > 1 and abs(_log(merge) or 0.0) > MERGED:
            branched = True
            whole = sum(sent.values())
            join = places.of_op(ops[following], graph.meta)
            rows.append(
                Share(
                    name="other routes", kind="branch", decades=_log(merge), gain=merge, left=_log(_ratio(arrived, reference)),
                    norm=arrived, file=join.file, line=join.line, module=join.module,
                    op=following, share=share / whole if share is not None and whole else None, body=in_body,
                )
            )  # fmt: skip
        elif merge is not None and rows:
            rows[-1].gain = (rows[-1].gain or 0.0) * merge if rows[-1].gain is not None else None
            rows[-1].decades = _log(rows[-1].gain)
    total = _log(_ratio(_norm(end), _norm(start)))
    parts = [r.decades for r in rows if r.decades is not None]
    body = _log(_ratio(_norm(end), reference)) if graph.last_layer is not None else None
    kinds, worst = everywhere(graph)
    return Budget(
        everywhere=kinds, worst_op=worst,
        total_decades=total, by_op=rows, by_module=_grouped(rows, "module"), by_kind=_grouped(rows, "kind"),
        residual=math.fsum(parts) - total if total is not None else None, body_decades=body, branched=branched,
        step=graph.probe.step, note=BRANCH_NOTE if branched else "",
    )  # fmt: skip


def everywhere(graph: Graph) -> tuple[list[Share], Share | None]:
    """Return what every kind of operation took over the whole graph, and the single operation that took most.

    A route back through the graph is drawn step by step, each operand with the part of ‖gradient‖² that is sent to it. What
    an operation takes, log10(‖all it sends‖/‖what arrived‖), counts with the chance that a route passes it. On a chain
    that is the budget itself; where routes part and meet again, every one of them counts. Only what lies behind a layer.

    Returns:
        (rows by kind, most taken first; the worst operation's row, or None).
    """
    chance: dict[int, float] = {graph.probe.root: 1.0} if graph.probe.root is not None else {}
    layers, behind = set(graph.layers), set[int]()
    kinds: dict[str, list[Share]] = defaultdict(list)
    for index in reversed(graph.reached):
        op = graph.probe.ops[index]
        weight = chance.get(index, 0.0)
        if index in layers:
            behind.add(index)
        sent = [o for o in op.operands if o.op is not None and o.grad is not None and o.grad.norm > 0]
        if weight <= 0.0 or not sent or op.grad is None or not op.grad.norm > 0 or op.grad.nonfinite:
            continue
        whole = math.hypot(*(o.grad.norm for o in sent if o.grad is not None))
        if not math.isfinite(whole):
            continue
        for o in sent:
            if o.op is not None and o.grad is not None:
                chance[o.op] = chance.get(o.op, 0.0) + weight * (o.grad.norm / whole) ** 2
                if index in behind:
                    behind.add(o.op)
        if index in behind:
            place = places.of_op(op, graph.meta)
            took = weight * math.log10(whole / op.grad.norm)
            kinds[op.kind].append(
                Share(op.name, op.kind, took, 10**took, file=place.file, line=place.line, module=op.module, op=index)
            )
    rows = [
        Share(kind, kind, (sum_ := math.fsum(r.decades or 0.0 for r in members)), 10**sum_, count=len(members))
        for kind, members in kinds.items()
    ]
    every = [r for members in kinds.values() for r in members]
    total = math.fsum(r.decades or 0.0 for r in every)
    thieves = [r for r in every if r.kind not in _SPREADING]
    worst = min(thieves, key=lambda r: (r.decades or 0.0) * (1.0 if total <= 0 else -1.0), default=None)
    return sorted(rows, key=lambda r: r.decades or 0.0), worst


def _row(
    graph: Graph,
    op: Op,
    gain: float | None,
    decades: float | None,
    norm: float | None,
    reference: float | None,
    body: bool,
) -> Share:
    mark = None
    if op.grad is not None and op.grad.nonfinite:
        mark = "not-finite"
    place = places.of_op(op, graph.meta)
    return Share(
        name=op.name, kind=op.kind, decades=decades, gain=gain, left=_log(_ratio(norm, reference)), norm=norm,
        file=place.file, line=place.line, module=op.module, op=op.index, mark=mark, body=body,
    )  # fmt: skip


def _grouped(rows: list[Share], by: str) -> list[Share]:
    groups: dict[str, list[Share]] = defaultdict(list)
    for row in rows:
        if row.decades is not None:
            key = row.kind if by == "kind" else (row.module or ("(loss)" if not row.body else "(no module)"))
            groups[key].append(row)
    grouped = []
    for name, members in groups.items():
        decades = math.fsum(m.decades for m in members if m.decades is not None)
        first = members[0]
        grouped.append(
            Share(
                name=name, kind=first.kind if by == "kind" else "module", decades=decades, gain=10**decades,
                file=first.file, line=first.line, module=first.module, count=len(members), body=first.body,
            )
        )  # fmt: skip
    return sorted(grouped, key=lambda s: s.decades or 0.0)


def _norm(op: Op) -> float | None:
    return op.grad.norm if op.grad is not None else None


def _ratio(a: float | None, b: float | None) -> float | None:
    if a is None or b is None or b == 0.0 or not math.isfinite(a) or not math.isfinite(b):
        return None
    return a / b


def _log(ratio: float | None) -> float | None:
    return math.log10(ratio) if ratio is not None and ratio > 0.0 and math.isfinite(ratio) else None
