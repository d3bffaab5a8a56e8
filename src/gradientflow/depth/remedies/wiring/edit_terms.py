"""Terms that train nothing, written so that they do: a derivative with its graph, two operands in one shape."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword
from gradientflow.records import Op, Place

_WRITTEN = {"sub": ast.Sub, "mul": ast.Mult, "div": ast.Div}


def keep_graph(job: Job) -> None:
    """`torch.autograd.grad(...)` gets `create_graph=True`; `retain_graph=True`, which that includes, makes way for it."""
    for line in job.lines:
        for call in job.source.on_line(line, ast.Call):
            if job.source.torch_name(call.func).rpartition(".")[2] != "grad":
                continue
            told, kept = keyword(call, "create_graph"), keyword(call, "retain_graph")
            if told is not None:
                job.patch.replace(told.value, "True")
            elif kept is not None:
                job.patch.replace(kept, "create_graph=True")
            else:
                job.patch.argument(call, "create_graph=True")
    if not job.patch:
        raise NoEditError("no call of torch.autograd.grad is written at the line")


def match_shapes(job: Job) -> None:
    """The operand that is a column loses its last axis; of `a - b`, where it cannot be told which is, b gets the shape of a."""
    for place in job.places:
        pairs = _pairs(job, place.line, place.op or "")
        if len(pairs) == 1 and (column := _column(job, place, pairs[0])) is not None:
            node = pairs[0][column]
            job.patch.replace(node, f"{job.patch.tight(node)}{_squeezed(job)}")
            return
        plain = [
            (a, b) for a, b in pairs if isinstance(a, (ast.Name, ast.Attribute)) and not isinstance(b, ast.Constant)
        ]
        if len(plain) == 1 and place.op in _WRITTEN:
            first, second = plain[0]
            job.patch.replace(second, f"{job.patch.tight(second)}.reshape_as({job.source.segment(first)})")
            return
    raise NoEditError("the line does not show which operand is the column")


def _column(job: Job, place: Place, pair: tuple[ast.expr, ast.expr]) -> int | None:
    """Which of two operands has more axes, by the line that made it; of a loss the answer comes first where nothing else tells.
    None where it is not known.
    """
    made = _made(job, place)
    lines = [_lines(job, node) for node in pair]
    sides = [k for k in (0, 1) if made & lines[k]]
    if len(sides) == 1:
        return sides[0]
    told = job.word("column")
    return int(told == "target") if told is not None and place.op not in _WRITTEN else None


def _made(job: Job, place: Place) -> set[int]:
    """Return the lines of the file that led to the operand with more axes, as the trace has them."""
    for probe in job.run.probes:
        for op in probe.ops:
            if (op.file, op.line, op.name) != (job.file, place.line, place.op):
                continue
            known = [(o, o.value.shape if o.value is not None else o.shape) for o in op.operands if o.op is None]
            known += [(o, o.shape or probe.ops[o.op].value.shape) for o in op.operands if o.op is not None]
            wide = max(known, key=lambda entry: len(entry[1]), default=None)
            if wide is None or len({len(shape) for _, shape in known}) != 2:
                continue
            source = probe.ops[wide[0].op] if wide[0].op is not None else wide[0]
            stack = source.stack if isinstance(source, Op) else []
            return {
                line for file, line in [*stack, (source.file, source.line)] if file == job.file and line is not None
            }
    return set()


def _lines(job: Job, node: ast.expr) -> set[int]:
    """Return the lines that may have made an expression: those it stands on, and those where its names get their values."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    given = {n.lineno for n in job.source.nodes(ast.Name) if n.id in names and isinstance(n.ctx, ast.Store)}
    return (
        given if isinstance(node, ast.Name) else given | set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    )


def _squeezed(job: Job) -> str:
    """What takes the column's last axes away: as many as it has more than the other, each of length 1."""
    shapes = [job.finding.evidence.get(name) for name in ("answer_shape", "target_shape")]
    if not all(isinstance(s, list) for s in shapes):
        return ".squeeze(-1)"
    short, wide = sorted((list(s) for s in shapes if isinstance(s, list)), key=len)
    more = len(wide) - len(short)
    if not more or wide[len(short) :] != [1] * more:
        raise NoEditError(f"the shapes {wide} and {short} do not differ by axes of length 1 at the end")
    return ".flatten()" if more > 1 and len(short) == 1 else ".squeeze(-1)" * more


def _pairs(job: Job, line: int | None, op: str) -> list[tuple[ast.expr, ast.expr]]:
    """Return the two operands of every call or operator on a line that may be the operation."""
    found = []
    if op in _WRITTEN:
        found = [(n.left, n.right) for n in job.source.on_line(line, ast.BinOp) if isinstance(n.op, _WRITTEN[op])]
    calls = [(job.source.torch_name(c.func).rpartition(".")[2], c) for c in job.source.on_line(line, ast.Call)]
    named = [c for name, c in calls if name == op]
    methods = [c for _, c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == op and c not in named]
    found += [pair for c in named if (pair := _two(c)) is not None]
    found += [(c.func.value, c.args[0]) for c in methods if isinstance(c.func, ast.Attribute) and len(c.args) == 1]
    if not found and op not in _WRITTEN:  # a loss that was made elsewhere
        found = [pair for name, c in calls if not name and (pair := _two(c)) is not None]
    return found


def _two(call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """Return what a call of a loss compares; None where it is not written out."""
    given = {k.arg: k.value for k in call.keywords}
    first = call.args[0] if call.args else given.get("input")
    second = call.args[1] if len(call.args) > 1 else given.get("target", given.get("other"))
    if first is None or second is None or any(isinstance(a, ast.Starred) for a in (first, second)):
        return None
    return first, second
