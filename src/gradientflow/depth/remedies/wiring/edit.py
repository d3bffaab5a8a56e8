"""Loose wires: a tensor cut off by `detach`, layers in a plain list, parameters that no optimizer holds or that are frozen."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword


def reconnect(job: Job) -> None:
    """Tie a loose wire: at the change's line if one is written there, else at the optimizer."""
    for line in job.lines:
        _detached(job, line)
    if job.patch:
        return
    for line in job.lines:
        _listed(job, line)
    if job.patch:
        return
    for line in job.lines:
        _frozen(job, line)
    if job.patch:
        return
    _held(job)
    if not job.patch:
        raise NoEditError("no loose wire is written at the lines")


def _detached(job: Job, line: int) -> None:
    """Take `.detach()` or `.data` away, and write `torch.enable_grad()` for `torch.no_grad()`."""
    source, patch = job.source, job.patch
    for held in source.on_line(line, ast.With):
        for item in held.items:
            if isinstance(item.context_expr, ast.Call) and source.torch_name(item.context_expr.func) == "no_grad":
                patch.replace(item.context_expr.func, patch.name("torch.enable_grad"))
    for node in source.on_line(line, ast.expr):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("detach", "detach_")
        ):
            if not node.args:
                patch.cut(source.span(node.func.value)[1] + _closing(job, node.func.value), source.span(node)[1])
        elif isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.ctx, ast.Load):
            if not source.dotted(node).startswith("torch.") and any(op.line == line for op in job.ops([line])):
                patch.cut(source.span(node.value)[1] + _closing(job, node.value), source.span(node)[1])


def _closing(job: Job, node: ast.expr) -> int:
    """How many characters after a node belong to it: the parentheses it stands in, up to the next dot."""
    end = job.source.span(node)[1]
    tail = job.source.text[end:]
    dot = tail.index(".")
    if tail[:dot].strip(") \t\r\n"):
        raise NoEditError("the expression is not plain")
    return dot


def _listed(job: Job, line: int) -> None:
    """`self.layers = [nn.Linear(...), ...]` becomes `self.layers = nn.ModuleList([...])`."""
    source = job.source
    attributes = {
        a.attr for a in source.on_line(line, ast.Attribute) if isinstance(a.value, ast.Name) and a.value.id == "self"
    }
    for s in source.nodes(ast.Assign):
        target = s.targets[0]
        if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"):
            continue
        within = s.lineno <= line <= (s.end_lineno or s.lineno)
        if not within and target.attr not in attributes:
            continue
        if isinstance(s.value, (ast.List, ast.ListComp)) and _layers(job, s):
            job.patch.wrap(s.value, f"{job.patch.name('torch.nn.ModuleList')}(", ")")
        elif isinstance(s.value, (ast.Dict, ast.DictComp)) and _layers(job, s):
            job.patch.wrap(s.value, f"{job.patch.name('torch.nn.ModuleDict')}(", ")")


def _layers(job: Job, stmt: ast.Assign) -> bool:
    """Whether a list is one of layers: it holds some, or some are appended to it."""
    modules = job.modules()
    target = job.source.segment(stmt.targets[0])
    where: list[ast.AST] = [stmt.value]
    where += [
        c
        for c in job.source.nodes(ast.Call)
        if isinstance(c.func, ast.Attribute) and c.func.attr == "append" and job.source.segment(c.func.value) == target
    ]
    calls = [c for w in where for c in job.source.nodes(ast.Call, w)]
    return any(job.source.torch_name(c.func).startswith("nn.") or job.source.dotted(c.func) in modules for c in calls)


def _frozen(job: Job, line: int, always: bool = False) -> None:
    """`requires_grad = False` or `requires_grad_(False)` becomes True."""
    source, patch = job.source, job.patch
    for s in source.on_line(line, ast.Assign):
        target = s.targets[0]
        if isinstance(target, ast.Attribute) and target.attr == "requires_grad" and (always or _is(s.value, False)):
            patch.replace(s.value, "True")
    for c in source.on_line(line, ast.Call):
        if (
            isinstance(c.func, ast.Attribute)
            and c.func.attr == "requires_grad_"
            and c.args
            and (always or _is(c.args[0], False))
        ):
            patch.replace(c.args[0], "True")
        given = keyword(c, "requires_grad")
        if given is not None and _is(given.value, False):
            patch.replace(given.value, "True")


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _thaw(job: Job) -> None:
    """The optimizer holds frozen parameters only: undo the one statement of the file that freezes."""
    source = job.source
    lines = {
        s.lineno
        for s in source.nodes(ast.Assign)
        if isinstance(s.targets[0], ast.Attribute) and s.targets[0].attr == "requires_grad" and not _is(s.value, True)
    } | {
        c.lineno
        for c in source.nodes(ast.Call)
        if isinstance(c.func, ast.Attribute) and c.func.attr == "requires_grad_" and c.args and not _is(c.args[0], True)
    }
    if len(lines) != 1:
        raise NoEditError(f"{len(lines)} statements could have frozen the parameters")
    _frozen(job, lines.pop(), always=True)
    job.patch.notes.append("this trains everything the statement froze: give the optimizer only what should learn")


def _held(job: Job) -> None:
    """Give the optimizer the parameters that get a gradient but are held by none."""
    orphans = [p for p in job.meta.params if p.optimizer is None and p.requires_grad and (p.in_graph or p.graded)]
    call = job.constructor()
    source, patch = job.source, job.patch
    given = call.args[0] if call.args else getattr(keyword(call, "params"), "value", None)
    if given is None or not isinstance(given, ast.expr):
        raise NoEditError("the optimizer's parameters are not written where it is made")
    optimizer = job.optimizer
    if optimizer is not None and optimizer.params:
        held = [job.meta.params[i] for i in optimizer.params if i < len(job.meta.params)]
        if held and all(not p.requires_grad for p in held):
            _thaw(job)
            return
    frozen = optimizer is not None and any(
        not job.meta.params[i].requires_grad for i in optimizer.params if i < len(job.meta.params)
    )
    if not orphans or frozen:
        raise NoEditError(
            "no parameter without an optimizer was seen" if not orphans else "the optimizer holds frozen parameters"
        )
    part = given.func.value if isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) else None
    if part is None or not isinstance(given, ast.Call) or given.args or not isinstance(given.func, ast.Attribute):
        raise NoEditError("the optimizer is given something other than `….parameters()`")
    whole = part.value if isinstance(part, (ast.Attribute, ast.Subscript)) else None
    if whole is not None and source.dotted(whole):  # `net.head.parameters()`: all of `net` is meant
        patch.replace(part, source.segment(whole))
        return
    files = {(p.file, p.line) for p in orphans}
    models = [
        s
        for s in source.nodes(ast.Assign)
        if any(s.lineno <= (n or 0) <= (s.end_lineno or 0) for f, n in files if f == job.file)
    ]
    names = {source.segment(s.targets[0]) for s in models if source.scope(s) is source.scope(call)} - {
        source.segment(part)
    }
    if len(names) != 1:
        raise NoEditError("where the parameters without an optimizer come from cannot be told")
    patch.replace(given, f"[*{source.segment(given)}, *{names.pop()}.parameters()]")
