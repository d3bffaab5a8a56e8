"""Plans for remedies where data enters and where the answer is compared, and in the wiring between."""

from __future__ import annotations

import ast

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.remedies.planner import Planner, named, unique
from gradientflow.ops import COMPARING
from gradientflow.records import Change, Finding, Op, Place

_OUT_OF_TORCH = frozenset({"cpu", "numpy", "item", "tolist"})


def scale_input(plan: Planner, finding: Finding) -> list[Change]:
    """Where data enters the first layers."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    entering = plan.case.inputs(graph)
    large = [e for e in entering if e[2].rms > 0.3 * max(v.rms for _, _, v in entering)]
    at = unique(plan.place(op) for op, _, _ in large)
    return [Change("scale-input", f"inputs standardised column by column before {named(at)}", at)] if at else []


def scale_target(plan: Planner, finding: Finding) -> list[Change]:
    """Where the loss compares an answer with data."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    for index in graph.head:
        op = graph.probe.ops[index]
        if op.name in COMPARING and any(o.op is None and o.param is None and o.value for o in op.operands):
            at = [plan.place(op)]
            power = 2.0 if op.name != "sub" else _power(graph, op)
            return [Change("scale-target", f"targets standardised in the loss at {named(at)}", at, {"power": power})]
    return []


def _power(graph: Graph, op: Op) -> float:
    """Return how a loss by hand grows with the difference: 1 for |d|, or the root of a mean of squares; else 2."""
    names: list[str] = []
    todo = list(graph.consumers[op.index])
    while todo and len(names) < 8:
        index = todo.pop(0)
        names.append(graph.probe.ops[index].name)
        todo += graph.consumers[index][:1]
    return 1.0 if "abs" in names or "sqrt" in names or names[:1] == ["norm"] else 2.0


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


def flip_sign(plan: Planner, finding: Finding) -> list[Change]:
    """Every backward call of the script."""
    return [Change("flip-sign", "backward called on the negative of the objective", [])]


def reconnect(plan: Planner, finding: Finding) -> list[Change]:
    """Parameters without an optimizer handed to the first, frozen ones unfrozen, cuts by `detach` left out."""
    evidence = finding.evidence
    if "without_optimizer" in evidence:
        text = f"the {evidence['without_optimizer']} parameters without an optimizer given to the first that steps"
        return [Change("reconnect", text, [])]
    if "frozen" in evidence:
        return [
            Change(
                "reconnect",
                "frozen parameters of the optimizer trained, those without one given to it",
                [],
                {"unfreeze": True},
            )
        ]
    wanted = ("set_grad_enabled",) if plan.case.finite and _used_without(plan) else ("detach", "data")
    at = [p for file, text in plan.meta.sources.items() for p in cuts(file, text) if p.op in wanted]
    return [Change("reconnect", f"no cut of the gradient at {named(at)}", at)] if at else []


def _used_without(plan: Planner) -> bool:
    return any(g.probe.without_grad for g in plan.case.graphs)


def cuts(file: str, source: str) -> list[Place]:
    """Return the lines of a source text where a gradient is cut: `x.detach()`, `x.data`, `with torch.no_grad()`.

    A detach whose result leaves PyTorch (`.cpu()`, `.numpy()`, `.item()`, `.tolist()`) is left out: it cannot be undone.

    Example:
        >>> [p.line for p in cuts("a.py", "y = x.detach()\\nz = x.detach().numpy()")]
        [1]
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    leaving = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in _OUT_OF_TORCH}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in leaving:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            if name == "detach":  # (a chain over several lines runs on the line of the word itself)
                found += [
                    Place(file, line, None, "detach") for line in {node.lineno, node.func.end_lineno or node.lineno}
                ]
        elif isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.ctx, ast.Load):
            if id(node) not in leaving:
                found.append(Place(file, node.lineno, None, "data"))
        elif isinstance(node, ast.With):
            if any("no_grad" in ast.unparse(item.context_expr) for item in node.items):
                found.append(Place(file, node.lineno, None, "set_grad_enabled"))
    return sorted(dict.fromkeys(found), key=lambda p: (p.line or 0, p.op or ""))
