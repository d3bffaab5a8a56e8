"""Plans for remedies in the wiring: the sign of the objective, what was cut off or never handed over."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.planner import Planner, named
from gradientflow.records import Change, Finding, Place
from gradientflow.records.replay import Setting

_OUT_OF_TORCH = frozenset({"cpu", "numpy", "item", "tolist"})


def flip_sign(plan: Planner, finding: Finding) -> list[Change]:
    """Every backward call of the script; of the gradient, where the objective is right and the updates climb it."""
    if "cosine_with_descent" in finding.evidence:
        return [Change("flip-sign", "each step taken against the gradient it went along", [], {"gradient": True})]
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


def keep_graph(plan: Planner, finding: Finding) -> list[Change]:
    """The derivative at the finding's line, taken with its graph."""
    at = finding.place
    if at is None or at.file is None or at.op != "grad":
        return []
    place = Place(at.file, at.line, None, "grad")
    return [Change("keep-graph", f"create_graph=True in the derivative at {at.file}:{at.line}", [place])]


def match_shapes(plan: Planner, finding: Finding) -> list[Change]:
    """The two operands at the finding's line, in one shape."""
    at = finding.place
    if at is None or at.file is None or at.op is None:
        return []
    column = finding.evidence.get("column")
    settings: dict[str, Setting] = {"column": column} if isinstance(column, str) else {}
    text = f"both operands of {at.op} at {at.file}:{at.line} in one shape"
    return [Change("match-shapes", text, [Place(at.file, at.line, None, at.op)], settings)]


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
