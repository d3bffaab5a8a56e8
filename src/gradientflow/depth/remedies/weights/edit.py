"""First values of the weights: drawn to the size that keeps the gradient, at random, or orthogonal."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.weights.defaults import after_model, by_name, times
from gradientflow.depth.remedies.weights.targets import drawing, drawn_at, line_of, offsets_of, scheme_of, targets_of
from gradientflow.depth.remedies.writing.job import INITIALISED, Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.remedies.writing.values import alter, keyword, written

_DRAWS = ("normal_", "uniform_", "fill_", "zero_", "trunc_normal_", "constant_", "zeros_", "ones_", "eye_")
_FRESH = (
    "torch.randn",
    "torch.rand",
    "torch.zeros",
    "torch.ones",
    "torch.empty",
    "numpy.random.randn",
    "numpy.random.rand",
)


def rescale(job: Job) -> None:
    """Draw the weights so that each layer keeps the gradient's size.

    Settings: `gain` (√2 for ReLU, 1 for no activation, 5/3 for tanh) or `scheme` ("kaiming", "xavier"), else by the
    activations in use; `bias`: start the biases from 0 too; or only `factor`, which multiplies what is there.
    """
    factor = job.number("factor")
    if factor is not None and not job.word("scheme") and job.number("gain") is None:
        targets = targets_of(job)
        _multiply(job, drawn_at(targets, job.file) or job.lines, factor)
        if not job.patch and not times(job, [p for p in targets if len(p.shape) > 1], factor):
            raise NoEditError("no size of an initialisation is written at the lines")
        return
    break_symmetry(job)


def break_symmetry(job: Job) -> None:
    """Draw the weights at random where they all begin alike; settings as for `rescale`."""
    targets = targets_of(job)
    weights = [p for p in targets if len(p.shape) > 1]
    lines = drawn_at(weights, job.file)
    if lines and all(line_of(p, job.file) for p in weights):
        if "bias" in job.settings:
            lines += [n for n in drawn_at(offsets_of(job, targets), job.file) if n not in lines]
        if _at_lines(job, lines):
            return
    if not lines or all(p.module_class is None and p.init is None for p in weights):
        followed = [n for line in lines for n in _followed(job, line)]
        if followed and _at_lines(job, list(dict.fromkeys(followed))):
            return
    own = [line for line in job.lines if not any(True for _ in job.ops([line]))]  # (a line that runs makes no weights)
    if (not weights or lines) and _at_lines(job, own):
        return
    if not by_name(job, weights):
        after_model(job)
    if "bias" in job.settings:
        for line in drawn_at([p for p in offsets_of(job, targets) if p.module_class not in INITIALISED], job.file):
            if not _at_line(job, line):
                raise NoEditError("what a normalisation begins from is not written where it is set")


def _followed(job: Job, line: int) -> list[int]:
    """The lines that drew what a line only marks as leaves: `w.requires_grad_()`, also in a loop `for w in weights:`."""
    source = job.source
    names: set[str] = set()
    for stmt in source.on_line(line, ast.stmt):
        here = {n.id for n in source.nodes(ast.Name, stmt)}
        for loop in source.above(stmt):
            if isinstance(loop, ast.For) and {n.id for n in source.nodes(ast.Name, loop.target)} & here:
                here = {n.id for n in source.nodes(ast.Name, loop.iter)}
        names |= here
    found = []
    for s in source.nodes(ast.Assign):
        if len(s.targets) == 1 and isinstance(s.targets[0], ast.Name) and s.targets[0].id in names and s.lineno != line:
            if any(source.dotted(c.func) in _FRESH and sizes_of(c) for c in source.nodes(ast.Call, s)):
                found.append(s.lineno)
    return sorted(found)


def _at_lines(job: Job, lines: list[int]) -> bool:
    """Rewrite the initialisations on some lines; whether each line had one. If not, nothing is changed."""
    try:
        done = [_at_line(job, line) for line in lines]
    except NoEditError:
        done = []
    if done and all(done):
        return True
    job.enter(job.file)
    return False


def _at_line(job: Job, line: int) -> bool:
    """Rewrite the initialisations that are written on a line; whether there was one."""
    source, patch = job.source, job.patch
    calls = source.on_line(line, ast.Call)
    done = False
    for call in calls:
        if any(c in source.above(call) for c in calls if c is not call and _initialises(job, c)):
            continue
        name = source.dotted(call.func)
        if name.startswith("torch.nn.init.") and (call.args or call.keywords):
            weight = source.segment(call.args[0] if call.args else call.keywords[0].value)
            patch.replace(call, _named(job, weight, line))
            done = True
        elif isinstance(call.func, ast.Attribute) and call.func.attr in _DRAWS and not name.startswith("torch.nn"):
            base = call.func.value
            if isinstance(base, ast.Call) and source.dotted(base.func) not in (
                "torch.empty",
                "torch.zeros",
                "torch.Tensor",
            ):
                continue
            patch.replace(call, _named(job, source.segment(base), line))
            done = True
        elif name in _FRESH and sizes_of(call) is not None:
            done = _scaled(job, call) or done
    return done


def _initialises(job: Job, call: ast.Call) -> bool:
    name = job.source.dotted(call.func)
    draws = isinstance(call.func, ast.Attribute) and call.func.attr in _DRAWS
    return name.startswith("torch.nn.init.") or (draws and not name.startswith("torch.nn"))


def _named(job: Job, weight: str, line: int) -> str:
    """The new initialisation of what a line initialises: biases become zero, weights are drawn."""
    params = [p for p in job.meta.params if p.init_file == job.file and p.init_line == line]
    flat = bool(params) and all(len(p.shape) < 2 for p in params)
    if flat and ".weight" in weight:
        return f"{job.patch.name('torch.nn.init.ones_')}({weight})"  # the scale of a normalisation
    if flat or weight.split(".")[-1].removesuffix(".data").startswith("bias") or ".bias" in weight:
        return f"{job.patch.name('torch.nn.init.zeros_')}({weight})"
    if params and any(len(p.shape) < 2 for p in params):
        raise NoEditError("the line initialises weights and biases alike")
    raw = bool(params) and all(p.module_class not in INITIALISED for p in params) and _multiplied_right(job)
    return drawing(job, weight, raw)


def _multiplied_right(job: Job) -> bool:
    """Whether weights are multiplied as `x @ w`, so that the first dimension is the input."""
    products = [n for n in job.source.nodes(ast.BinOp) if isinstance(n.op, ast.MatMult)]
    turned = [
        n
        for n in products
        if "T" in job.source.segment(n.right).split(".") or "transpose(" in job.source.segment(n.right)
    ]
    named = [c for c in job.source.nodes(ast.Call) if job.source.dotted(c.func) in ("torch.matmul", "torch.mm")]
    return bool(products or named) and not turned


def sizes_of(call: ast.Call) -> list[ast.expr] | None:
    """The two sizes that a fresh matrix is made with."""
    given = call.args
    if len(given) == 1 and isinstance(given[0], (ast.Tuple, ast.List)):
        given = given[0].elts
    return list(given) if len(given) == 2 and not any(isinstance(a, ast.Starred) for a in given) else None


def _scaled(job: Job, call: ast.Call) -> bool:
    """Give `torch.randn(a, b)` the factor that belongs to it, in place of the factor it has."""
    source, patch = job.source, job.patch
    sizes = sizes_of(call)
    name = source.dotted(call.func)
    if sizes is None:
        return False
    right = _multiplied_right(job)
    _, gain = scheme_of(job)
    fan = patch.operand(sizes[0] if right else sizes[1])
    wanted = job.number("gain")
    power = number(round(wanted**2, 2) if wanted is not None else gain)
    scale = f"({power} / {fan}) ** 0.5"
    drawn = _drawn(job, call, name)
    leaf = keyword(call, "requires_grad")
    product = source.parents.get(call)
    whole: ast.expr = call
    if isinstance(product, ast.BinOp) and isinstance(product.op, (ast.Mult, ast.Div)):
        other = product.right if product.left is call else product.left
        if not _number_like(job, other) or (product.left is not call and isinstance(product.op, ast.Div)):
            return False
        whole = product
    text = f"{drawn} * {scale}"
    if leaf is not None:
        text = f"({text}).requires_grad_()"
    elif not isinstance(
        source.parents.get(whole), (ast.Assign, ast.Call, ast.ListComp, ast.List, ast.Return, ast.Tuple, ast.keyword)
    ):
        text = f"({text})"
    if isinstance(source.parents.get(whole), ast.Call) and _is_empty_filled(job, whole):
        return False
    patch.replace(whole, text)
    return True


def _number_like(job: Job, node: ast.expr) -> bool:
    """Whether an expression is a number by how it is written, so that it can be a scale, and is no mask."""
    if written(job, node) is not None:
        return True
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, (ast.Pow, ast.Div)) or (
            _number_like(job, node.left) and _number_like(job, node.right)
        )
    return isinstance(node, ast.Call) and job.source.dotted(node.func) in ("math.sqrt", "numpy.sqrt", "float")


def _is_empty_filled(job: Job, node: ast.expr) -> bool:
    """Whether a fresh tensor is only made here and filled elsewhere."""
    return isinstance(node, ast.Call) and job.source.dotted(node.func) == "torch.empty"


def _drawn(job: Job, call: ast.Call, name: str) -> str:
    """The call that draws from a normal distribution of size 1, with the arguments of the one that is there."""
    source = job.source
    numpy = name.startswith("numpy")
    full = "numpy.random.randn" if numpy else "torch.randn"
    base = source.segment(call.func).rpartition(".")[0]
    written = f"{base}.randn" if base else job.patch.name(full)
    kept = [source.segment(a) for a in call.args]
    kept += [source.segment(k) for k in call.keywords if k.arg != "requires_grad"]
    return f"{written}({', '.join(kept)})"


def _multiply(job: Job, lines: list[int], factor: float) -> None:
    """Multiply the size that the initialisations on some lines draw with."""
    source = job.source
    for line in lines:
        for call in source.on_line(line, ast.Call):
            name = source.dotted(call.func).rpartition(".")[2] or (
                call.func.attr if isinstance(call.func, ast.Attribute) else ""
            )
            free = source.dotted(call.func).startswith("torch.nn.init.")
            std = keyword(call, "std", "gain", "val")
            if name in (
                "normal_",
                "trunc_normal_",
                "xavier_normal_",
                "xavier_uniform_",
                "orthogonal_",
                "constant_",
            ):
                position = {"xavier_normal_": 1, "xavier_uniform_": 1, "orthogonal_": 1, "constant_": 1}.get(name, 2)
                position -= 0 if free else 1
                if std is not None:
                    alter(job, std.value, factor)
                elif 0 <= position < len(call.args):
                    alter(job, call.args[position], factor)
                elif name in ("xavier_normal_", "xavier_uniform_", "orthogonal_"):
                    job.patch.argument(call, f"gain={number(factor)}")
            elif name == "uniform_":
                for bound in call.args[1 if free else 0 :]:
                    alter(job, bound, factor)
            elif source.dotted(call.func) in ("torch.randn", "torch.rand"):
                product = source.parents.get(call)
                if isinstance(product, ast.BinOp) and isinstance(product.op, ast.Mult):
                    alter(job, product.right if product.left is call else product.left, factor)
