"""Activations as they are written: which ones a source names, in which form, and how another is written in one's place."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import Source
from gradientflow.ops import ACTIVATIONS, plain_name

# name → its class in torch.nn, its function in torch.nn.functional, and whether `torch` and tensors have it too
KINDS: dict[str, tuple[str, str, bool]] = {
    a.name: (a.module, a.name, a.everywhere) for a in ACTIVATIONS.values() if a.module
} | {"softmax": ("Softmax", "softmax", True), "log_softmax": ("LogSoftmax", "log_softmax", True)}


@dataclass(frozen=True)
class Use:
    """One place where an activation is written: `form` is "module", "class", "function", "name" or "method"."""

    node: ast.expr
    kind: str
    form: str


def kind_of(word: str | None) -> str | None:
    """Return the activation a word means: an op's name, or the name of a class.

    Example:
        >>> kind_of("Sigmoid"), kind_of("relu_"), kind_of("linear")
        ('sigmoid', 'relu', None)
    """
    if not word:
        return None
    plain = plain_name(word.lower())
    if plain in KINDS:
        return plain
    return next((kind for kind, (cls, _, _) in KINDS.items() if cls == word), None)


def uses(source: Source, nodes: list[ast.expr]) -> list[Use]:
    """Return the activations that are written by some nodes, each once."""
    found: list[Use] = []
    for node in nodes:
        parent = source.parents.get(node)
        if isinstance(node, ast.Call):
            name = source.torch_name(node.func)
            kind = _kind_by_name(name)
            if kind is not None:
                found.append(Use(node, kind, "module" if name.startswith("nn.") else "function"))
            elif isinstance(node.func, ast.Attribute) and not name and (kind := _method(source, node)) is not None:
                found.append(Use(node, kind, "method"))
        elif isinstance(node, (ast.Name, ast.Attribute)) and not (isinstance(parent, ast.Call) and parent.func is node):
            name = source.torch_name(node)
            kind = _kind_by_name(name)
            if kind is not None and isinstance(node.ctx, ast.Load) and not _compared(source, node):
                found.append(Use(node, kind, "class" if name.startswith("nn.") else "name"))
    return found


def _kind_by_name(name: str) -> str | None:
    for kind, (cls, function, everywhere) in KINDS.items():
        if name in (f"nn.{cls}", f"F.{function}") or (everywhere and name == kind):
            return kind
    return None


def _method(source: Source, call: ast.Call) -> str | None:
    assert isinstance(call.func, ast.Attribute)
    kind = kind_of(call.func.attr)
    known = kind is not None and KINDS[kind][2] and call.func.attr.rstrip("_") == kind
    ours = source.dotted(call.func).startswith(("self.", "numpy.", "scipy.", "math.", "jax."))
    own = ours and source.dotted(call.func).count(".") == 1
    return kind if known and not own else None


def _compared(source: Source, node: ast.AST) -> bool:
    """Whether a class is only asked about (`isinstance(m, nn.Sigmoid)`), or one of several in a table."""
    for outer in source.above(node):
        if isinstance(outer, ast.Call) and source.dotted(outer.func) in ("isinstance", "issubclass", "type"):
            return True
        if isinstance(outer, (ast.Compare, ast.Dict)):
            return True
        if isinstance(outer, ast.stmt):
            return False
    return False


def named(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def like(job: Job, node: ast.expr, full: str) -> str:
    """Write a full name the way a node that it replaces is written: `nn.X` for `nn.Y`, by another import if need be."""
    old = named(node)
    if isinstance(old, ast.Attribute):
        base = job.source.dotted(old.value)
        if base == full.rpartition(".")[0]:
            return f"{job.source.segment(old.value)}.{full.rpartition('.')[2]}"
    return job.patch.name(full)


def drop_module(job: Job, node: ast.expr) -> None:
    """Take a layer out of its `nn.Sequential(...)`; elsewhere put `nn.Identity()` in its place."""
    source = job.source
    parent = source.parents.get(node)
    listed = parent if isinstance(parent, ast.List) else None
    outer = source.parents.get(parent) if listed is not None and parent is not None else parent
    if isinstance(outer, ast.Starred):
        outer = source.parents.get(outer)
    siblings: list[ast.expr | ast.keyword] = []
    if isinstance(outer, ast.Call) and source.torch_name(outer.func) == "nn.Sequential":
        siblings = list(listed.elts if listed is not None else outer.args)
        holder = source.statement(outer)
        target = source.segment(holder.targets[0]) if isinstance(holder, ast.Assign) else None
        indexed = any(target is None or source.segment(s.value) == target for s in source.nodes(ast.Subscript))
        if node in siblings and len(siblings) > 1 and not indexed:
            job.patch.drop(node, siblings)
            return
    job.patch.replace(node, f"{like(job, node, 'torch.nn.Identity')}()")
