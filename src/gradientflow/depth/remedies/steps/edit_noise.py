"""What a step averages over, and what regularises it: batch size, weight decay, penalties."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.steps.edit_rates import is_word
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import alter, keyword, literal, written
from gradientflow.records import Place


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
            if is_word(k, "weight_decay")
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
