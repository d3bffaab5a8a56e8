"""Gates that keep the state, opened from the start: the forget bias of an LSTM, the update bias of a GRU."""

from __future__ import annotations

import ast

from gradientflow.depth.causes import places
from gradientflow.depth.remedies.weights.plan import OPEN
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Op, Param

# class → its number of gates, and what the second of them, the one that keeps the state, is called
_GATES = {"LSTM": (4, "forget"), "LSTMCell": (4, "forget"), "GRU": (3, "update"), "GRUCell": (3, "update")}
_HOLDING = ("nn.Sequential", "nn.ModuleList", "nn.ModuleDict", "collections.OrderedDict", "dict", "list")
_LISTING = (ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.Starred, ast.keyword)
_MOVING = ("to", "cuda", "cpu", "double", "float", "half", "bfloat16", "requires_grad_", "train")


def open_gates(job: Job) -> None:
    """Fill the biases of the keeping gates after the line that makes the layer; setting: `bias`, of both biases together."""
    half = number((job.number("bias") or OPEN) / 2)
    found: dict[str, tuple[ast.stmt, str, list[Param]]] = {}
    for param in _biases(job):
        made, owner = _made(job, param.line)
        kind = param.module_class or ""
        if owner in found and _GATES[found[owner][1]] != _GATES[kind]:
            raise NoEditError("layers with different gates are made in one statement")
        found.setdefault(owner, (made, kind, []))[2].append(param)
    for owner, (made, kind, biases) in found.items():
        _only_these(job, made, biases)
        name, bias = job.source.fresh("name", "label"), job.source.fresh("bias", "shift")
        gates, keeping = _GATES[kind]
        job.patch.after(
            _last_set(job, made, biases),
            f"for {name}, {bias} in {owner}.named_parameters():",
            f'\tif "bias_" in {name}:',
            f"\t\t{bias}.data.chunk({gates})[1].fill_({half})  # the {keeping} gate starts open",
        )


def _biases(job: Job) -> list[Param]:
    """The biases of the gated layers that ran at the change's lines; goes into the file where those are made."""
    wanted = {(p.file, p.line) for p in job.places}
    used = {
        operand.param
        for probe in job.run.probes
        for op in probe.ops
        if op.kind == "recurrent" and (not wanted or _at(job, op) in wanted or job.ran_at(op, job.lines))
        for operand in op.operands
    }
    params = [p for p in job.meta.params if p.index in used and p.module_class in _GATES]
    if not params:
        raise NoEditError("no ready-made LSTM or GRU was seen at the lines")
    biases = [p for p in params if len(p.shape) == 1]
    if not biases:
        raise NoEditError("the layer is made without biases: it has no gate that could start open")
    files = {p.file for p in biases}
    if len(files) != 1 or None in files or any(p.line is None for p in biases):
        raise NoEditError("the layers are made in several files, or it was not seen where")
    if biases[0].file is not None and biases[0].file != job.file:
        job.enter(biases[0].file)
    return biases


def _at(job: Job, op: Op) -> tuple[str | None, int | None]:
    place = places.of_op(op, job.meta)
    return place.file, place.line


def _made(job: Job, line: int | None) -> tuple[ast.stmt, str]:
    """The statement that makes a layer, and what it calls the layer or the container that holds it."""
    source = job.source
    for stmt in reversed(source.on_line(line, ast.stmt)):
        if isinstance(stmt, (ast.Assign, ast.AnnAssign)) and stmt.value is not None:
            targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
            if len(targets) == 1 and source.dotted(targets[0]) and _plain(job, stmt.value):
                return stmt, source.segment(targets[0])
        call = stmt.value if isinstance(stmt, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append":
            if len(call.args) == 1 and source.dotted(call.func.value) and _plain(job, call.args[0]):
                return stmt, f"{source.segment(call.func.value)}[-1]"
    raise NoEditError(f"the layer that is made at {job.file}:{line} has no name of its own")


def _plain(job: Job, value: ast.expr) -> bool:
    """Whether an expression makes one layer, or a container of layers, whatever the script is told: no choice in it."""
    source = job.source
    if not isinstance(value, ast.Call):
        return False
    if isinstance(value.func, ast.Attribute) and value.func.attr in _MOVING and isinstance(value.func.value, ast.Call):
        return _plain(job, value.func.value)
    holds = [c for c in source.nodes(ast.Call, value) if source.torch_name(c.func).removeprefix("nn.") in _GATES]
    holds = [c for c in holds if c is not value]
    for inner in holds:
        for outer in source.above(inner):
            holder = isinstance(outer, ast.Call) and (source.torch_name(outer.func) or source.dotted(outer.func))
            if not (holder in _HOLDING or isinstance(outer, _LISTING)):
                return False
            if outer is value:
                break
    return not holds or source.torch_name(value.func) in _HOLDING


def _only_these(job: Job, made: ast.stmt, biases: list[Param]) -> None:
    """Refuse a container that also holds gated layers which the change is not for."""
    last = made.end_lineno or made.lineno
    beside = [
        p
        for p in job.meta.params
        if p.file == job.file and p.line is not None and made.lineno <= p.line <= last and len(p.shape) == 1
    ]
    if any(p.module_class in _GATES and p not in biases for p in beside):
        raise NoEditError("other gated layers are made in the same statement")


def _last_set(job: Job, made: ast.stmt, biases: list[Param]) -> ast.stmt:
    """The last statement of a block that sets the biases after the layer is made, else the one that makes it."""
    block = job.source.block(made)
    for param in biases:
        if param.init is None or param.init_line is None:
            continue
        line = param.init_line
        inside = (
            [s for s in block if s.lineno <= line <= (s.end_lineno or s.lineno)] if param.init_file == job.file else []
        )
        if not inside:
            raise NoEditError(f"the biases are set again at {param.init_file}:{line}, after the layer is made")
        made = max(made, inside[0], key=lambda s: s.lineno)
    return made
