"""Layers put in or taken out: a normalisation before each activation, a skip around a layer, no batch normalisation."""

from __future__ import annotations

import ast
from itertools import pairwise

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.uses import Use, drop_module, uses
from gradientflow.depth.remedies.writing.values import keyword

_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
_LISTS = ("nn.Sequential", "nn.ModuleList")


def add_norm(job: Job) -> None:
    """Put a layer normalisation before the activations: in lists of layers, in loops that build one, in `forward`.

    Setting `length`: the two sides of the product at the line, queries and keys, are normalised to that length instead.
    """
    length = job.number("length")
    if length is not None:
        _norm_product(job, length)
        return
    for lines in (job.lines, job.building_lines(job.lines), job.activation_lines()):
        for put in (_norm_lists, _norm_appended, _norm_forward):
            for line in lines:
                put(job, line)
            if job.patch:
                return
    raise NoEditError("no layer followed by an activation is written at the lines")


def _norm_product(job: Job, length: float) -> None:
    """`q @ k.transpose(1, 2)`: each query and each key gets one length."""
    source, patch = job.source, job.patch
    sides: list[tuple[ast.expr, ast.expr]] = []
    for line in job.lines:
        sides += [(n.left, n.right) for n in source.on_line(line, ast.BinOp) if isinstance(n.op, ast.MatMult)]
        for c in source.on_line(line, ast.Call):
            if source.torch_name(c.func) in ("matmul", "bmm") and len(c.args) == 2:
                sides.append((c.args[0], c.args[1]))
    if len(sides) != 1:
        raise NoEditError(f"{len(sides)} products at the lines")
    name = patch.name("torch.nn.functional.normalize")
    for side, dim in zip(sides[0], (-1, -2), strict=True):
        alone = isinstance(source.parents.get(side), ast.Call)
        text = f"{number(length)} * {name}({source.segment(side)}, dim={dim})"
        patch.replace(side, text if alone else f"({text})")


def _norm_lists(job: Job, line: int) -> None:
    for items in lists_of(job, line):
        _norm_list(job, items)


def lists_of(job: Job, line: int) -> list[list[ast.expr]]:
    """The innermost lists of layers that cover a line: `nn.Sequential(...)`, `[nn.Linear(...), nn.ReLU()]`."""
    source = job.source
    found: list[tuple[int, list[ast.expr]]] = []
    for node in [*source.nodes(ast.Call), *source.nodes(ast.List), *source.nodes(ast.Tuple)]:
        assert isinstance(node, ast.expr)
        if not node.lineno <= line <= (node.end_lineno or node.lineno):
            continue
        if isinstance(node, ast.Call):
            items = list(node.args) if source.torch_name(node.func) in _LISTS else []
        elif isinstance(node, (ast.List, ast.Tuple)):
            items = list(node.elts)
        if len(items) > 1 and any(_width(job, i) for i in items):
            found.append(((node.end_lineno or node.lineno) - node.lineno, items))
    smallest = min((size for size, _ in found), default=0)
    return [items for size, items in found if size == smallest]


def _width(job: Job, layer: ast.expr) -> str | None:
    """The norm that goes after a layer, as a call; None if it is no layer with a width that can be read."""
    source = job.source
    if not isinstance(layer, ast.Call):
        return None
    name = source.torch_name(layer.func)
    if name == "nn.Linear":
        out = layer.args[1] if len(layer.args) > 1 else getattr(keyword(layer, "out_features"), "value", None)
        full, before = "torch.nn.LayerNorm", ""
    elif name in ("nn.Conv1d", "nn.Conv2d", "nn.Conv3d"):
        out = layer.args[1] if len(layer.args) > 1 else getattr(keyword(layer, "out_channels"), "value", None)
        full, before = "torch.nn.GroupNorm", "1, "
    else:
        return None
    if out is None or isinstance(out, ast.Starred):
        return None
    return f"{job.patch.name(full)}({before}{source.segment(out)})"


def is_activation(job: Job, node: ast.expr) -> bool:
    found: list[Use] = uses(job.source, [node])
    if found:
        return found[0].kind not in ("softmax", "log_softmax")
    if not isinstance(node, ast.Call) or node.args:
        return False
    name = job.source.segment(node.func).lower()  # `act()`, `activation()`: a class that is passed by name
    return "act" in name or "nonlin" in name


