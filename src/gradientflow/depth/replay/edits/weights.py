"""First values of the weights: drawn to the size that keeps the gradient, at random, or orthogonal."""

from __future__ import annotations

import ast

from gradientflow.depth.replay.edits.activations import uses
from gradientflow.depth.replay.edits.job import INITIALISED, Job
from gradientflow.depth.replay.edits.patch import number
from gradientflow.depth.replay.edits.source import NoEditError
from gradientflow.depth.replay.edits.values import alter, keyword, literal

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

    Settings: `scheme` ("kaiming", "xavier"), else by the activation in use; or only `factor`, which multiplies what is there.
    """
    factor = job.number("factor", "scale")
    if (
        factor is not None
        and not job.word("scheme", "to")
        and job.number("gain", "std") is None
        and _multiply(job, factor)
    ):
        return
    _draw_anew(job)


def break_symmetry(job: Job) -> None:
    """Draw the weights at random where they all begin alike; setting: `scheme`."""
    _draw_anew(job)


def _draw_anew(job: Job) -> None:
    done = False
    for line in job.lines:
        done = _at_line(job, line) or done
    if not done:
        _after_model(job)


def _scheme(job: Job) -> tuple[str, float]:
    """The scheme, and the gain squared that belongs to it."""
    word = (job.word("scheme", "to") or "").lower()
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
    std = job.number("std")
    if std is not None:
        return f"{job.patch.name('torch.nn.init.normal_')}({weight}, std={number(std)})"
    if scheme == "kaiming":
        way = ', mode="fan_out"' if raw else ""  # fan_out is the size of the input for a matrix of shape (in, out)
        return f'{job.patch.name("torch.nn.init.kaiming_normal_")}({weight}{way}, nonlinearity="relu")'
    more = f", gain={number(gain)}" if gain is not None and gain != 1 else ""
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
        elif name in _FRESH and _sizes(call) is not None:
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


def _sizes(call: ast.Call) -> list[ast.expr] | None:
    """The two sizes that a fresh matrix is made with."""
    given = call.args
    if len(given) == 1 and isinstance(given[0], (ast.Tuple, ast.List)):
        given = given[0].elts
    return list(given) if len(given) == 2 and not any(isinstance(a, ast.Starred) for a in given) else None


def _scaled(job: Job, call: ast.Call) -> bool:
    """Give `torch.randn(a, b)` the factor that belongs to it, in place of the factor it has."""
    source, patch = job.source, job.patch
    sizes = _sizes(call)
    name = source.dotted(call.func)
    if sizes is None:
        return False
    right = _multiplied_right(job)
    _, gain = _scheme(job)
    fan = patch.operand(sizes[0] if right else sizes[1])
    wanted = job.number("gain")
    power = number(wanted**2 if wanted is not None else gain)
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


def _multiply(job: Job, factor: float) -> bool:
    """Multiply the size that an initialisation on the change's lines draws with; whether there was one."""
    source = job.source
    for line in job.lines:
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
    return bool(job.patch)


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
    job.patch.after(
        made,
        f"for {module} in {model}.modules():",
        f"\tif isinstance({module}, {listed}):",
        f"\t\t{_call(job, f'{module}.weight', raw=False)}",
        f"\t\tif {module}.bias is not None:",
        f"\t\t\t{job.patch.name('torch.nn.init.zeros_')}({module}.bias)",
    )


def orthogonal(job: Job) -> None:
    """Make the recurrent weights orthogonal: at the line that draws them, else after the recurrent layer is made."""
    gain = job.number("gain")
    more = f", gain={number(gain)}" if gain is not None and gain != 1 else ""
    name = job.patch.name("torch.nn.init.orthogonal_")
    source = job.source
    for line in job.lines:
        for call in source.on_line(line, ast.Call):
            if source.dotted(call.func).startswith("torch.nn.init.") and call.args and not _mixed(job, line):
                job.patch.replace(call, f"{name}({source.segment(call.args[0])}{more})")
                _drop_factor(job, line)
                return
            if source.dotted(call.func) == "torch.randn" and (sizes := _sizes(call)) is not None:
                product = source.parents.get(call)
                whole = (
                    product if isinstance(product, ast.BinOp) and isinstance(product.op, (ast.Mult, ast.Div)) else call
                )
                given = ", ".join(source.segment(s) for s in sizes)
                text = f"{name}({job.patch.name('torch.empty')}({given}){more})"
                job.patch.replace(whole, text + ".requires_grad_()" * (keyword(call, "requires_grad") is not None))
                return
    _after_layer(job, name, more)


