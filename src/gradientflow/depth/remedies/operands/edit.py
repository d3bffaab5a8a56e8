"""Operands of singular operations, kept away from the point where the operation or its slope has no value."""

from __future__ import annotations

import ast
from collections.abc import Callable

from gradientflow.depth.remedies.operands.plan import EPS
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import keyword, literal
from gradientflow.limits import Limit
from gradientflow.ops import ARCS, DISTANCES, GROWING, LOGS, ROOTS

ALIKE = Limit("operations", 3, "chosen: as many of one kind on a line are one expression; of more one may be another")
_TOP = {"exp2": 64.0}


def clamp(job: Job) -> None:
    """Keep an operand in range; settings: `eps`, `min`, `max`.

    √, log, division and powers get an epsilon below, exp and its like a bound above, acos and its like bounds on both
    sides, `F.normalize` a larger eps.
    """
    for place in job.places:
        _at(job, place.line, job.word("op") or place.op)


def _at(job: Job, line: int | None, op: str | None) -> None:
    found = _candidates(job, line)
    named = [c for c in found if op is not None and c[0] in _alike(op)]
    chosen = named or ([] if op is not None and _known(op) else found)
    if len({id(c[1]) for c in chosen}) != 1 and not (named and _same(job, named)):
        raise NoEditError(f"{len(chosen)} operations at the line could be the singular one")
    for _, _, change in chosen:
        change()


def _same(job: Job, chosen: list[tuple[str, ast.expr, Callable[[], None]]]) -> bool:
    return 1 < len(chosen) <= ALIKE and len({c[0] for c in chosen}) == 1


def _known(op: str) -> bool:
    return bool(_alike(op) - {op})


def _alike(op: str) -> set[str]:
    """The ways to write an operation that the records call by one name."""
    op = op.strip("_")
    for family in (
        {"pow", "power", "__pow__", "square"},
        {"div", "truediv", "true_divide", "divide", "__truediv__", "rdiv", "__rtruediv__", "reciprocal"},
        {"norm", "vector_norm"},
        {"log"}, {"log2"}, {"log10"}, {"exp"}, {"sqrt"}, {"rsqrt"},
        {"acos", "arccos"}, {"asin", "arcsin"}, {"atanh", "arctanh"},
    ):  # fmt: skip
        if op in family:
            return family | {next(iter(sorted(family)))} | {f"*{op}"}
    return {op}


def _candidates(job: Job, line: int | None) -> list[tuple[str, ast.expr, Callable[[], None]]]:
    """Every operation on a line that can be kept in range: its name, its node, and the change that does it."""
    found: list[tuple[str, ast.expr, Callable[[], None]]] = []
    for node in job.source.on_line(line, ast.expr):
        change = (
            _call(job, node)
            if isinstance(node, ast.Call)
            else _operator(job, node)
            if isinstance(node, ast.BinOp)
            else None
        )
        if change is not None:
            found.append((change[0], node, change[1]))
    return found


def _call(job: Job, call: ast.Call) -> tuple[str, Callable[[], None]] | None:
    source = job.source
    name = source.torch_name(call.func)
    if name == "F.normalize":
        return "normalize", lambda: _normalize(job, call)
    if name == "F.cosine_similarity":
        return "cosine_similarity", lambda: _normalize(job, call)
    name = name.removeprefix("F.")
    operand: ast.expr | None = None
    if name and "." not in name:
        operand = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "input"), None)
    elif isinstance(call.func, ast.Attribute) and not source.dotted(call.func).startswith(
        ("numpy.", "math.", "torch.")
    ):
        name, operand = call.func.attr, call.func.value
    name = name.rstrip("_")
    if operand is None or isinstance(operand, ast.Starred):
        return None
    kept = operand
    if name in DISTANCES:
        return name, lambda: _result(job, call)
    if name == "logit" and not keyword(call, "eps"):
        return name, lambda: job.patch.argument(call, f"eps={_eps(job, EPS)}")
    if name == "log1p":
        return name, lambda: _method(job, kept, f".clamp_min({-1.0 + (job.number('eps') or EPS):.9g})")
    if name in LOGS | ROOTS:
        return name, lambda: _above(job, kept, name)
    if name in GROWING:
        return name, lambda: _growing(job, kept, name)
    if name in ARCS:
        return name, lambda: _bounded(job, kept, -_edge(job), _edge(job))
    if name == "pow" and len(call.args) in (1, 2):
        power = literal(call.args[-1])
        if power is not None and power < 1:
            return name, lambda: _above(job, kept, name)
    if name in ("div", "divide", "true_divide") and call.args:
        return "div", lambda: _away(job, call.args[-1])
    if name == "reciprocal":
        return name, lambda: _away(job, kept)
    return None


def _operator(job: Job, node: ast.BinOp) -> tuple[str, Callable[[], None]] | None:
    if isinstance(node.op, ast.Div) and literal(node.right) is None:
        return "div", lambda: _away(job, node.right)
    power = literal(node.right)
    if isinstance(node.op, ast.Pow) and power is not None and power < 1:
        return "pow", lambda: _above(job, node.left, "pow")
    return None


def _eps(job: Job, usual: float) -> str:
    return format(job.number("eps", "min") or usual, "g")


def _edge(job: Job) -> float:
    return job.number("max") or 1.0 - (job.number("eps") or EPS)


def _above(job: Job, operand: ast.expr, name: str) -> None:
    """Keep an operand above 0: `e + eps` for what cannot be negative, else `e.clamp_min(eps)`."""
    eps = _eps(job, 1e-12 if name in ROOTS or name == "pow" else 1e-8)
    if _never_negative(job, operand):
        _plus(job, operand, eps)
    else:
        _method(job, operand, f".clamp_min({eps})")


