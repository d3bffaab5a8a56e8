"""Skips in a list of layers: a layer and its activation become one `Residual`, where they are made or appended.

`[nn.Linear(w, w), nn.ReLU()]` becomes `[Residual(nn.Linear(w, w), nn.ReLU())]`; of `layers.append(nn.Linear(a, b))` and
`layers.append(nn.ReLU())` the second takes the layer out again: `layers.append(Residual(layers.pop(), nn.ReLU()))`. The class
is put before it, once.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import pairwise

from gradientflow.depth.remedies.structure.edit import appended, is_activation, lists_of
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number

ALL, SOME, NONE = "all", "some", "none"  # of the layers made there are as wide at their end as at their beginning


def skip_in_lists(job: Job, lines: Sequence[int]) -> None:
    """Put a skip around every layer of equal width that is made at some lines together with its activation."""
    name = job.source.fresh("Residual", "SkipAround")
    wrapped: dict[ast.expr, str] = {}
    for line in lines:
        for items in lists_of(job, line):
            wrapped |= _wrap_items(job, items, name)
        wrapped |= _wrap_appended(job, line, name, set(wrapped))
    if wrapped:
        _put_class(job, name, list(wrapped), guarded=SOME in wrapped.values())


def branch(job: Job, text: str) -> str:
    """A branch as it is added: times the setting `scale`, where one is given."""
    scale = job.number("scale")
    return text if scale is None or scale == 1 else f"{number(scale)} * {text}"


def _wrap_items(job: Job, items: list[ast.expr], name: str) -> dict[ast.expr, str]:
    """Wrap layers and their activations within a list that is written out; return the layers, each with how wide it is."""
    source, found = job.source, dict[ast.expr, str]()
    left = len(items)
    ends: list[int] = []
    for i, layer in enumerate(items):
        wide = _as_wide(job, layer)
        if wide == NONE:
            continue
        last = i + 1
        while last < len(items) and not is_activation(job, items[last]) and _is_norm(job, items[last]):
            last += 1
        if last < len(items) and is_activation(job, items[last]):
            start, end = source.span(layer)[0], source.span(items[last])[1]
            job.patch.cut(start, start, f"{name}(")
            ends.append(end)
            left -= last - i
            found[layer] = wide
    alone = left == 1 and found and isinstance(source.parents.get(items[0]), ast.Tuple)
    for end in ends:
        job.patch.cut(end, end, ")," if alone else ")")  # (of a tuple of one, the comma is the tuple)
    return found


def _wrap_appended(job: Job, line: int, name: str, known: set[ast.expr]) -> dict[ast.expr, str]:
    """Where a layer is appended and its activation next, let the second append both; return the layer with how wide it is."""
    source, found = job.source, dict[ast.expr, str]()
    for stmt in source.on_line(line, ast.stmt):
        block = source.block(stmt)
        near = block[max(0, block.index(stmt) - 1) : block.index(stmt) + 2]
        for first, second in pairwise(near):  # (the line may be that of either)
            layer, following = appended(job, first), appended(job, second)
            if layer is None or following is None or layer[0] != following[0] or layer[1] in known | found.keys():
                continue
            wide = _as_wide(job, layer[1])
            if wide != NONE and is_activation(job, following[1]):
                text = f"{name}({layer[0]}.pop(), {source.segment(following[1])})"
                job.patch.replace(following[1], text)
                found[layer[1]] = wide
    return found


def _put_class(job: Job, name: str, wrapped: list[ast.expr], guarded: bool) -> None:
    """Put the class ahead of the statement that first uses it.

    Args:
        job: the edit.
        name: of the class.
        wrapped: the layers that it goes around.
        guarded: some of them change the width: those go without a skip.
    """
    source, patch = job.source, job.patch
    top = source.statement(min(wrapped, key=lambda node: node.lineno))
    for above in source.above(top):
        if isinstance(above, ast.stmt):
            top = above
    body = [f"\t\treturn x + {branch(job, 'super().forward(x)')}"]
    if guarded:
        body = [
            "\t\tout = super().forward(x)",
            f"\t\treturn x + {branch(job, 'out')} if out.shape == x.shape else out",
        ]
    patch.before(
        top,
        f"class {name}({patch.name('torch.nn.Sequential')}):",
        '\t"""Layers, with a skip around them."""',
        "",
        "\tdef forward(self, x):",
        *body,
        "",
        "",
    )


def _as_wide(job: Job, layer: ast.expr) -> str:
    """How many of the linear layers that an expression makes have one size for what goes in and what comes out: by how it is
    written, else by the weights that were seen to be made there.
    """
    if not isinstance(layer, ast.Call) or job.source.torch_name(layer.func) != "nn.Linear" or len(layer.args) < 2:
        return NONE
    if job.source.segment(layer.args[0]) == job.source.segment(layer.args[1]):
        return ALL
    lines = range(layer.lineno, (layer.end_lineno or layer.lineno) + 1)
    made = [p.shape for p in job.meta.params if p.file == job.file and p.line in lines and len(p.shape) == 2]
    square = [a == b for a, b in made]
    return ALL if square and all(square) else SOME if any(square) else NONE


def _is_norm(job: Job, layer: ast.expr) -> bool:
    return isinstance(layer, ast.Call) and job.source.torch_name(layer.func).endswith(("Norm", "Norm1d"))
