"""Plans for remedies at an activation: another one in the body, or what fits the loss at the output."""

from __future__ import annotations

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.remedies.planner import Planner, body_of, named, unique
from gradientflow.ops import HALVING, SATURATING, STRAIGHT, SWAPPABLE
from gradientflow.records import Change, Finding, Op, Place

_RECTIFYING = HALVING & SWAPPABLE


def swap_activation(plan: Planner, finding: Finding) -> list[Change]:
    """All activations of the body that are of the finding's kind."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    dead = finding.symptom == "dead" and finding.cause != "saturating-activation"
    straight = finding.cause == "zero-derivative"
    kinds = STRAIGHT & SWAPPABLE if straight else _RECTIFYING if dead else SATURATING
    at = unique(plan.place(op) for op in body_of(graph) if op.name in kinds)
    own = finding.place
    if own is not None and own.file is not None and own.op in SATURATING | _RECTIFYING:
        at = unique([*at, Place(own.file, own.line, None, own.op)])
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
    positive where the result is divided or logged.
    """
    graph = plan.graph(finding)
    at = finding.place
    if graph is None or at is None or at.op is None or at.file is None:
        return []
    place = Place(at.file, at.line, None, at.op)
    op = next(iter(plan.at(graph, place)), None)
    after = _after(graph, op) if op is not None else []
    if at.op in ("softmax", "log_softmax"):
        single = op is not None and op.value.shape and op.value.shape[-1] == 1
        to = "sigmoid" if single else ("log_softmax" if "nll_loss" in after else "identity")
    elif "binary_cross_entropy" in after:
        to = "identity"
    elif {"log", "div", "log2", "log10", "pow", "sqrt"} & set(after):
        to = "softplus"
    else:
        to = "identity"
    what = {"identity": "no activation", "log_softmax": "log-softmax"}.get(to, to)
    return [Change("fix-output", f"{what} instead of {at.op} at {at.file}:{at.line}", [place], {"to": to})]


def _after(graph: Graph, op: Op) -> list[str]:
    """Return the names of the operations on the way from an output to the loss, those on data alone left out."""
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
                todo.append(following)
    return names