def _mixed(job: Job, line: int) -> bool:
    params = [p for p in job.meta.params if p.init_file == job.file and p.init_line == line]
    return any(len(p.shape) < 2 for p in params)


def _drop_factor(job: Job, line: int) -> None:
    """Take out a factor that a following line multiplies the same weight with: `w.mul_(1.3)`, `w *= 1.3`."""
    source = job.source
    for call in source.on_line(line, ast.Call):
        if not source.dotted(call.func).startswith("torch.nn.init.") or not call.args:
            continue
        weight = source.segment(call.args[0]).removesuffix(".data")
        for s in source.block(source.statement(call)):
            if s.lineno <= line:
                continue
            node = s.value if isinstance(s, ast.Expr) else None
            scaled = isinstance(s, ast.AugAssign) and source.segment(s.target).removesuffix(".data") == weight
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("mul_", "div_")
            ):
                scaled = source.segment(node.func.value).removesuffix(".data") == weight
            if scaled:
                job.patch.delete(s)


def _after_layer(job: Job, name: str, more: str) -> None:
    source = job.source
    layer, kind = _recurrent_layer(job)
    made = source.statement(layer)
    target = source.segment(made.targets[0]) if isinstance(made, ast.Assign) and made.value is layer else ""
    if not target or not isinstance(made, ast.Assign) or len(made.targets) != 1:
        raise NoEditError("the recurrent layer has no name of its own")
    if kind == "Linear":
        job.patch.after(made, f"{name}({target}.weight{more})")
        return
    many = literal(k.value) != 1 if (k := keyword(layer, "num_layers")) is not None else len(layer.args) > 2
    both = keyword(layer, "bidirectional") is not None
    chunks = {"LSTM": 4, "GRU": 3}.get(kind.removesuffix("Cell"), 1)
    weight = f"{target}.weight_hh" if kind.endswith("Cell") else f"{target}.weight_hh_l0"
    if many or both:
        label, value = source.fresh("name", "label"), source.fresh("weight", "value")
        lines = [f"for {label}, {value} in {target}.named_parameters():", f'\tif "weight_hh" in {label}:']
        deep, weight = "\t\t", value
    else:
        lines, deep = [], ""
    if chunks == 1:
        lines.append(f"{deep}{name}({weight}{more})")
    else:
        part = source.fresh("gate", "part")
        lines += [f"{deep}for {part} in {weight}.data.chunk({chunks}):", f"{deep}\t{name}({part}{more})"]
    job.patch.after(made, *lines)


def _recurrent_layer(job: Job) -> tuple[ast.Call, str]:
    source = job.source
    found = []
    for call in source.nodes(ast.Call):
        name = source.torch_name(call.func).removeprefix("nn.")
        if name in ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"):
            found.append((call, name))
    if len(found) == 1:
        return found[0]
    if found:
        here = [f for f in found if f[0].lineno in job.lines]
        if len(here) == 1:
            return here[0]
        raise NoEditError("several recurrent layers could be meant")
    module = next((p.module for p in job.places if p.module), None)
    attribute = f"self.{module.rpartition('.')[2]}" if module else None
    linear = [
        s.value
        for s in source.nodes(ast.Assign)
        if attribute is not None
        and source.segment(s.targets[0]) == attribute
        and isinstance(s.value, ast.Call)
        and source.torch_name(s.value.func) == "nn.Linear"
    ]
    if len(linear) == 1 and isinstance(linear[0], ast.Call):
        return linear[0], "Linear"
    raise NoEditError("the recurrent layer cannot be told")


def gated(job: Job) -> None:
    """Write a gated cell in place of a plain one: `nn.GRU` for `nn.RNN`, `nn.GRUCell` for `nn.RNNCell`."""
    source = job.source
    plain = [
        (c, source.torch_name(c.func))
        for c in source.nodes(ast.Call)
        if source.torch_name(c.func) in ("nn.RNN", "nn.RNNCell")
    ]
    if len(plain) != 1:
        raise NoEditError(f"{len(plain)} plain recurrent layers")
    call, name = plain[0]
    full = f"torch.{name}".replace("RNN", "GRU")
    job.patch.replace(
        call.func,
        source.segment(call.func).replace("RNN", "GRU")
        if isinstance(call.func, ast.Attribute)
        else job.patch.name(full),
    )
    if (k := keyword(call, "nonlinearity")) is not None:
        job.patch.drop_keyword(call, k)
