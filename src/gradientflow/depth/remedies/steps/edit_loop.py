"""Lines of the training loop: clear the gradients, clip them."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.loop import parameters_at, update_loop, variable
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError


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
    loop = update_loop(job)
    job.patch.before(backward, f"for {job.source.segment(loop.target)} in {job.source.segment(loop.iter)}:",
                     f"\t{variable(job, loop)}.grad = None")  # fmt: skip


def clip(job: Job) -> None:
    """Clip the gradient's norm right before the step; setting: `max_norm` (1 if not given)."""
    bound = number(job.number("max_norm", "norm", "to") or 1.0)
    clipping = job.patch.name("torch.nn.utils.clip_grad_norm_")
    if job.optimizer is None or job.optimizer.file is None:
        loop = update_loop(job)
        outer: ast.stmt = loop
        above = job.source.parents.get(loop)
        if isinstance(above, ast.With) and above.body[0] is loop:
            outer = above
        given = job.source.segment(loop.iter)
        named = variable(job, loop) if not isinstance(loop.target, ast.Name) else None
        parameters = given if named is None else f"[{named} for {job.source.segment(loop.target)} in {given}]"
        job.patch.before(outer, f"{clipping}({parameters}, {bound})")
        return
    statement, call = job.step_statement()
    if _already(job, statement):
        raise NoEditError("the gradient is clipped already")
    stepper = job.stepper(call)
    parameters = parameters_at(job, statement, stepper)
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
