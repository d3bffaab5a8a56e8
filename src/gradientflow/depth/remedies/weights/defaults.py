"""Layers that begin with PyTorch's default initialisation: other first values, put after the line that makes them."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.weights.targets import drawing, drawn_at
from gradientflow.depth.remedies.writing.job import INITIALISED, Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Param

_ONE_BY_ONE = 4  # layers that are initialised one by one; more are initialised in a loop over the model's modules


def by_name(job: Job, weights: list[Param]) -> bool:
    """Initialise a few layers that have names of their own (`self.fc1 = nn.Linear(…)`), after the last one; whether it could."""
    found = _named_layers(job, weights)
    if found is None:
        return False
    lines: list[str] = []
    for _, layer, weight in found:
        lines.append(drawing(job, f"{layer}.weight", raw=False))
        bias = weight.name.rpartition(".")[0] + ".bias"
        if "bias" in job.settings and any(p.name in (bias, bias.lstrip(".")) for p in job.meta.params):
            lines.append(f"{job.patch.name('torch.nn.init.zeros_')}({layer}.bias)")
    job.patch.after(found[-1][0], *lines)
    return True


def times(job: Job, weights: list[Param], factor: float) -> bool:
    """Multiply the weights of a few layers that have names of their own, after the last one; whether it could."""
    found = _named_layers(job, weights)
    if found is None:
        return False
    lines = [f"\t{layer}.weight.mul_({number(factor)})" for _, layer, _ in found]
    job.patch.after(found[-1][0], f"with {job.patch.name('torch.no_grad')}():", *lines)
    return True


def _named_layers(job: Job, weights: list[Param]) -> list[tuple[ast.stmt, str, Param]] | None:
    """The statements that made some layers, each `name = nn.Layer(…)`, with the names; None if one is made otherwise."""
    source = job.source
    found: dict[ast.stmt, tuple[ast.stmt, str, Param]] = {}
    for weight in weights:
        if weight.init is not None or weight.file != job.file or weight.module_class not in INITIALISED:
            return None
        made = [s for s in source.on_line(weight.line, ast.Assign) if isinstance(s.value, ast.Call)]
        if len(made) != 1 or len(made[0].targets) != 1 or not source.dotted(made[0].targets[0]):
            return None
        call = made[0].value
        if not isinstance(call, ast.Call) or source.torch_name(call.func) != f"nn.{weight.module_class}":
            return None
        found[made[0]] = (made[0], source.segment(made[0].targets[0]), weight)
    layers = sorted(found.values(), key=lambda f: f[0].lineno)
    if not 0 < len(layers) <= _ONE_BY_ONE or any(f[0] not in source.block(layers[0][0]) for f in layers):
        return None
    return layers


def after_model(job: Job) -> None:
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
        f"\t\t{drawing(job, f'{module}.weight', raw=False)}",
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
