"""A skip: what went into a layer is added to what comes out, where both are known to have one shape."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.structure.edit_skip_lists import branch, skip_in_lists
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError


def add_skip(job: Job) -> None:
    """Add what went into a layer to what comes out, where both are known to have one shape; setting: `scale`."""
    for lines in (job.lines, job.building_lines(job.lines), job.activation_lines()):
        for put in (_skip_statement, _skip_called):
            for line in lines:
                put(job, line)
            if job.patch:
                return
        skip_in_lists(job, lines)
        if job.patch:
            return
    raise NoEditError("no layer that a skip could go around is written at the lines")


def _skip_statement(job: Job, line: int) -> None:
    stmt = _layer_statement(job, line)
    if stmt is not None:
        _skip(job, stmt, line)


def _layer_statement(job: Job, line: int) -> ast.Assign | ast.Return | None:
    """The statement `x = f(layer(x))` on a line, or `return f(self.layer(x))` of a `forward(self, x)`."""
    found = [s for s in job.source.on_line(line, ast.stmt) if isinstance(s, (ast.Assign, ast.Return))]
    return found[0] if len(found) == 1 else None


def _skip(job: Job, stmt: ast.Assign | ast.Return, line: int) -> None:
    source, patch = job.source, job.patch
    value = stmt.value
    if not isinstance(value, ast.Call) or "\n" in source.segment(value) or not _one_layer(job, value):
        return
    shapes = _shapes(job, line)
    if not shapes:
        return
    alike = all(before == after for before, after in shapes)
    if isinstance(stmt, ast.Return):
        function = source.scope(stmt)
        if not isinstance(function, ast.FunctionDef) or not alike:
            return
        arguments = [a.arg for a in function.args.args if a.arg != "self"]
        stored = {n.id for n in source.nodes(ast.Name, function) if isinstance(n.ctx, ast.Store)}
        if len(arguments) == 1 and arguments[0] not in stored and arguments[0] in _read(job, value):
            patch.replace(value, f"{arguments[0]} + {branch(job, source.segment(value))}")
        return
    target = stmt.targets[0]
    if len(stmt.targets) != 1 or not isinstance(target, ast.Name) or target.id not in _read(job, value):
        return
    name = target.id
    if alike:
        patch.replace(value, f"{name} + {branch(job, source.segment(value))}")
        return
    if not any(before == after for before, after in shapes):
        return
    out = source.fresh("out", "y", "branch")
    patch.replace(target, out)
    patch.after(stmt, f"{name} = {name} + {branch(job, out)} if {out}.shape == {name}.shape else {out}")


def _one_layer(job: Job, value: ast.Call) -> bool:
    """Whether an expression is an activation of a layer, and does not call a whole `nn.Sequential`."""
    source = job.source
    called = {source.segment(c.func) for c in source.nodes(ast.Call, value)}
    whole = {
        source.segment(t)
        for s in source.nodes(ast.Assign)
        if isinstance(s.value, ast.Call) and source.torch_name(s.value.func) == "nn.Sequential"
        for t in s.targets
    }
    return len(called) > 1 and not called & whole


def _read(job: Job, node: ast.AST) -> set[str]:
    return {n.id for n in job.source.nodes(ast.Name, node) if isinstance(n.ctx, ast.Load)}


def _shapes(job: Job, line: int) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For each time the line ran: the shape that went into its first layer, and the shape that came out at its end."""
    found: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for probe in job.run.probes[:1]:
        entering: tuple[int, ...] | None = None
        leaving: tuple[int, ...] | None = None
        for op in probe.ops:
            if op.file != job.file or op.line != line:
                continue
            if op.kind in ("linear", "conv"):
                if entering is not None and leaving is not None:
                    found.add((entering, leaving))
                entering = _entering(probe.ops, op.operands)
            leaving = tuple(op.value.shape)
        if entering is not None and leaving is not None:
            found.add((entering, leaving))
    return found


def _entering(ops: list, operands: list) -> tuple[int, ...] | None:  # type: ignore[type-arg]
    for operand in operands:
        if operand.op is not None:
            return tuple(ops[operand.op].value.shape)
        if operand.param is None and operand.value is not None:
            return tuple(operand.value.shape)
    return None


def _skip_called(job: Job, line: int) -> None:
    """The line is inside a block: where `forward(self, x)` of the block returns one expression, `x` is added to it."""
    source = job.source
    functions = [
        f
        for f in source.nodes(ast.FunctionDef)
        if f.name == "forward" and f.lineno <= line <= (f.end_lineno or f.lineno)
    ]
    if len(functions) != 1 or not functions[0].body:
        return
    last = functions[0].body[-1]
    shapes = _block_shapes(job, functions[0])
    arguments = [a.arg for a in functions[0].args.args if a.arg != "self"]
    stored = {n.id for n in source.nodes(ast.Name, functions[0]) if isinstance(n.ctx, ast.Store)}
    if len(arguments) != 1 or not isinstance(last, ast.Return) or not isinstance(last.value, (ast.Call, ast.Name)):
        return
    if arguments[0] in stored or len(shapes) < 2 or not all(a == b for a, b in shapes):
        return  # (what runs once is the network, and no block of it)
    if arguments[0] in _read(job, last.value) and isinstance(last.value, ast.Name):
        return
    job.patch.replace(last.value, f"{arguments[0]} + {branch(job, source.segment(last.value))}")


def _block_shapes(job: Job, function: ast.FunctionDef) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For each block: the shape that goes into its first operation, and that which its last operation gives."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    first, last = function.lineno, function.end_lineno or function.lineno
    for probe in job.run.probes[:1]:
        blocks: dict[str, list[int]] = {}
        for i, op in enumerate(probe.ops):
            if op.file == job.file and op.line is not None and first <= op.line <= last:
                depth = (
                    (op.module or "").rpartition(".")[0] if op.kind in ("linear", "conv", "norm") else op.module or ""
                )
                blocks.setdefault(depth, []).append(i)
        for indices in blocks.values():
            entering = _entering(probe.ops, probe.ops[indices[0]].operands)
            if entering is not None:
                found.append((entering, tuple(probe.ops[indices[-1]].value.shape)))
    return found