def _never_negative(job: Job, node: ast.expr) -> bool:
    """Whether an expression is a sum or mean of squares or absolute values, by how it is written."""
    source = job.source
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            power = literal(node.right)
            return power is not None and power % 2 == 0
        if isinstance(node.op, (ast.Add, ast.Mult, ast.Div)):
            same = isinstance(node.op, ast.Mult) and source.segment(node.left) == source.segment(node.right)
            return same or (_never_negative(job, node.left) and _never_negative(job, node.right))
    if isinstance(node, ast.Constant):
        return (literal(node) or 0) > 0
    if isinstance(node, ast.Call):
        name = source.torch_name(node.func)
        if not name and isinstance(node.func, ast.Attribute):
            name, inner = node.func.attr, node.func.value
        else:
            inner = node.args[0] if node.args else node.func
        if name in (
            "square",
            "abs",
            "norm",
            "var",
            "std",
            "exp",
            "softmax",
            "F.softmax",
            "sigmoid",
            "vector_norm",
            "relu",
            "F.relu",
        ):
            return True
        if name in ("sum", "mean", "amax", "max"):
            return _never_negative(job, inner)
        if name == "pow" and node.args:
            power = literal(node.args[-1])
            return power is not None and power % 2 == 0
    return False


def _away(job: Job, operand: ast.expr) -> None:
    """Keep a divisor away from 0: `d + eps` for what cannot be negative, else `d.clamp_min(eps)`."""
    eps = _eps(job, 1e-8)
    if _never_negative(job, operand):
        _plus(job, operand, eps)
        return
    lowest = _lowest_divisor(job, operand)
    if lowest is not None and lowest < 0:
        text = job.source.segment(operand)
        if not isinstance(operand, (ast.Name, ast.Attribute)):
            raise NoEditError("the divisor takes both signs, and has no name")
        where = job.patch.name("torch.where")
        job.patch.replace(operand, f"{where}({text} < 0, {text}.clamp(max=-{eps}), {text}.clamp(min={eps}))")
        return
    _method(job, operand, f".clamp_min({eps})")
    job.patch.notes.append("right for a divisor that should be positive; one of either sign needs another bound")


def _lowest_divisor(job: Job, operand: ast.expr) -> float | None:
    """The smallest value that was seen of what is divided by at a line."""
    found = []
    for probe in job.run.probes:
        for op in probe.ops:
            if op.file == job.file and op.line == operand.lineno and op.name in _alike("div") and op.operands:
                last = op.operands[-1] if op.name != "reciprocal" else op.operands[0]
                value = probe.ops[last.op].value if last.op is not None else last.value
                if value is not None:
                    found.append(value.min)
    return min(found, default=None)


def _growing(job: Job, operand: ast.expr, name: str) -> None:
    """Keep an exponent below overflow; with setting `shift`, take the largest along `dim` off first, as softmax does."""
    dim = job.number("dim")
    parts = (
        ast.Name,
        ast.Attribute,
        ast.Subscript,
        ast.BinOp,
        ast.Constant,
        ast.operator,
        ast.expr_context,
        ast.UnaryOp,
    )
    plain = all(isinstance(n, (*parts, ast.unaryop)) for n in ast.walk(operand))
    if job.settings.get("shift") is True and dim is not None and plain:
        tight = job.patch.tight(operand)
        job.patch.replace(operand, f"{job.source.segment(operand)} - {tight}.amax({int(dim)}, keepdim=True)")
        return
    _bounded(job, operand, None, job.number("max") or _TOP.get(name, 40.0))


def _result(job: Job, call: ast.Call) -> None:
    """Keep a norm or distance that is divided by away from zero."""
    end = job.source.span(call)[1]
    job.patch.cut(end, end, f".clamp_min({_eps(job, EPS)})")


def _bounded(job: Job, operand: ast.expr, low: float | None, high: float) -> None:
    if low is None:
        _method(job, operand, f".clamp(max={format(high, 'g')})")
    else:
        _method(job, operand, f".clamp({format(low, '.9g')}, {format(high, '.9g')})")


def _plus(job: Job, operand: ast.expr, eps: str) -> None:
    """Add an epsilon to an expression in its place, with parentheses only where they are needed."""
    source = job.source
    parent = source.parents.get(operand)
    text = source.segment(operand)
    plain = isinstance(operand, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)) or (
        isinstance(operand, ast.BinOp) and isinstance(operand.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow))
    )
    inner = text if plain else f"({text})"
    start = source.span(operand)[0]
    bracketed = source.text[start - 1 : start] == "(" and source.text[source.span(operand)[1] :][:1] == ")"
    alone = isinstance(parent, ast.Call) and operand in parent.args
    job.patch.replace(operand, f"{inner} + {eps}" if alone or bracketed else f"({inner} + {eps})")


def _method(job: Job, operand: ast.expr, call: str) -> None:
    source = job.source
    start, end = source.span(operand)
    tight = job.patch.tight(operand)
    bracketed = source.text[start - 1 : start] == "(" and source.text[end : end + 1] == ")"
    parent = source.parents.get(operand)
    owned = isinstance(parent, ast.Attribute) or (isinstance(parent, ast.BinOp) and bracketed)
    if owned and bracketed and tight != source.segment(operand):
        job.patch.cut(end + 1, end + 1, call)  # the parentheses that are there already are the operand's
    else:
        job.patch.replace(operand, tight + call)


def _normalize(job: Job, call: ast.Call) -> None:
    eps = _eps(job, EPS)
    given = keyword(call, "eps")
    if given is not None:
        job.patch.replace(given.value, eps)
    elif len(call.args) < 4:
        job.patch.argument(call, f"eps={eps}")
    else:
        job.patch.replace(call.args[3], eps)
