"""The learning rate, and a warm-up of it."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.loop import has_gradient, updates, visible
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import alter, keyword, literal, written


def step_size(job: Job) -> None:
    """Lower or raise the learning rate; settings: `factor`, or `lr` (the new value), or `least` (no schedule lowers it)."""
    factor, to = job.number("factor"), job.number("lr")
    if job.number("least") is not None:
        _without_schedule(job)
        return
    if job.optimizer is None:
        _by_hand(job, factor)
        return
    call = job.constructor()
    old = job.optimizer.options.get("initial_lr", job.optimizer.options.get("lr"))
    if factor is None:
        if to is None or not isinstance(old, (int, float)) or old <= 0:
            raise NoEditError("neither a factor nor a new learning rate is known")
        factor = to / float(old)
    rates = [d.values[i] for d in job.source.nodes(ast.Dict, call) for i, k in enumerate(d.keys) if is_word(k, "lr")]
    rates += [k.value for c in job.source.nodes(ast.Call, call) for k in c.keywords if k.arg == "lr"]
    if not rates and len(call.args) > 1:
        rates = [call.args[1]]
    if rates:
        alone = to if len(rates) == 1 else None
        for rate in rates:
            alter(job, rate, factor, alone)
        seen = [n for n in job.source.nodes(ast.Constant) if literal(n) == literal(written(job, rates[0]))]
        if len(rates) == 1 and written(job, rates[0]) not in (rates[0], None) and len(seen) > 1:
            job.patch.notes.append("the learning rate is written elsewhere than where the optimizer is made")
    elif any(k.arg is None for k in call.keywords):
        raise NoEditError("the optimizer's options are unpacked")
    else:
        value = to if to is not None else (float(old) * factor if isinstance(old, (int, float)) else None)
        if value is None:
            raise NoEditError("the learning rate in use is not known")
        job.patch.argument(call, f"lr={number(value)}")
    if _scheduled(job):
        job.patch.notes.append("a schedule changes the learning rate further: check that it still fits")


def _without_schedule(job: Job) -> None:
    """Take out the one statement that steps a schedule."""
    job.step_statement()  # (goes into the file of the loop)
    source = job.source
    schedules = {
        source.segment(t)
        for s in source.nodes(ast.Assign)
        if isinstance(s.value, ast.Call) and "lr_scheduler" in source.dotted(s.value.func)
        for t in s.targets
    }
    steps = [
        s
        for s in source.nodes(ast.Expr)
        if isinstance(s.value, ast.Call)
        and isinstance(s.value.func, ast.Attribute)
        and s.value.func.attr == "step"
        and source.segment(s.value.func.value) in schedules
    ]
    if len(steps) != 1:
        raise NoEditError(f"{len(steps)} statements step a schedule")
    job.patch.delete(steps[0])
    job.patch.notes.append("the schedule is not stepped any more: step it once an epoch, if that was meant")


def is_word(key: ast.expr | None, word: str) -> bool:
    return isinstance(key, ast.Constant) and key.value == word


def _scheduled(job: Job) -> bool:
    return any("lr_scheduler" in job.source.dotted(c.func) for c in job.source.nodes(ast.Call))


def _by_hand(job: Job, factor: float | None) -> None:
    """The rate in `p -= lr * p.grad`, `p.data -= lr * g`, `p.sub_(lr * p.grad)` or `p.add_(p.grad, alpha=-lr)`."""
    if factor is None:
        raise NoEditError("no factor is given")
    for update, _ in updates(job):
        rate = _rate(job, update)
        if rate is None:
            raise NoEditError("the learning rate of the update cannot be told")
        alter(job, rate, factor)
    if not job.patch:
        raise NoEditError("no update of the parameters was found")


def _rate(job: Job, update: ast.expr | ast.stmt) -> ast.expr | None:
    if isinstance(update, ast.Call) and (alpha := keyword(update, "alpha")) is not None:
        return alpha.value.operand if isinstance(alpha.value, ast.UnaryOp) else alpha.value
    value = (
        update.value if isinstance(update, ast.AugAssign) else update.args[0] if isinstance(update, ast.Call) else None
    )
    while isinstance(value, ast.UnaryOp):
        value = value.operand
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Mult):
        return None
    sides = [side for side in (value.left, value.right) if not has_gradient(job, side)]
    return sides[0] if len(sides) == 1 else None


def warmup(job: Job) -> None:
    """Make a linear warm-up after the optimizer and step it after the optimizer; setting: `steps`."""
    call = job.constructor()
    made = job.source.statement(call)
    if not isinstance(made, ast.Assign) or len(made.targets) != 1 or made.value is not call:
        raise NoEditError("the optimizer has no name of its own")
    name, file = job.source.segment(made.targets[0]), job.file
    step, stepping = job.step_statement()
    if job.file != file:
        raise NoEditError("the optimizer steps in another file than it is made in")
    if job.stepper(stepping) != name or not visible(job, made, step, name):
        raise NoEditError("the optimizer is stepped where a schedule beside it would not be seen")
    steps = max(2, round(job.number("steps") or 100))
    own = "self." if name.startswith("self.") else ""
    schedule = own + job.source.fresh("warmup", "warmup_schedule")
    linear = job.patch.name("torch.optim.lr_scheduler.LinearLR")
    start = number(job.number("start") or 1 / steps)
    job.patch.after(made, f"{schedule} = {linear}({name}, start_factor={start}, total_iters={steps})")
    job.patch.after(step, f"{schedule}.step()")
    if _scheduled(job):
        job.patch.notes.append("another schedule is at work: check that the two fit")
