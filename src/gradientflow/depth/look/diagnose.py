"""`diagnose`: one look at a model on one batch, through the probe, the rules and the budget of `gradientflow run`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gradientflow.depth.causes import judge, settle
from gradientflow.depth.look.arguments import check_builder, check_model, whole
from gradientflow.depth.look.cells import name_sources
from gradientflow.depth.look.diagnosis import Diagnosis
from gradientflow.depth.look.observe import Look, Optimizer
from gradientflow.depth.look.patient import untouched
from gradientflow.depth.look.question import Loss, Question
from gradientflow.depth.look.sources import user_frame
from gradientflow.errors import UsageError
from gradientflow.torch_internals import compiler_is_loaded

_STEPS = 50


def diagnose(
    model: nn.Module | Callable[[], nn.Module],
    loss: Loss,
    batch: Any,
    *,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
) -> Diagnosis:
    """Say whether the gradient flows through a model, where it does not, why, and what helps.

    One forward and one backward pass on one batch are traced operation by operation; the rules are those of `gradientflow
    run`, as far as one look can decide them. With an optimizer, a copy of the model is trained for some steps on the
    batch and watched, so that the step size and units that die in training are judged too. The model is left as it was:
    parameters, `.grad`, buffers, modes, hooks, and the random state.

    Args:
        model: an nn.Module in the mode (train or eval) it is to be looked at in; or a function without arguments that
            builds one, whose lines are then known exactly.
        loss: ``loss(output, target)`` → scalar; or ``loss(model, batch)`` → scalar, told by the name of the first parameter
            (`model`, `net`, `network` or `module`).
        batch: (x, y) for the first form, where a tuple x is spread as ``model(*x)`` and a dict x as ``model(**x)``; or a
            dict, for ``loss(model(**batch), batch)``. For the second form whatever the loss takes.
        optimizer: trains the copy: a function ``params → optimizer`` (as ``functools.partial(torch.optim.SGD, lr=0.1)``,
            or a class), or an optimizer of the model, which is copied with its state.
        steps: of the copy; None for 50 with an optimizer and none without.

    Returns:
        The diagnosis: verdict, evidence, budget; shows itself in a notebook and on a terminal.

    Raises:
        UsageError: model, loss, batch or optimizer are not what they must be. Errors of the model's own pass through.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> layers = [m for _ in range(12) for m in (nn.Linear(16, 16), nn.Sigmoid())]
        >>> x, y = torch.randn(32, 16), torch.randint(16, (32,))
        >>> found = diagnose(nn.Sequential(*layers), nn.functional.cross_entropy, (x, y))
        >>> found.symptom, found.cause
        ('vanishing', 'saturating-activation')
    """
    count = _steps(optimizer, steps)
    question = Question(loss, batch)
    caller = user_frame(sys._getframe(1))
    given = model if isinstance(model, nn.Module) else None
    if given is not None:
        given = getattr(given, "_orig_mod", given)  # what torch.compile was given
        check_model(given)
    elif callable(model):
        check_builder(model)
    else:
        check_model(model)
    with untouched(given, batch), _uncompiled():
        look = Look(question, caller)
        if given is None:
            run = look.over(model, optimizer, count)
        elif not count:
            run = look.over(lambda: given, None, 0)
        else:
            run = look.over_copy(given, optimizer, count)
        name_sources(run)
        verdict = judge(run)
        if not count:
            settle(verdict, run, look.again)
    return Diagnosis(verdict, run)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Compiled parts run as they were written, for the time being: compiled code cannot be traced."""
    if not compiler_is_loaded():  # nothing was compiled
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks", UserWarning)
        yield


def _steps(optimizer: Optimizer | None, steps: int | None) -> int:
    if optimizer is None:
        if steps:
            raise UsageError(
                f"steps={steps!r} without an optimizer; expected one, as optimizer=functools.partial(torch.optim.SGD, lr=0.1)."
            )
        return 0
    if not callable(optimizer) and not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"optimizer is {type(optimizer).__name__}; expected a function params → optimizer, as functools.partial("
            f"torch.optim.SGD, lr=0.1), or an optimizer of the model."
        )
    return _STEPS if steps is None else whole("steps", steps, f"Leave it out for {_STEPS} steps.")
