"""First values of the weights: drawn to the size that keeps the gradient, at random, or orthogonal."""

from __future__ import annotations

import ast

from gradientflow.depth.replay.edits.activations import uses
from gradientflow.depth.replay.edits.job import INITIALISED, Job
from gradientflow.depth.replay.edits.patch import number
from gradientflow.depth.replay.edits.source import NoEditError
from gradientflow.depth.replay.edits.values import alter, keyword
from gradientflow.records import Param

_NONLINEARITIES = {"relu": 2**0.5, "linear": 1.0, "tanh": 5 / 3}
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
        lines = drawn_at(targets_of(job), job.file) or job.lines
        _multiply(job, lines, factor)
        if not job.patch:
            raise NoEditError("no size of an initialisation is written at the lines")
        return
    break_symmetry(job)


def break_symmetry(job: Job) -> None:
    """Draw the weights at random where they all begin alike; settings as for `rescale`."""
    targets = targets_of(job)
    weights = [p for p in targets if len(p.shape) > 1]
    lines = drawn_at(weights, job.file)
    if lines and all(_line(p, job.file) for p in weights):
        if "bias" in job.settings:
            lines += [n for n in drawn_at(_offsets(job, targets), job.file) if n not in lines]
        if _at_lines(job, lines):
            return
    if (not weights or lines) and _at_lines(job, job.lines):
        return
    _after_model(job)


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


def targets_of(job: Job) -> list[Param]:
    """The parameters that the change is for: those used or initialised at its lines, else all weights."""
    lines = set(job.lines)
    used = {
        operand.param
        for op in job.ops()
        if op.line in lines or op.made_line in lines
        for operand in op.operands
        if operand.param is not None
    }
    params = job.meta.params
    found = [p for p in params if p.index in used or (p.init_file == job.file and p.init_line in lines)]
    if any(len(p.shape) > 1 for p in found):
        return found
    return [p for p in params if len(p.shape) > 1 and p.module_class in (None, *INITIALISED)]


def _line(param: Param, file: str) -> int | None:
    """The line of a file where a parameter gets its first values; None for the default initialisation of a layer."""
    if param.init_file == file:
        return param.init_line
    return param.line if param.init is None and param.module_class is None and param.file == file else None


def drawn_at(params: list[Param], file: str) -> list[int]:
    return sorted({line for p in params if (line := _line(p, file)) is not None})


def _offsets(job: Job, weights: list[Param]) -> list[Param]:
    """The biases beside some weights that do not start from 0, and what a normalisation starts from."""
    modules = {p.name.rpartition(".")[0] for p in weights}
    return [
        p
        for p in job.meta.params
        if len(p.shape) == 1
        and p.name.rpartition(".")[0] in modules
        and p.init not in (None, "zeros_", "ones_", "zero_")
    ]


def _scheme(job: Job) -> tuple[str, float]:
    """The scheme, and the gain squared that belongs to it."""
    word = (job.word("scheme") or "").lower()
    kinds = [u.kind for u in uses(job.source, list(job.source.nodes(ast.expr)))]
    rectified = [k for k in kinds if k in ("relu", "leaky_relu", "gelu", "silu", "elu")]
    if "xavier" in word or "glorot" in word or "lecun" in word:
        return "xavier", 1.0
    if "kaiming" in word or "he" in word.split("_") or rectified or not kinds:
        return "kaiming", 2.0
    return "xavier", 1.0


def _call(job: Job, weight: str, raw: bool) -> str:
    """The call that initialises a weight; `raw` for a plain matrix that is multiplied from the right (`x @ w`)."""
    scheme, _ = _scheme(job)
    gain = job.number("gain")
    kind = next((name for name, g in _NONLINEARITIES.items() if gain is not None and abs(gain - g) < 0.01 * g), None)
    if scheme == "kaiming" and gain is None:
        kind = "relu"
    if kind is not None:
        way = ', mode="fan_out"' if raw else ""  # fan_out is the size of the input for a matrix of shape (in, out)
        return f'{job.patch.name("torch.nn.init.kaiming_normal_")}({weight}{way}, nonlinearity="{kind}")'
    more = f", gain={number(gain)}" if gain is not None else ""
    return f"{job.patch.name('torch.nn.init.xavier_normal_')}({weight}{more})"


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
    return _call(job, weight, raw)


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
    _, gain = _scheme(job)
    fan = patch.operand(sizes[0] if right else sizes[1])
    wanted = job.number("gain")
    power = number(round(wanted**2, 2) if wanted is not None else gain)
    scale = f"({power} / {fan}) ** 0.5"
    drawn = _drawn(job, call, name)
    leaf = keyword(call, "requires_grad")
    product = source.parents.get(call)
    whole: ast.expr = call
    if isinstance(product, ast.BinOp) and isinstance(product.op, (ast.Mult, ast.Div)):
        if product.left is not call and isinstance(product.op, ast.Div):
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
                "eye_",
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


def _after_model(job: Job) -> None:
    """Initialise after the model is made, where the layers have their default initialisation."""
    seen = {p.module_class for p in job.meta.params if p.module_class in INITIALISED and len(p.shape) > 1}
    if not seen:
        raise NoEditError("no layer with a default initialisation was seen")
    if job.optimizer is not None and job.optimizer.made_file and job.optimizer.made_file != job.file:
        job.enter(job.optimizer.made_file)
    made, model = job.model()
    classes = [job.patch.name(f"torch.nn.{c}") for c in INITIALISED if c in seen]
    listed = classes[0] if len(classes) == 1 else f"({', '.join(classes)})"
    module = job.source.fresh("module", "m", "part")
    lines = (
        f"for {module} in {model}.modules():",
        f"\tif isinstance({module}, {listed}):",
        f"\t\t{_call(job, f'{module}.weight', raw=False)}",
        f"\t\tif {module}.bias is not None:",
        f"\t\t\t{job.patch.name('torch.nn.init.zeros_')}({module}.bias)",
    )
    later = _initialised_later(job, made)
    if later is None:
        job.patch.after(made, *lines)
    else:
        job.patch.before(later, *lines)


def _initialised_later(job: Job, made: ast.stmt) -> ast.stmt | None:
    """The statement to stay before, where the script initialises the model after it is made: that of the optimizer.

    None where it does not. An initialisation in a class of the model runs when the model is made.

    Raises:
        NoEditError: the model is initialised later, and it cannot be told where.
    """
    source = job.source
    modules = job.modules()
    lines = set(drawn_at([p for p in job.meta.params if p.init is not None], job.file))
    inside = {
        line
        for c in source.nodes(ast.ClassDef)
        if c.name in modules
        for line in lines
        if c.lineno <= line <= (c.end_lineno or c.lineno)
    }
    if lines <= inside and not any(p.init_file not in (None, job.file) for p in job.meta.params):
        return None
    block = source.block(made)
    holder = source.statement(job.constructor())
    if holder not in block or block.index(holder) < block.index(made):
        raise NoEditError("the model is initialised after it is made, and it cannot be told where")
    return holder
