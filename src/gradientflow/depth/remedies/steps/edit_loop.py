"""Lines of the training loop: clear the gradients, clip them, turn the objective's sign, leave a bad batch out."""

from __future__ import annotations

import ast
import math
from statistics import median

from gradientflow.depth.remedies.steps.edit_rates import updates, visible
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword

_LOOPS = (ast.For, ast.While, ast.AsyncFor)
_COUNTING = (ast.For, ast.AsyncFor)  # `continue` in a while loop may skip what ends it
_LEFT_OUT = "the batch is left out; the rows that make it bad are still in the data"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def zero_grad(job: Job) -> None:
    """Call `zero_grad` before the step's first `backward`."""
    backward = job.backward()
    if job.optimizer is not None and job.optimizer.file is not None:
        statement, call = job.step_statement()
        clearing = f"{job.stepper(call)}.zero_grad()"
        condition = job.source.parents.get(statement)
        if isinstance(condition, ast.If) and condition not in job.source.above(backward):
            job.patch.after(statement, clearing)  # gradients are gathered over several backward calls
        else:
            job.patch.before(backward, clearing)
        return
    loop = _update_loop(job)
    job.patch.before(backward, f"for {job.source.segment(loop.target)} in {job.source.segment(loop.iter)}:",
                     f"\t{_variable(job, loop)}.grad = None")  # fmt: skip


def _update_loop(job: Job) -> ast.For:
    """The loop `for p in params:` that updates the parameters by hand; its iterable must be one that can be run again."""
    found: list[ast.For] = []
    for node, _ in updates(job):
        loop = next((o for o in job.source.above(node) if isinstance(o, ast.For)), None)
        if loop is not None and loop not in found and _again(job, loop.iter):
            found.append(loop)
    if len(found) != 1:
        raise NoEditError(f"{len(found)} loops could update the parameters")
    _variable(job, found[0])
    return found[0]


def _variable(job: Job, loop: ast.For) -> str:
    names = [
        job.source.segment(a.value)
        for a in job.source.nodes(ast.Attribute, loop)
        if a.attr == "grad" and isinstance(a.value, ast.Name)
    ]
    targets = {n.id for n in job.source.nodes(ast.Name, loop.target)}
    if not names or names[0] not in targets:
        raise NoEditError("the loop's parameter cannot be told")
    return names[0]


def _again(job: Job, node: ast.expr) -> bool:
    """Whether evaluating an expression once more gives the same parameters: no generator that is spent by then."""
    if isinstance(node, ast.Call):
        name = job.source.dotted(node.func)
        method = isinstance(node.func, ast.Attribute) and node.func.attr in ("parameters", "named_parameters")
        return (method and not node.args) or (
            name in ("list", "tuple", "itertools.chain") and all(_again(job, a) for a in node.args)
        )
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and _again(job, node.left) and _again(job, node.right)
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(_again(job, e.value if isinstance(e, ast.Starred) else e) for e in node.elts)
    if isinstance(node, ast.Attribute):
        return bool(job.source.dotted(node))
    if isinstance(node, ast.Subscript):
        return _again(job, node.value)
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


def clip(job: Job) -> None:
    """Clip the gradient's norm right before the step; setting: `max_norm` (1 if not given)."""
    bound = number(job.number("max_norm", "norm", "to") or 1.0)
    clipping = job.patch.name("torch.nn.utils.clip_grad_norm_")
    if job.optimizer is None or job.optimizer.file is None:
        loop = _update_loop(job)
        outer: ast.stmt = loop
        above = job.source.parents.get(loop)
        if isinstance(above, ast.With) and above.body[0] is loop:
            outer = above
        given = job.source.segment(loop.iter)
        named = _variable(job, loop) if not isinstance(loop.target, ast.Name) else None
        parameters = given if named is None else f"[{named} for {job.source.segment(loop.target)} in {given}]"
        job.patch.before(outer, f"{clipping}({parameters}, {bound})")
        return
    statement, call = job.step_statement()
    if _already(job, statement):
        raise NoEditError("the gradient is clipped already")
    stepper = job.stepper(call)
    parameters = _parameters(job, statement, stepper)
    lines = [f"{clipping}({parameters}, {bound})"]
    if job.closure(call) is not None:
        backwards = job.backwards(statement, call)
        if not backwards:
            raise NoEditError("the closure calls no backward")
        job.patch.after(backwards[-1], *lines)
        return
    if isinstance(call.func, ast.Attribute) and job.source.segment(call.func.value) != stepper:  # scaler.step(opt)
        scaler = job.source.segment(call.func.value)
        if f"{scaler}.unscale_({stepper})" not in job.source.text:
            lines.insert(0, f"{scaler}.unscale_({stepper})")
    job.patch.before(statement, *lines)


def _already(job: Job, statement: ast.stmt) -> bool:
    scope = job.source.scope(statement)
    return any("clip_grad" in job.source.dotted(c.func) for c in job.source.nodes(ast.Call, scope))


def _parameters(job: Job, step: ast.stmt, stepper: str) -> str:
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
    if given is None or "\n" in text or len(text) > 60 or not _again(job, given):
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


def flip_sign(job: Job) -> None:
    """Minimise the negative: turn the sign of the loss where it is computed, or of the update, or drop `maximize`."""
    if job.optimizer is not None and job.optimizer.options.get("maximize"):
        call = job.constructor()
        given = keyword(call, "maximize")
        if given is None:
            raise NoEditError("maximize is not written where the optimizer is made")
        job.patch.drop_keyword(call, given)
        return
    if job.optimizer is None or job.optimizer.file is None:
        _turn_updates(job)
        return
    backward = job.backward()
    root = job.loss(backward)
    value = _value_of(job, root, backward) if isinstance(root, ast.Name) else None
    negate(job, value if value is not None else root)


