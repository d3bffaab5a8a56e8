"""Finite or not: what came out of an optimizer's step that got finite numbers, and what no rule explains.

A run in which anything that is not finite stayed is never called healthy.
"""

from __future__ import annotations

import itertools
import math

from gradientflow.depth.causes import birth, losses, places
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.remedies import remedies
from gradientflow.limits import told
from gradientflow.ops import SMALLEST
from gradientflow.records import Finding, Optimizer


def born_in_a_step(case: Case) -> list[Finding]:
    """The first number that is not finite is in the weights, behind a step whose loss and gradient were finite."""
    step = next((s for s in case.run.steps if _bad(s.loss, s.grad, s.weight, s.update) or s.nonfinite), None)
    if step is None or _bad(step.loss, step.grad) or step.nonfinite or not _bad(step.weight, step.update):
        return []
    if birth.growth(case, step.step) >= birth.GROWN:  # a run that diverges ends in an overflow somewhere
        return []
    optimizer = next((o for o in case.meta.optimizers if o.index == step.optimizer), None)
    place = places.of_optimizer(optimizer, case.meta)
    name = optimizer.name if optimizer is not None else "the optimizer"
    lost = _eps_that_is_zero(case, optimizer)
    evidence = {"step": step.step, "optimizer": name, "learning_rate": step.lr} | told(
        gates=(birth.GROWN, birth.REPLACED)
    )
    head = (
        f"The weights stop being finite in step {step.step} of {name}, whose loss and gradient are finite: the number is "
        f"born in the update itself"
    )
    if lost is not None:
        eps, dtype = lost
        evidence |= {"eps": eps, "dtype": dtype, "threshold_eps": SMALLEST[dtype] / 2}
        text = (
            f"{head}. eps = {eps:g} is 0 in {dtype} (its smallest number is {SMALLEST[dtype]:.1e}), so that a second moment that "
            f"vanishes there is divided by: 0/0. Keep the weights in float32 (torch.autocast), or give {name} an eps that "
            f"{dtype} holds (1e-4 in float16)."
        )
        return [Finding("not-finite", "overflow", 0.95, place, text, evidence, remedies("larger-eps", at=place))]
    return [Finding("not-finite", "overflow", 0.7, place, f"{head}.", evidence, remedies("lower-step", at=place))]


def _eps_that_is_zero(case: Case, optimizer: Optimizer | None) -> tuple[float, str] | None:
    """Return an optimizer's eps and the format of weights in which it is 0; None where there is none."""
    eps = optimizer.options.get("eps") if optimizer is not None else None
    if optimizer is None or not isinstance(eps, float) or eps <= 0:
        return None
    formats = {case.meta.params[i].dtype for i in optimizer.params if i < len(case.meta.params)} & SMALLEST.keys()
    return next(((eps, dtype) for dtype in sorted(formats) if eps <= SMALLEST[dtype] / 2), None)


def unexplained(case: Case) -> Finding | None:
    """Return what is told of a run with numbers that are not finite, at its end or on the way, where no rule says why."""
    tail = list(itertools.takewhile(lambda s: _bad(s.loss, s.weight), reversed(case.run.steps)))
    if not tail:
        return _on_the_way(case)
    first = tail[-1]
    what = "the loss" if _bad(first.loss) else "the weights"
    verb = "are" if what == "the weights" else "is"
    return Finding(
        "not-finite", "unexplained", 0.5, losses.line(case.graphs[-1:]),
        f"From step {first.step} on {what} {verb} not finite, to the end of the run. No rule says where that was born. "
        f"`--probe-every 1` traces the step itself.",
        {"step": first.step}, [],
    )  # fmt: skip


def _on_the_way(case: Case) -> Finding | None:
    """What was not finite for some steps, and then was again."""
    steps = [s for s in case.run.steps if s.nonfinite or _bad(s.loss, s.grad, s.weight, s.update)]
    if not steps:
        return None
    return Finding(
        "not-finite", "unexplained", 0.5, losses.line(case.graphs[-1:]),
        f"In {len(steps)} of {len(case.run.steps)} steps, the first of them step {steps[0].step}, a loss, gradient, weight or update was "
        f"not finite; the run went on. No rule says where that was born. `--probe-every 1` traces the step itself.",
        {"step": steps[0].step, "steps": len(steps)}, [],
    )  # fmt: skip


def _bad(*values: float | None) -> bool:
    return any(v is not None and not math.isfinite(v) for v in values)
