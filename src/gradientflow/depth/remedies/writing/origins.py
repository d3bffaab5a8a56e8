"""Where data comes from, by the text alone: a name at a line of the loop, followed back to the statement that made it.

`net(xb)` in a loop over `DataLoader(TensorDataset(X, y))` leads to the statement that made `X`; slices, `.to(device)`
and an argument of a function that is called once are followed too. What the network computes is not data.
"""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.values import paired, parameter
from gradientflow.ops import LAYER_KINDS

_SAME = (
    "to",
    "float",
    "double",
    "cuda",
    "cpu",
    "view",
    "reshape",
    "flatten",
    "unsqueeze",
    "squeeze",
    "clone",
    "contiguous",
)
_LOADERS = ("DataLoader", "TensorDataset")
_NAMES = 12  # names that are followed


def origin(job: Job, target: bool) -> tuple[ast.stmt, str] | None:
    """Return the statement that made the inputs (or targets) of the change, and their name there; None if lost.

    Args:
        job: the edit; its lines are where data enters a layer, or where a loss compares.
        target: follow what the loss compares with, not what enters the network.
    """
    layers = {op.kind for probe in job.run.probes[:1] for op in probe.ops if job.ran_at(op, job.lines)} & LAYER_KINDS
    if not target and layers == {"embedding"}:
        return None  # what enters is numbers of tokens
    for line in _lines(job, target):
        for name in _entering(job, line, target):
            found = _follow(job, name, _NAMES)
            if found is not None:
                return found
    return None


def _lines(job: Job, target: bool) -> list[int]:
    """The lines that call what the change's operations are in, the loop's first."""
    lines: list[int] = []
    for op in job.run.probes[0].ops if job.run.probes else []:
        if job.ran_at(op, job.lines) or (target and op.kind == "loss"):
            lines += [line for file, line in reversed(op.stack) if file == job.file]
            lines += [op.line] if op.file == job.file and op.line is not None else []
    return list(dict.fromkeys(lines or job.lines))


def _entering(job: Job, line: int, target: bool) -> list[ast.Name]:
    """The names that are given to the innermost calls of a line (inputs), or to its outermost calls (targets)."""
    source = job.source
    calls = [c for c in source.on_line(line, ast.Call) if c.args and not source.torch_name(c.func).startswith("nn.")]
    inner = [c for c in calls if not any(d in calls for a in c.args for d in source.nodes(ast.Call, a))]
    outer = [c for c in calls if not any(o in calls for o in source.above(c))]
    if not target:
        return [n for c in inner for a in c.args[:1] for n in _names(job, a)]
    if outer and outer[0] in inner and len(outer[0].args) < 2:
        return []
    return [n for c in outer for a in c.args[1:2] for n in _names(job, a)]


def _names(job: Job, node: ast.expr) -> list[ast.Name]:
    """The name whose value an expression is, up to slices and conversions."""
    while True:
        if isinstance(node, ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SAME:
            node = node.func.value
        else:
            return [node] if isinstance(node, ast.Name) and node.id not in job.source.names else []


def _follow(job: Job, name: ast.Name, left: int) -> tuple[ast.stmt, str] | None:
    """The statement that made what a name stands for."""
    if left == 0:
        return None
    source = job.source
    store = _store(job, name)
    if store is None:
        return _argument(job, name, left)
    statement = source.statement(store)
    value: ast.expr | None = None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        value = paired(statement.targets[0], statement.value, store)
    elif isinstance(statement, ast.For):
        value = _looped(job, statement, store)
    if any(op.grad is not None for op in job.ops([statement.lineno])):
        return None  # computed by the network
    if value is not None:
        names = _names(job, value)
        if names and names[0].id != name.id:
            return _follow(job, names[0], left - 1)
    if isinstance(statement, ast.For) or any(isinstance(o, (ast.For, ast.While)) for o in source.above(statement)):
        return None  # made anew in each step
    return statement, name.id


def _store(job: Job, name: ast.Name) -> ast.Name | None:
    """Where a name was given its value last, before the line, in its scope or in the module."""
    source = job.source
    for scope in dict.fromkeys((source.scope(name), source.tree)):
        stores = [
            n
            for n in source.nodes(ast.Name)
            if n.id == name.id and isinstance(n.ctx, ast.Store) and source.scope(n) is scope
        ]
        before = [n for n in stores if n.lineno < name.lineno or scope is not source.scope(name)]
        if before:
            return max(before, key=lambda n: n.lineno)
        if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if any(a.arg == name.id for a in source.nodes(ast.arg, scope.args)):
                return None
    return None


def _argument(job: Job, name: ast.Name, left: int) -> tuple[ast.stmt, str] | None:
    """A function's argument: what its one call gives."""
    given = _given(job, name)
    names = _names(job, given) if given is not None else []
    return _follow(job, names[0], left - 1) if names else None


def _given(job: Job, name: ast.Name) -> ast.expr | None:
    scope = job.source.scope(name)
    arguments = [a for a in job.source.nodes(ast.arg) if a.arg == name.id and scope in job.source.above(a)]
    return parameter(job, arguments[0]) if len(arguments) == 1 else None


def _looped(job: Job, loop: ast.For, store: ast.Name) -> ast.expr | None:
    """What one name of a loop's target runs over: through `enumerate`, `zip`, and a loader of tensors."""
    source = job.source
    target, over = loop.target, loop.iter
    if isinstance(over, ast.Call) and source.dotted(over.func) == "enumerate" and over.args:
        if not isinstance(target, (ast.Tuple, ast.List)) or len(target.elts) != 2:
            return None
        target, over = target.elts[1], over.args[0]
    parts: list[ast.expr] | None = None
    if isinstance(over, ast.Call) and source.dotted(over.func) == "zip":
        parts = over.args
    elif isinstance(over, ast.Name):
        parts = _tensors(job, over)
    if target is store:
        return over if parts is None else None
    if parts is None or not isinstance(target, (ast.Tuple, ast.List)) or len(parts) != len(target.elts):
        return None
    return next((p for t, p in zip(target.elts, parts, strict=True) if t is store), None)


def _tensors(job: Job, name: ast.Name) -> list[ast.expr] | None:
    """The tensors of `DataLoader(TensorDataset(X, y), …)`, where a name stands for one."""
    node: ast.expr = name
    for _ in range(4):
        if isinstance(node, ast.Name):
            store = _store(job, node)
            statement = job.source.statement(store) if store is not None else None
            if store is None:
                found = _given(job, node)
            elif isinstance(statement, ast.Assign):
                found = paired(statement.targets[0], statement.value, store)
            else:
                return None
            if found is None:
                return None
            node = found
        if isinstance(node, ast.Call) and job.source.dotted(node.func).rpartition(".")[2] in _LOADERS and node.args:
            if job.source.dotted(node.func).endswith("TensorDataset"):
                return node.args
            node = node.args[0]
    return None
