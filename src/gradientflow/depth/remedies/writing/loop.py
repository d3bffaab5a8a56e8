"""The training loop as it is written: updates by hand, the parameters of a step, and which names can be seen where."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError

LOOPS = (ast.For, ast.While, ast.AsyncFor)
COUNTING = (ast.For, ast.AsyncFor)  # `continue` in a while loop may skip what ends it
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LONGEST = 60  # characters of an expression that is written a second time


def update_loop(job: Job) -> ast.For:
    """The loop `for p in params:` that updates the parameters by hand; its iterable must be one that can be run again."""
    found: list[ast.For] = []
    for node, _ in updates(job):
        loop = next((o for o in job.source.above(node) if isinstance(o, ast.For)), None)
        if loop is not None and loop not in found and again(job, loop.iter):
            found.append(loop)
    if len(found) != 1:
        raise NoEditError(f"{len(found)} loops could update the parameters")
    variable(job, found[0])
    return found[0]


def variable(job: Job, loop: ast.For) -> str:
    names = [
        job.source.segment(a.value)
        for a in job.source.nodes(ast.Attribute, loop)
        if a.attr == "grad" and isinstance(a.value, ast.Name)
    ]
    targets = {n.id for n in job.source.nodes(ast.Name, loop.target)}
    if not names or names[0] not in targets:
        raise NoEditError("the loop's parameter cannot be told")
    return names[0]


def again(job: Job, node: ast.expr) -> bool:
    """Whether evaluating an expression once more gives the same parameters: no generator that is spent by then."""
    if isinstance(node, ast.Call):
        name = job.source.dotted(node.func)
        method = isinstance(node.func, ast.Attribute) and node.func.attr in ("parameters", "named_parameters")
        return (method and not node.args) or (
            name in ("list", "tuple", "itertools.chain") and all(again(job, a) for a in node.args)
        )
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and again(job, node.left) and again(job, node.right)
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(again(job, e.value if isinstance(e, ast.Starred) else e) for e in node.elts)
    if isinstance(node, ast.Attribute):
        return bool(job.source.dotted(node))
    if isinstance(node, ast.Subscript):
        return again(job, node.value)
    if not isinstance(node, ast.Name):
        return False
    values = [
        s.value
        for s in job.source.nodes(ast.Assign)
        if any(isinstance(t, ast.Name) and t.id == node.id for t in s.targets)
    ]
    bare = [v for v in values if isinstance(v, ast.GeneratorExp) or _generator(job, v)]
    return len(values) >= 1 and not bare


def _generator(job: Job, node: ast.expr) -> bool:
    if not isinstance(node, ast.Call):
        return False
    method = isinstance(node.func, ast.Attribute) and node.func.attr in ("parameters", "named_parameters")
    return method or job.source.dotted(node.func) in ("filter", "map", "zip", "iter", "itertools.chain")


def parameters_at(job: Job, step: ast.stmt, stepper: str) -> str:
    """How to write the optimizer's parameters where it steps."""
    group = f'[p for g in {stepper}.param_groups for p in g["params"]]'
    here = job.file
    optimizer = job.optimizer
    if optimizer is None or (optimizer.made_file or here) != here:
        return group
    try:
        call = job.constructor()
    except NoEditError:
        return group
    given = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "params"), None)
    text = job.source.segment(given) if given is not None else ""
    if given is None or "\n" in text or len(text) > _LONGEST or not again(job, given):
        return group
    if any(isinstance(d, ast.Dict) for d in ast.walk(given)):
        return group
    made = job.source.statement(call)
    roots = [
        n for n in job.source.nodes(ast.Name, given) if n.id not in job.source.names and n.id not in ("list", "tuple")
    ]
    if not roots or not all(visible(job, made, step, "self." if n.id == "self" else n.id) for n in roots):
        return group
    return text


def updates(job: Job) -> list[tuple[ast.expr | ast.stmt, bool]]:
    """Return the updates of parameters by hand: the node, and whether it subtracts."""
    found: list[tuple[ast.expr | ast.stmt, bool]] = []
    for s in job.source.nodes(ast.AugAssign):
        if isinstance(s.op, (ast.Sub, ast.Add)) and has_gradient(job, s.value):
            found.append((s, isinstance(s.op, ast.Sub)))
    for c in job.source.nodes(ast.Call):
        if (
            isinstance(c.func, ast.Attribute)
            and c.func.attr in ("sub_", "add_")
            and any(has_gradient(job, a) for a in c.args)
        ):
            found.append((c, c.func.attr == "sub_"))
    return sorted(found, key=lambda f: f[0].lineno)


def has_gradient(job: Job, node: ast.AST) -> bool:
    return any(a.attr == "grad" for a in job.source.nodes(ast.Attribute, node)) or any(
        n.id in ("g", "grad", "gradient") for n in job.source.nodes(ast.Name, node)
    )


def visible(job: Job, made: ast.stmt, used: ast.stmt, name: str) -> bool:
    """Whether a name given at one statement can be read at another: the same scope, a module's own name, or of `self`."""
    there, here = job.source.scope(made), job.source.scope(used)
    if name.startswith("self."):
        return job.source.scope(there) is job.source.scope(here)
    base = name.partition(".")[0]
    if there is here:
        return True
    chain = [here, *job.source.above(here)]
    if there not in chain:
        return False
    between = [s for s in chain[: chain.index(there)] if not isinstance(s, ast.Module)]
    return not any(
        n.id == base for s in between for n in job.source.nodes(ast.Name, s) if isinstance(n.ctx, ast.Store)
    ) and not any(a.arg == base for s in between for a in job.source.nodes(ast.arg, s))
