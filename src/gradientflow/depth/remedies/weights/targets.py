"""Which parameters a change of first values is for, where they get them, and the call that draws them anew."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import INITIALISED, Job
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.uses import uses
from gradientflow.limits import Limit
from gradientflow.ops import HALVING, critical_gain
from gradientflow.records import Param

_NONLINEARITIES = {"linear": 1.0} | {name: critical_gain([name]) for name in ("relu", "tanh")}  # by PyTorch's words

SAME_GAIN = Limit("gain_apart", 0.01, "chosen: gains are told with three figures")


def targets_of(job: Job) -> list[Param]:
    """The parameters that the change is for: those used or initialised at its lines, else all weights."""
    lines = job.lines
    used = {
        operand.param
        for probe in job.run.probes
        for op in probe.ops
        if job.ran_at(op, lines)
        for operand in op.operands
        if operand.param is not None
    }
    params = job.meta.params
    found = [p for p in params if p.index in used or (p.init_file == job.file and p.init_line in lines)]
    if any(len(p.shape) > 1 for p in found):
        return found
    return [p for p in params if len(p.shape) > 1 and p.module_class in (None, *INITIALISED)]


def drawn_at(params: list[Param], file: str) -> list[int]:
    return sorted({line for p in params if (line := line_of(p, file)) is not None})


def line_of(param: Param, file: str) -> int | None:
    """The line of a file where a parameter gets its first values; None for the default initialisation of a layer."""
    if param.init_file == file:
        return param.init_line
    return param.line if param.init is None and param.module_class is None and param.file == file else None


def offsets_of(job: Job, weights: list[Param]) -> list[Param]:
    """The biases beside some weights that do not start from 0, and what a normalisation starts from."""
    modules = {p.name.rpartition(".")[0] for p in weights}
    return [
        p
        for p in job.meta.params
        if len(p.shape) == 1
        and p.name.rpartition(".")[0] in modules
        and p.init not in (None, "zeros_", "ones_", "zero_")
    ]


def scheme_of(job: Job) -> tuple[str, float]:
    """The scheme, and the gain squared that belongs to it."""
    word = (job.word("scheme") or "").lower()
    kinds = [u.kind for u in uses(job.source, list(job.source.nodes(ast.expr)))]
    rectified = [k for k in kinds if k in HALVING]
    if "xavier" in word or "glorot" in word or "lecun" in word:
        return "xavier", 1.0
    if "kaiming" in word or "he" in word.split("_") or rectified or not kinds:
        return "kaiming", 2.0
    return "xavier", 1.0


def drawing(job: Job, weight: str, raw: bool) -> str:
    """The call that initialises a weight; `raw` for a plain matrix that is multiplied from the right (`x @ w`)."""
    scheme, _ = scheme_of(job)
    gain = job.number("gain")
    kind = next(
        (name for name, g in _NONLINEARITIES.items() if gain is not None and abs(gain - g) < SAME_GAIN * g), None
    )
    if scheme == "kaiming" and gain is None:
        kind = "relu"
    if kind is not None:
        way = ', mode="fan_out"' if raw else ""  # fan_out is the size of the input for a matrix of shape (in, out)
        return f'{job.patch.name("torch.nn.init.kaiming_normal_")}({weight}{way}, nonlinearity="{kind}")'
    more = f", gain={number(gain)}" if gain is not None else ""
    return f"{job.patch.name('torch.nn.init.xavier_normal_')}({weight}{more})"
