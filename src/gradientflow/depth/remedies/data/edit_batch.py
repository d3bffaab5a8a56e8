"""A bad batch left out of the training loop."""

from __future__ import annotations

import ast
import math
from statistics import median

from gradientflow.depth.remedies.data.limits import NORMS, OUT_OF_LINE, STANDS_OUT
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.loop import COUNTING, FUNCTIONS, LOOPS, parameters_at
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError

_LEFT_OUT = "the batch is left out; the rows that make it bad are still in the data"


def drop_batch(job: Job) -> None:
    """Leave a step out when its loss is not finite; where every loss is, when its gradient is far larger than usual.

    Settings: `limit` (a loss above which the step is left out), or `times` (the usual norm of the gradient; `OUT_OF_LINE` if not given).
    """
    usual = _usual_norm(job)
    if job.number("limit") is None and usual is not None:
        _drop_steep(job, usual * (job.number("times") or OUT_OF_LINE))
        return
    backward = job.backward()
    root = job.loss(backward)
    if not isinstance(root, (ast.Name, ast.Attribute)):
        raise NoEditError("the loss has no name")
    loop = next((o for o in job.source.above(backward) if isinstance(o, (*LOOPS, *FUNCTIONS))), None)
    if not isinstance(loop, COUNTING):
        raise NoEditError("the step is not written in a loop that goes on by itself")
    loss = job.source.segment(root)
    limit = job.number("limit")
    test = f"not {loss} < {number(limit)}" if limit is not None else f"not {job.patch.name('torch.isfinite')}({loss})"
    lines = [f"if {test}:", "\tcontinue"]
    if job.optimizer is not None and job.optimizer.file is not None:
        statement, stepping = job.step_statement()
        if loop not in job.source.above(statement):
            raise NoEditError("the step is in another loop than backward")
        lines.insert(1, f"\t{job.stepper(stepping)}.zero_grad()")
    job.patch.before(backward, *lines)
    job.patch.notes.append(_LEFT_OUT)


def _usual_norm(job: Job) -> float | None:
    """The median norm of the gradient; None where some loss or gradient is not finite, or no step stands out."""
    steps = [s for s in job.run.steps if job.optimizer is None or s.optimizer == job.optimizer.index]
    norms = [s.grad for s in steps if s.grad is not None]
    losses = [s.loss for s in steps if s.loss is not None]
    if len(norms) < NORMS or not all(math.isfinite(v) for v in (*norms, *losses)):
        return None
    usual = median(norms)
    return usual if usual > 0 and max(norms) > STANDS_OUT * usual else None


def _drop_steep(job: Job, limit: float) -> None:
    """Before the step: measure the gradient's norm, and leave the step out where it is beyond a limit."""
    statement, call = job.step_statement()
    loop = next((o for o in job.source.above(statement) if isinstance(o, (*LOOPS, *FUNCTIONS))), None)
    stepper = job.stepper(call)
    assert isinstance(call.func, ast.Attribute)
    if (
        not isinstance(loop, COUNTING)
        or job.closure(call) is not None
        or job.source.segment(call.func.value) != stepper
    ):
        raise NoEditError("the step is not written plainly in a loop")
    norm = job.source.fresh("norm", "grad_norm", "gradient_norm")
    measure = (
        f'{job.patch.name("torch.nn.utils.clip_grad_norm_")}({parameters_at(job, statement, stepper)}, float("inf"))'
    )
    job.patch.before(
        statement,
        f"{norm} = {measure}  # only measured",
        f"if not {norm} < {number(limit)}:",
        f"\t{stepper}.zero_grad()",
        "\tcontinue",
    )
    job.patch.notes.append(_LEFT_OUT)
