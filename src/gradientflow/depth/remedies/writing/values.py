"""A number in a source: where it is really written, and how to make it another one."""

from __future__ import annotations

import ast
from collections.abc import Callable

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError

_POWER = 64  # the largest exponent that is worked out
_LINKS = 4  # names that are followed, from one to the next

Make = Callable[[float], float]


def keyword(call: ast.Call, *names: str) -> ast.keyword | None:
    """Return the first keyword argument of a call that has one of some names."""
    return next((k for k in call.keywords if k.arg in names), None)


def literal(node: ast.AST | None) -> float | None:
    """Return the number an expression is: a literal, `-1e-3`, `1 / 255`, `10 ** -3`, `2 * 8`; None for anything else."""
    if isinstance(node, ast.Constant):
        plain = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return float(node.value) if plain else None  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = literal(node.operand)
        return -value if value is not None else None
    if isinstance(node, ast.BinOp):
        left, right = literal(node.left), literal(node.right)
        if left is None or right is None:
            return None
        try:
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Div):
                return left / right
            if isinstance(node.op, ast.Pow) and abs(right) <= _POWER:
                return float(left**right)
        except (ArithmeticError, TypeError):
            return None
    return None


def written(job: Job, node: ast.expr, depth: int = 0) -> ast.expr | None:
    """Return the literal that an expression takes its value from: itself, a constant, a default, an entry of a table.

    None where it is not one literal, or where the script's command line sets it.
    """
    if literal(node) is not None:
        return node
    if depth > _LINKS:
        return None
    source = job.source
    if isinstance(node, ast.Name):
        found = _assigned(job, node)
        return written(job, found, depth + 1) if found is not None else None
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("float", "int")
        and len(node.args) == 1
    ):
        return written(job, node.args[0], depth + 1)
    if isinstance(node, ast.Attribute):
        if (found := _option(job, node)) is not None:
            return found
        values = [
            s.value
            for s in source.nodes(ast.Assign)
            for t in s.targets
            if isinstance(t, ast.Attribute) and source.segment(t) == source.segment(node)
        ]
        fields = [
            s.value
            for s in source.nodes(ast.AnnAssign)
            if isinstance(s.target, ast.Name)
            and s.target.id == node.attr
            and isinstance(source.scope(s), ast.ClassDef)
            and s.value
        ]
        named = [k.value for k in source.nodes(ast.keyword) if k.arg == node.attr and literal(k.value) is not None]
        if len(values) == 1 and not fields:
            return written(job, values[0], depth + 1)
        return fields[0] if len(fields) == 1 and not values and not named and literal(fields[0]) is not None else None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return _entry(job, node)
    return None


def _assigned(job: Job, name: ast.Name) -> ast.expr | None:
    source = job.source
    stores = [n for n in source.nodes(ast.Name) if n.id == name.id and isinstance(n.ctx, ast.Store)]
    arguments = [a for a in source.nodes(ast.arg) if a.arg == name.id]
    if len(stores) == 1 and not arguments:
        statement = source.statement(stores[0])
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            return paired(statement.targets[0], statement.value, stores[0])
        if isinstance(statement, ast.AnnAssign) and statement.target is stores[0]:
            return statement.value
        return None
    if stores or len(arguments) != 1:
        return None
    return parameter(job, arguments[0])


def paired(target: ast.expr, value: ast.expr, name: ast.Name) -> ast.expr | None:
    """Return the part of an assignment's value that one of its names gets."""
    if target is name:
        return value
    if (
        isinstance(target, (ast.Tuple, ast.List))
        and isinstance(value, (ast.Tuple, ast.List))
        and len(target.elts) == len(value.elts)
    ):
        return next((v for t, v in zip(target.elts, value.elts, strict=True) if t is name), None)
    return None


