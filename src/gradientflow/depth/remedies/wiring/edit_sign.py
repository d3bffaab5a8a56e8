"""The sign of the objective, turned where it is computed."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.loop import updates
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword


def flip_sign(job: Job) -> None:
    """Minimise the negative: turn the sign of the loss where it is computed, or of the update, or drop `maximize`."""
    if job.optimizer is not None and job.optimizer.options.get("maximize"):
        call = job.constructor()
        given = keyword(call, "maximize")
        if given is None:
            raise NoEditError("maximize is not written where the optimizer is made")
        job.patch.drop_keyword(call, given)
        return
    if job.optimizer is None or job.optimizer.file is None:
        _turn_updates(job)
        return
    backward = job.backward()
    root = job.loss(backward)
    value = _value_of(job, root, backward) if isinstance(root, ast.Name) else None
    negate(job, value if value is not None else root)


def _value_of(job: Job, name: ast.Name, backward: ast.stmt) -> ast.expr | None:
    """The one expression that gave `loss` its value, in the same scope, before backward."""
    scope = job.source.scope(backward)
    found = [
        s
        for s in job.source.nodes(ast.stmt, scope)
        if isinstance(s, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        and any(isinstance(n.ctx, ast.Store) and n.id == name.id for n in job.source.nodes(ast.Name, s))
        and job.source.scope(s) is scope
        and s.lineno <= backward.lineno
    ]
    if len(found) == 1 and isinstance(found[0], ast.Assign) and isinstance(found[0].targets[0], ast.Name):
        return found[0].value
    return None


def negate(job: Job, node: ast.expr) -> None:
    """Turn the sign of an expression: take a minus away, or put one before it."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        start, end = job.source.span(node)
        bracketed = job.source.text[start - 1 : start] == "(" and job.source.text[end : end + 1] == ")"
        owned = isinstance(job.source.parents.get(node), ast.Attribute) and isinstance(
            node.operand, (ast.Name, ast.Call)
        )
        if bracketed and owned:
            job.patch.cut(start - 1, end + 1, job.source.segment(node.operand))
        else:
            job.patch.unwrap(node, node.operand)
        return
    parent = job.source.parents.get(node)
    text = f"-{job.patch.tight(node)}"
    inside = job.source.text[job.source.span(node)[0] - 1 : job.source.span(node)[0]] == "("
    job.patch.replace(node, f"({text})" if isinstance(parent, ast.Attribute) and not inside else text)


def _turn_updates(job: Job) -> None:
    for node, subtracts in updates(job):
        start, end = job.source.span(node)
        if isinstance(node, ast.AugAssign):
            old, new = ("-=", "+=") if subtracts else ("+=", "-=")
            start = job.source.span(node.target)[1]
            end = job.source.span(node.value)[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            old, new = ("sub_", "add_") if subtracts else ("add_", "sub_")
            start, end = job.source.span(node.func.value)[1], job.source.span(node.func)[1]
        else:
            continue
        text = job.source.text[start:end]
        if text.count(old) != 1:
            raise NoEditError("the update's sign cannot be told")
        job.patch.cut(start + text.index(old), start + text.index(old) + len(old), new)
