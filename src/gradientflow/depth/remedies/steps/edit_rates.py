"""Numbers of the training loop: learning rate, warm-up, weight decay and penalties, batch size."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import alter, keyword, literal, written
from gradientflow.records import Place


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
    rates = [d.values[i] for d in job.source.nodes(ast.Dict, call) for i, k in enumerate(d.keys) if _is(k, "lr")]
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


def _is(key: ast.expr | None, word: str) -> bool:
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


def updates(job: Job) -> list[tuple[ast.expr | ast.stmt, bool]]:
    """Return the updates of parameters by hand: the node, and whether it subtracts."""
    found: list[tuple[ast.expr | ast.stmt, bool]] = []
    for s in job.source.nodes(ast.AugAssign):
        if isinstance(s.op, (ast.Sub, ast.Add)) and _has_gradient(job, s.value):
            found.append((s, isinstance(s.op, ast.Sub)))
    for c in job.source.nodes(ast.Call):
        if (
            isinstance(c.func, ast.Attribute)
            and c.func.attr in ("sub_", "add_")
            and any(_has_gradient(job, a) for a in c.args)
        ):
            found.append((c, c.func.attr == "sub_"))
    return sorted(found, key=lambda f: f[0].lineno)


def _has_gradient(job: Job, node: ast.AST) -> bool:
    return any(a.attr == "grad" for a in job.source.nodes(ast.Attribute, node)) or any(
        n.id in ("g", "grad", "gradient") for n in job.source.nodes(ast.Name, node)
    )


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
    sides = [side for side in (value.left, value.right) if not _has_gradient(job, side)]
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


def regularisation(job: Job) -> None:
    """Lower `weight_decay`, or the factor of the penalty at the change's line; setting: `factor` (0.1 if not given)."""
    factor = job.number("factor")
    factor = 0.1 if factor is None else factor
    optimizer = job.optimizer
    decay = optimizer is not None and bool(optimizer.options.get("weight_decay"))
    at_line = job.places[0].op if job.places else None
    penalties = list({id(t): t for p in job.places for t in _penalties(job, p)}.values())
    if decay and (job.word("what") == "weight_decay" or not penalties or (optimizer and at_line == optimizer.name)):
        call = job.constructor()
        given = [k.value for c in job.source.nodes(ast.Call, call) for k in c.keywords if k.arg == "weight_decay"]
        given += [
            d.values[i]
            for d in job.source.nodes(ast.Dict, call)
            for i, k in enumerate(d.keys)
            if _is(k, "weight_decay")
        ]
        if not given:
            raise NoEditError("weight_decay is not written where the optimizer is made")
        for value in given:
            if literal(value) != 0:
                alter(job, value, factor)
        return
    if not penalties:
        penalties = _penalty_of_loss(job)
    if len(penalties) != 1:
        raise NoEditError(f"{len(penalties)} factors could be the penalty's")
    alter(job, penalties[0], factor)


def _penalties(job: Job, place: Place) -> list[ast.expr]:
    """The number-like factors of the products on a line that hold the penalty's operation."""
    found = []
    for product in job.source.on_line(place.line, ast.BinOp):
        text = job.source.segment(product)
        mentioned = place.op in (None, "mul") or (place.op or "") in text or (place.op == "pow" and "**" in text)
        if isinstance(product.op, ast.Mult) and mentioned and (factor := _factor(job, product)) is not None:
            found.append(factor)
    return found


def _penalty_of_loss(job: Job) -> list[ast.expr]:
    """The factors in `loss = data + factor * penalty`, where the penalty is computed at the change's line.

    The line belongs to a function, or gives a name; it is the product with that function or name that counts.
    """
    names: set[str] = set()
    for line in job.lines:
        for stmt in job.source.on_line(line, ast.stmt):
            targets = (
                stmt.targets
                if isinstance(stmt, ast.Assign)
                else [stmt.target]
                if isinstance(stmt, ast.AugAssign)
                else []
            )
            names |= {n.id for t in targets for n in job.source.nodes(ast.Name, t)}
            scope = job.source.scope(stmt)
            names |= {scope.name} if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)) else set()
    found: list[ast.expr] = []
    for product in job.source.nodes(ast.BinOp):
        if not isinstance(product.op, ast.Mult):
            continue
        called = {n.id for n in job.source.nodes(ast.Name, product)} | {
            a.attr for a in job.source.nodes(ast.Attribute, product)
        }
        if names & called and (factor := _factor(job, product)) is not None:
            found.append(factor)
    return found


def _factor(job: Job, product: ast.BinOp) -> ast.expr | None:
    sides = [s for s in (product.left, product.right) if written(job, s) is not None]
    return sides[0] if len(sides) == 1 else None


def batch(job: Job) -> None:
    """Take a larger batch; settings: `factor` (how many times larger), or `size`."""
    size = next((p.batch for p in job.run.probes if p.batch), None)
    factor, to = job.number("factor", "batches"), job.number("size")
    if factor is None:
        factor = to / size if to is not None and size else 8.0
    made = [
        (
            k.value,
            (s := keyword(c, "shuffle")) is not None and isinstance(s.value, ast.Constant) and s.value.value is True,
        )
        for c in job.source.nodes(ast.Call)
        if job.source.dotted(c.func).rpartition(".")[2].endswith("DataLoader")
        and (k := keyword(c, "batch_size")) is not None
    ]
    loaders = [n for n, shuffled in made if shuffled] or [n for n, _ in made]  # (what is shuffled is trained on)
    found = _distinct(job, [n for n in loaders if size is None or literal(written(job, n)) in (None, float(size))])
    if not found and not loaders and size:
        found = _distinct(job, _sizes(job, size))
    if len(found) != 1:
        raise NoEditError(f"{len(found)} numbers could be the batch size")
    alter(job, found[0], max(2.0, factor), to, whole=True)


def _distinct(job: Job, nodes: list[ast.expr]) -> list[ast.expr]:
    return list({id(written(job, n) or n): n for n in nodes}.values())


def _sizes(job: Job, size: int) -> list[ast.expr]:
    """What the batch is drawn with: numbers named after a batch, or a `randint`/`randperm`/`split` of that many."""
    found: list[ast.expr] = []
    for s in job.source.nodes(ast.Assign):
        names = [n for t in s.targets for n in job.source.nodes(ast.Name, t) if _batchy(n.id)]
        found += [n for n in names if literal(written(job, n)) == size]
    for c in job.source.nodes(ast.Call):
        name = job.source.dotted(c.func).rpartition(".")[2] or (
            c.func.attr if isinstance(c.func, ast.Attribute) else ""
        )
        if name == "add_argument" and c.args and _batchy(str(getattr(c.args[0], "value", ""))):
            found += [k.value for k in c.keywords if k.arg == "default" and literal(k.value) == size]
        if name in ("randint", "split", "choice", "sample") and not found:
            within = [n for a in c.args[1:] or c.args for n in job.source.nodes(ast.Constant, a)]
            found += [n for n in within if literal(n) == size]
    return found


def _batchy(name: str) -> bool:
    plain = name.lower().strip("-").replace("-", "_")
    return "batch" in plain or plain in ("bs", "b_size", "mb")
