"""What the source says of where a value comes from: followed by names, where it left PyTorch and came back as a number."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def leads_to(source: str, line: int, wanted: int) -> bool:
    """Whether what is computed on one line takes a value from another: there by name, or from a function that holds it.

    Args:
        source: the text of the file.
        line: where the value is used.
        wanted: where it may come from.

    Example:
        >>> leads_to("a = f(p.numpy())\\nb = 2 * a\\nloss = mse + b\\n", 3, 1)
        True
        >>> leads_to("a = f(p.numpy())\\nb = 2\\nloss = mse + b\\n", 3, 1)
        False
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    statements = [
        n for n in ast.walk(tree) if isinstance(n, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr))
    ]
    todo, seen = [(s, False) for s in statements if _holds(s, line)], set[int]()
    while todo:
        statement, before = todo.pop()
        if id(statement) in seen:
            continue
        seen.add(id(statement))
        names = set(_read(statement))
        called = [functions[n] for n in names if n in functions]
        if (before and _holds(statement, wanted)) or any(_holds(f, wanted) for f in called):
            return True
        todo += [(s, True) for s in statements if set(_written(s)) & names and s.lineno < statement.lineno]
    return False


def _holds(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _read(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


def _written(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