def _value_of(job: Job, name: ast.Name, backward: ast.stmt) -> ast.expr | None:
    """The one expression that gave `loss` its value, in the same scope, before backward."""
    scope = job.source.scope(backward)
    found = [
        s
        for s in job.source.nodes(ast.stmt, scope)
        if isinstance(s, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        and any(isinstance(n.ctx, ast.Store) and n.id == name.id for n in job.source.nodes(ast.Name, s))
        and job.source.scope(s) is scope
        and s.lineno <= backward.lineno
    ]
    if len(found) == 1 and isinstance(found[0], ast.Assign) and isinstance(found[0].targets[0], ast.Name):
        return found[0].value
    return None


def negate(job: Job, node: ast.expr) -> None:
    """Turn the sign of an expression: take a minus away, or put one before it."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        start, end = job.source.span(node)
        bracketed = job.source.text[start - 1 : start] == "(" and job.source.text[end : end + 1] == ")"
        owned = isinstance(job.source.parents.get(node), ast.Attribute) and isinstance(
            node.operand, (ast.Name, ast.Call)
        )
        if bracketed and owned:
            job.patch.cut(start - 1, end + 1, job.source.segment(node.operand))
        else:
            job.patch.unwrap(node, node.operand)
        return
    parent = job.source.parents.get(node)
    text = f"-{job.patch.tight(node)}"
    inside = job.source.text[job.source.span(node)[0] - 1 : job.source.span(node)[0]] == "("
    job.patch.replace(node, f"({text})" if isinstance(parent, ast.Attribute) and not inside else text)


def _turn_updates(job: Job) -> None:
    for node, subtracts in updates(job):
        start, end = job.source.span(node)
        if isinstance(node, ast.AugAssign):
            old, new = ("-=", "+=") if subtracts else ("+=", "-=")
            start = job.source.span(node.target)[1]
            end = job.source.span(node.value)[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            old, new = ("sub_", "add_") if subtracts else ("add_", "sub_")
            start, end = job.source.span(node.func.value)[1], job.source.span(node.func)[1]
        else:
            continue
        text = job.source.text[start:end]
        if text.count(old) != 1:
            raise NoEditError("the update's sign cannot be told")
        job.patch.cut(start + text.index(old), start + text.index(old) + len(old), new)


def drop_batch(job: Job) -> None:
    """Leave a step out when its loss is not finite; where every loss is, when its gradient is far larger than usual.

    Settings: `limit` (a loss above which the step is left out), or `times` (the usual norm of the gradient; 20 if not given).
    """
    usual = _usual_norm(job)
    if job.number("limit") is None and usual is not None:
        _drop_steep(job, usual * (job.number("times") or 20.0))
        return
    backward = job.backward()
    root = job.loss(backward)
    if not isinstance(root, (ast.Name, ast.Attribute)):
        raise NoEditError("the loss has no name")
    loop = next((o for o in job.source.above(backward) if isinstance(o, (*_LOOPS, *_FUNCTIONS))), None)
    if not isinstance(loop, _COUNTING):
        raise NoEditError("the step is not written in a loop that goes on by itself")
    loss = job.source.segment(root)
    limit = job.number("limit")
    test = f"not {loss} < {number(limit)}" if limit is not None else f"not {job.patch.name('torch.isfinite')}({loss})"
    lines = [f"if {test}:", "\tcontinue"]
    if job.optimizer is not None and job.optimizer.file is not None:
        statement, stepping = job.step_statement()
        if loop not in job.source.above(statement):
            raise NoEditError("the step is in another loop than backward")
        lines.insert(1, f"\t{job.stepper(stepping)}.zero_grad()")
    job.patch.before(backward, *lines)
    job.patch.notes.append(_LEFT_OUT)


def _usual_norm(job: Job) -> float | None:
    """The median norm of the gradient; None where some loss or gradient is not finite, or no step stands out."""
    steps = [s for s in job.run.steps if job.optimizer is None or s.optimizer == job.optimizer.index]
    norms = [s.grad for s in steps if s.grad is not None]
    losses = [s.loss for s in steps if s.loss is not None]
    if len(norms) < 5 or not all(math.isfinite(v) for v in (*norms, *losses)):
        return None
    usual = median(norms)
    return usual if usual > 0 and max(norms) > 5 * usual else None


def _drop_steep(job: Job, limit: float) -> None:
    """Before the step: measure the gradient's norm, and leave the step out where it is beyond a limit."""
    statement, call = job.step_statement()
    loop = next((o for o in job.source.above(statement) if isinstance(o, (*_LOOPS, *_FUNCTIONS))), None)
    stepper = job.stepper(call)
    assert isinstance(call.func, ast.Attribute)
    if (
        not isinstance(loop, _COUNTING)
        or job.closure(call) is not None
        or job.source.segment(call.func.value) != stepper
    ):
        raise NoEditError("the step is not written plainly in a loop")
    norm = job.source.fresh("norm", "grad_norm", "gradient_norm")
    measure = (
        f'{job.patch.name("torch.nn.utils.clip_grad_norm_")}({_parameters(job, statement, stepper)}, float("inf"))'
    )
    job.patch.before(
        statement,
        f"{norm} = {measure}  # only measured",
        f"if not {norm} < {number(limit)}:",
        f"\t{stepper}.zero_grad()",
        "\tcontinue",
    )
    job.patch.notes.append(_LEFT_OUT)