def parameter(job: Job, argument: ast.arg) -> ast.expr | None:
    """Return the one value that a function's argument gets: from its one call, else its default."""
    source = job.source
    function = next(
        f for f in source.above(argument) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    )
    if isinstance(function, ast.Lambda):
        return None
    owner = source.scope(function)
    called = owner.name if isinstance(owner, ast.ClassDef) and function.name == "__init__" else function.name
    calls = [c for c in source.nodes(ast.Call) if source.dotted(c.func).rpartition(".")[2] == called]
    plain = [*function.args.posonlyargs, *function.args.args]
    given: list[ast.expr] = []
    for c in calls:
        if any(isinstance(a, ast.Starred) for a in c.args) or any(k.arg is None for k in c.keywords):
            return None
        named = keyword(c, argument.arg)
        if named is not None:
            given.append(named.value)
        elif argument in plain:
            position = plain.index(argument) - (1 if plain and plain[0].arg in ("self", "cls") else 0)
            if 0 <= position < len(c.args):
                given.append(c.args[position])
    if len(given) == 1 and len(calls) == 1:
        return given[0]
    if given:
        return None
    defaults: dict[ast.arg, ast.expr | None] = dict(
        zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    )
    ends = function.args.defaults
    if ends:
        defaults |= dict(zip(plain[-len(ends) :], ends, strict=True))
    return defaults.get(argument)


def _option(job: Job, node: ast.Attribute) -> ast.expr | None:
    """The default of the command line's option that `args.name` reads, where the command line did not set it."""
    source = job.source
    if not isinstance(node.value, ast.Name):
        return None
    found: list[ast.expr] = []
    for call in source.nodes(ast.Call):
        if not (isinstance(call.func, ast.Attribute) and call.func.attr in ("add_argument", "add_option")):
            continue
        flags = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        target = keyword(call, "dest")
        long = next((f for f in flags if f.startswith("--")), flags[0] if flags else "")
        name = (
            target.value.value
            if target and isinstance(target.value, ast.Constant)
            else long.lstrip("-").replace("-", "_")
        )
        if name != node.attr:
            continue
        if any(a.partition("=")[0] in flags for a in job.meta.argv):
            return None
        default = keyword(call, "default")
        if default is not None and literal(default.value) is not None:
            found.append(default.value)
    return found[0] if len(found) == 1 else None


def _entry(job: Job, node: ast.Subscript) -> ast.expr | None:
    """The entry of a table that is written once: `cfg["lr"]` of `cfg = {"lr": 0.1}` or of `cfg = dict(lr=0.1)`."""
    key = node.slice.value if isinstance(node.slice, ast.Constant) else None
    if not isinstance(node.value, ast.Name) or not isinstance(key, str):
        return None
    source, name = job.source, node.value.id
    for n in source.nodes(ast.Subscript):
        if isinstance(n.ctx, ast.Store) and source.segment(n.value) == name:
            return None
    table = _assigned(job, node.value)
    if isinstance(table, ast.Dict):
        for k, v in zip(table.keys, table.values, strict=True):
            if isinstance(k, ast.Constant) and k.value == key and literal(v) is not None:
                return v
    if isinstance(table, ast.Call) and source.dotted(table.func) == "dict":
        named = keyword(table, key)
        return named.value if named is not None and literal(named.value) is not None else None
    return None


def alter(job: Job, node: ast.expr, factor: float, to: float | None = None, whole: bool = False) -> None:
    """Multiply the number an expression stands for, where it is written; else multiply the expression itself.

    Args:
        job: the edit.
        node: the expression.
        factor: what to multiply with.
        to: the new value itself, where it is known and the old one is not 0.
        whole: the number must stay a whole one.

    Raises:
        NoEditError: the number is 0, so no factor changes it, or the factor is no factor.
    """
    place = written(job, node)
    value = literal(place) if place is not None else None
    if place is None or value is None:
        if factor == 1:
            raise NoEditError("the factor is 1")
        job.patch.replace(node, _times(job, node, factor, whole))
        return
    if value == 0 and to is None:
        raise NoEditError("the number is 0")
    new = to if to is not None else value * factor
    job.patch.replace(place, str(max(1, round(new))) if whole else number(new))


def _times(job: Job, node: ast.expr, factor: float, whole: bool) -> str:
    if whole:
        return f"{job.patch.operand(node)} * {max(1, round(factor))}"
    return f"{job.patch.operand(node)} * {number(factor)}"
