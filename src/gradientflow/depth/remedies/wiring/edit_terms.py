"""Terms that train nothing, written so that they do: a derivative with its graph, two operands in one shape."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword

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
    """The operand that is a column gets `.squeeze(-1)`; of `a - b`, where it cannot be told which is, b the shape of a."""
    for place in job.places:
        for call in job.source.on_line(place.line, ast.Call):
            name = job.source.torch_name(call.func)
            loss = name.startswith("F.") or (place.op or "").endswith("_loss")
            if loss and len(call.args) == 2 and not any(isinstance(a, ast.Starred) for a in call.args):
                column = call.args[1 if job.word("column") == "target" else 0]
                job.patch.replace(column, f"{job.patch.tight(column)}.squeeze(-1)")
                return
        kind = _WRITTEN.get(place.op or "")
        found = [n for n in job.source.on_line(place.line, ast.BinOp) if kind is not None and isinstance(n.op, kind)]
        plain = [
            n for n in found if isinstance(n.left, (ast.Name, ast.Attribute)) and not isinstance(n.right, ast.Constant)
        ]
        if len(plain) == 1:
            job.patch.replace(
                plain[0].right, f"{job.patch.tight(plain[0].right)}.reshape_as({job.source.segment(plain[0].left)})"
            )
            return
    raise NoEditError("the line does not show which operand is the column")