def _norm_list(job: Job, items: list[ast.expr]) -> None:
    source, patch = job.source, job.patch
    for layer, after in pairwise(items):
        norm = _width(job, layer)
        if norm is None or not is_activation(job, after):
            continue
        start = source.span(after)[0]
        line = source.line_of(start)
        head = source.text[source.offset(line, 0) : start]
        own_line = not head.strip() and source.line_of(source.span(layer)[1]) != line
        patch.cut(start, start, f"{norm},{source.newline}{head}" if own_line else f"{norm}, ")


def _norm_appended(job: Job, line: int) -> None:
    """`layers.append(nn.Linear(a, b))` followed by `layers.append(nn.ReLU())`: one more append between the two."""
    source = job.source
    for stmt in source.on_line(line, ast.stmt):
        block = source.block(stmt)
        near = block[max(0, block.index(stmt) - 1) : block.index(stmt) + 2]
        for first, second in pairwise(near):
            layer, activation = appended(job, first), appended(job, second)
            if layer is None or activation is None or layer[0] != activation[0]:
                continue
            norm = _width(job, layer[1])
            if norm is not None and is_activation(job, activation[1]):
                job.patch.before(second, f"{layer[0]}.append({norm})")


def appended(job: Job, stmt: ast.stmt) -> tuple[str, ast.expr] | None:
    """What a statement appends, and to which list; None where it does something else."""
    call = stmt.value if isinstance(stmt, ast.Expr) else None
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and len(call.args) == 1
    ):
        return job.source.segment(call.func.value), call.args[0]
    return None


def _norm_forward(job: Job, line: int) -> None:
    """`torch.relu(self.fc(x))` becomes `torch.relu(F.layer_norm(self.fc(x), (self.fc.out_features,)))`."""
    source, patch = job.source, job.patch
    for use in uses(source, source.on_line(line, ast.expr)):
        if use.form not in ("function", "method") or not isinstance(use.node, ast.Call):
            continue
        if use.form == "method":
            assert isinstance(use.node.func, ast.Attribute)
            inner: ast.expr = use.node.func.value
        elif use.node.args:
            inner = use.node.args[0]
        else:
            continue
        size = _size(job, inner, line)
        if size is not None:
            patch.wrap(inner, f"{patch.name('torch.nn.functional.layer_norm')}(", f", {size})")


def _size(job: Job, inner: ast.expr, line: int) -> str | None:
    """The shape to normalise over, as this script would write it: of a linear layer's output, or of `x @ w + b`."""
    source = job.source
    if isinstance(inner, ast.Call) and len(inner.args) == 1 and not source.torch_name(inner.func):
        kinds = {op.module_class for op in job.ops([line]) if op.kind in ("linear", "conv")}
        return f"({source.segment(inner.func)}.out_features,)" if kinds == {"Linear"} else None
    product = inner.left if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Add) else inner
    if isinstance(product, ast.BinOp) and isinstance(product.op, ast.MatMult) and source.dotted(product.right):
        return f"{source.segment(product.right)}.shape[1:]"
    return None


def remove_norm(job: Job) -> None:
    """Take batch normalisation out: out of its `nn.Sequential`, else by `nn.Identity()` where it is made."""
    source = job.source
    every = [c for c in source.nodes(ast.Call) if source.torch_name(c.func).removeprefix("nn.") in _NORMS]
    here = [c for c in every if c.lineno in job.lines]
    if not here:
        called = {source.segment(c.func) for line in job.lines for c in source.on_line(line, ast.Call)}
        here = [
            s.value
            for s in source.nodes(ast.Assign)
            if source.segment(s.targets[0]) in called and isinstance(s.value, ast.Call) and s.value in every
        ]
    if not here and len(every) == 1:
        here = every
    if not here:
        raise NoEditError("no batch normalisation is made at the lines")
    for call in here:
        drop_module(job, call)


def gated(job: Job) -> None:
    """Write a gated cell in place of a plain one: `nn.GRU` for `nn.RNN`, `nn.GRUCell` for `nn.RNNCell`."""
    source = job.source
    plain = [
        (c, source.torch_name(c.func))
        for c in source.nodes(ast.Call)
        if source.torch_name(c.func) in ("nn.RNN", "nn.RNNCell")
    ]
    if len(plain) != 1:
        raise NoEditError(f"{len(plain)} plain recurrent layers")
    call, name = plain[0]
    if len(call.args) > 3:
        raise NoEditError("the layer's settings are given by position")
    full = f"torch.{name}".replace("RNN", "GRU")
    job.patch.replace(
        call.func,
        source.segment(call.func).replace("RNN", "GRU")
        if isinstance(call.func, ast.Attribute)
        else job.patch.name(full),
    )
    if (k := keyword(call, "nonlinearity")) is not None:
        job.patch.drop_keyword(call, k)
