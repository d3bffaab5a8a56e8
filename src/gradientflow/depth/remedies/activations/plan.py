"""Plans for remedies at an activation: another one in the body, or what fits the loss at the output."""

from __future__ import annotations

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.remedies.planner import Planner, body_of, named, network_of, unique, within_network
from gradientflow.ops import COMPARING, HALVING, SATURATING, STRAIGHT, SWAPPABLE
from gradientflow.records import Change, Finding, Op, Place

_RECTIFYING = HALVING & SWAPPABLE
_SINGULAR = frozenset({"log", "div", "log2", "log10", "pow", "sqrt"})
_ON_OUTPUT = frozenset({"activation", "softmax"})
_PLAIN = frozenset({"shape", "elementwise"})


def swap_activation(plan: Planner, finding: Finding) -> list[Change]:
    """All activations of the body that are of the finding's kind; and the finding's own, on the output too. None of the loss
    side: another function there would be another loss.
    """
    graph = plan.graph(finding)
    if graph is None:
        return []
    dead = finding.symptom == "dead" and finding.cause != "saturating-activation"
    straight = finding.cause == "zero-derivative"
    kinds = STRAIGHT & SWAPPABLE if straight else _RECTIFYING if dead else SATURATING
    at = within_network(plan, graph, unique(plan.place(op) for op in body_of(graph) if op.name in kinds))
    own = finding.place
    if own is not None and own.file is not None and own.op in SATURATING | _RECTIFYING:
        place = Place(own.file, own.line, None, own.op)
        here, within = _here(plan, graph, place), network_of(graph)
        if here and all(op.index in within or _is_output(graph, op) for op in here):
            at = unique([*at, place])
    if not at:
        return []
    names = {p.op or "" for p in at}
    if straight:
        options = ("tanh", "silu")  # whose second derivatives are not zero
    elif names <= _RECTIFYING:
        options = ("leaky_relu", "gelu")
    else:
        options = ("relu", "tanh") if names != {"tanh"} else ("relu", "gelu")
    what = "/".join(sorted(names))
    return [Change("swap-activation", f"{to} instead of {what} at {named(at)}", at, {"to": to}) for to in options]


def fix_output(plan: Planner, finding: Finding) -> list[Change]:
    """What fits the loss: scores where it applies softmax or sigmoid itself, raw values for a regression, something
    positive where the result is divided or logged. Only for an activation that is the output: what the loss does with an
    output is not the network's to change.
    """
    graph = plan.graph(finding)
    at = finding.place
    if graph is None or at is None or at.op is None or at.file is None:
        return []
    place = Place(at.file, at.line, None, at.op)
    op = next(iter(_here(plan, graph, place)), None)
    if op is None or not _is_output(graph, op):
        return []
    after = _after(graph, op)
    if at.op in ("softmax", "log_softmax"):
        single = op.value.shape and op.value.shape[-1] == 1
        to = "sigmoid" if single else ("log_softmax" if "nll_loss" in after else "identity")
    elif "binary_cross_entropy" in after:
        to = "identity"
    elif _SINGULAR & set(after):
        to = "softplus"
    else:
        to = "identity"
    what = {"identity": "no activation", "log_softmax": "log-softmax"}.get(to, to)
    return [Change("fix-output", f"{what} instead of {at.op} at {at.file}:{at.line}", [place], {"to": to})]


def _here(plan: Planner, graph: Graph, place: Place) -> list[Op]:
    """Return the operations at a place that the loss depends on; the same line may run for an accuracy too."""
    reached = set(graph.reached)
    return [op for op in plan.at(graph, place) if op.index in reached]


def _is_output(graph: Graph, op: Op) -> bool:
    """Whether an operation is an activation on what a layer gave, seen through shapes and plain arithmetic with numbers."""
    if op.kind not in _ON_OUTPUT:
        return False
    ops = graph.probe.ops
    made = _made_by(graph, op)
    while made is not None and made not in graph.joints:
        if ops[made].kind not in _PLAIN or ops[made].name in COMPARING:
            return False
        made = _made_by(graph, ops[made])
    return made is not None


def _made_by(graph: Graph, op: Op) -> int | None:
    """Return the one operation that an operation's data comes from; None where there are none, or several."""
    sources = {o.op for o in op.operands if o.op is not None and o.op not in graph.weights_only}
    return sources.pop() if len(sources) == 1 else None


def _after(graph: Graph, op: Op) -> list[str]:
    """Return the names of the operations on the way from an output to where it is compared with data, or to the loss; those
    on data alone left out.
    """
    names: list[str] = []
    todo, seen = [op.index], set()
    while todo:
        index = todo.pop(0)
        for following in graph.consumers[index]:
            if following not in seen:
                seen.add(following)
                name = graph.probe.ops[following].name
                by_number = (
                    name == "div" and len([o for o in graph.probe.ops[following].operands if o.op is not None]) < 2
                )
                names += [] if by_number else [name]
                if name not in COMPARING:  # (the square of a difference asks nothing of what was compared)
                    todo.append(following)
    return names
