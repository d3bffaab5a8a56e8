"""Recurrent weights, orthogonal from the start."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.weights.edit import sizes_of
from gradientflow.depth.remedies.weights.targets import drawn_at, targets_of
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword, literal
from gradientflow.records import Param


def orthogonal(job: Job) -> None:
    """Make the recurrent weights orthogonal: at the line that draws them, else after the recurrent layer is made."""
    gain = job.number("gain")
    more = f", gain={number(gain)}" if gain is not None and gain != 1 else ""
    name = job.patch.name("torch.nn.init.orthogonal_")
    source = job.source
    for line in drawn_at([p for p in targets_of(job) if _recurs(job, p)], job.file):
        for call in source.on_line(line, ast.Call):
            if source.dotted(call.func).startswith("torch.nn.init.") and call.args and not _mixed(job, line):
                job.patch.replace(call, f"{name}({source.segment(call.args[0])}{more})")
                _drop_factor(job, line)
                return
            if source.dotted(call.func) == "torch.randn" and (sizes := sizes_of(call)) is not None:
                product = source.parents.get(call)
                whole = (
                    product if isinstance(product, ast.BinOp) and isinstance(product.op, (ast.Mult, ast.Div)) else call
                )
                given = ", ".join(source.segment(s) for s in sizes)
                text = f"{name}({job.patch.name('torch.empty')}({given}){more})"
                job.patch.replace(whole, text + ".requires_grad_()" * (keyword(call, "requires_grad") is not None))
                return
    _after_layer(job, name, more)


def _recurs(job: Job, param: Param) -> bool:
    """Whether a weight is the one that a state is multiplied with: square, and named by the change's lines or by its name."""
    if "weight_hh" in param.name:
        return True
    modules = {p.module for p in job.places if p.module}
    square = len(param.shape) == 2 and param.shape[0] == param.shape[1]
    return square and (not modules or param.name.rpartition(".")[0] in modules or param.module_class is None)


def _mixed(job: Job, line: int) -> bool:
    params = [p for p in job.meta.params if p.init_file == job.file and p.init_line == line]
    return any(len(p.shape) < 2 for p in params)


def _drop_factor(job: Job, line: int) -> None:
    """Take out a factor that a following line multiplies the same weight with: `w.mul_(1.3)`, `w *= 1.3`."""
    source = job.source
    for call in source.on_line(line, ast.Call):
        if not source.dotted(call.func).startswith("torch.nn.init.") or not call.args:
            continue
        weight = source.segment(call.args[0]).removesuffix(".data")
        for s in source.block(source.statement(call)):
            if s.lineno <= line:
                continue
            node = s.value if isinstance(s, ast.Expr) else None
            scaled = isinstance(s, ast.AugAssign) and source.segment(s.target).removesuffix(".data") == weight
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("mul_", "div_")
            ):
                scaled = source.segment(node.func.value).removesuffix(".data") == weight
            if scaled:
                job.patch.delete(s)


def _after_layer(job: Job, name: str, more: str) -> None:
    source = job.source
    layer, kind = _recurrent_layer(job)
    made = source.statement(layer)
    target = source.segment(made.targets[0]) if isinstance(made, ast.Assign) and made.value is layer else ""
    if not target or not isinstance(made, ast.Assign) or len(made.targets) != 1:
        raise NoEditError("the recurrent layer has no name of its own")
    made = _last_draw(job, made)
    if kind == "Linear":
        job.patch.after(made, f"{name}({target}.weight{more})")
        return
    many = literal(k.value) != 1 if (k := keyword(layer, "num_layers")) is not None else len(layer.args) > 2
    both = keyword(layer, "bidirectional") is not None
    chunks = {"LSTM": 4, "GRU": 3}.get(kind.removesuffix("Cell"), 1)
    weight = f"{target}.weight_hh" if kind.endswith("Cell") else f"{target}.weight_hh_l0"
    if many or both:
        label, value = source.fresh("name", "label"), source.fresh("weight", "value")
        lines = [f"for {label}, {value} in {target}.named_parameters():", f'\tif "weight_hh" in {label}:']
        deep, weight = "\t\t", value
    else:
        lines, deep = [], ""
    if chunks == 1:
        lines.append(f"{deep}{name}({weight}{more})")
    else:
        part = source.fresh("gate", "part")
        lines += [f"{deep}for {part} in {weight}.data.chunk({chunks}):", f"{deep}\t{name}({part}{more})"]
    job.patch.after(made, *lines)


def _last_draw(job: Job, made: ast.stmt) -> ast.stmt:
    """The last statement of a block that draws the recurrent weights after the layer is made, else the one that makes it."""
    block = job.source.block(made)
    for line in drawn_at([p for p in targets_of(job) if _recurs(job, p) and p.init is not None], job.file):
        holders = [s for s in block if s.lineno <= line <= (s.end_lineno or s.lineno)]
        if not holders:
            raise NoEditError("the recurrent weights are drawn elsewhere than where the layer is made")
        made = max(made, holders[0], key=lambda s: s.lineno)
    return made


def _recurrent_layer(job: Job) -> tuple[ast.Call, str]:
    source = job.source
    found = []
    for call in source.nodes(ast.Call):
        name = source.torch_name(call.func).removeprefix("nn.")
        if name in ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"):
            found.append((call, name))
    if len(found) == 1:
        return found[0]
    if found:
        here = [f for f in found if f[0].lineno in job.lines]
        if len(here) == 1:
            return here[0]
        raise NoEditError("several recurrent layers could be meant")
    linear = [
        c
        for p in targets_of(job)
        if p.module_class == "Linear" and _recurs(job, p) and p.file == job.file
        for c in source.on_line(p.line, ast.Call)
        if source.torch_name(c.func) == "nn.Linear"
    ]
    if len(linear) == 1:
        return linear[0], "Linear"
    raise NoEditError("the recurrent layer cannot be told")
