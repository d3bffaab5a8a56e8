"""What is asked of a model: its loss on one batch, in one of two forms, checked on entry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gradientflow.errors import UsageError

Loss = Callable[[Any, Any], Tensor]
_A_MODEL = frozenset({"model", "net", "network", "module"})
_TOLD = 4  # parts of a batch that an error names


class Question:
    """The loss of a model on one batch.

    Args:
        loss: (output, target) → scalar; or (model, batch) → scalar, told by the name of its first parameter, which is then
            `model`, `net`, `network` or `module`.
        batch: for the first form a pair (x, y), or a dict; for the second anything.

    Raises:
        UsageError: the loss cannot be called, or the batch does not fit its form.

    Example:
        >>> import torch
        >>> Question(torch.nn.functional.mse_loss, (torch.ones(2, 3), torch.zeros(2, 1))).of_model
        False
        >>> Question(lambda model, batch: model(batch).sum(), torch.ones(2, 3)).of_model
        True
    """

    def __init__(self, loss: Loss, batch: Any) -> None:
        if not callable(loss):
            raise UsageError(
                f"the loss is {type(loss).__name__}; expected a function (output, target) → scalar, as "
                f"torch.nn.functional.cross_entropy, or a function (model, batch) → scalar."
            )
        self.loss = loss
        self.batch = batch
        self.of_model = _first_parameter(loss) in _A_MODEL
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not self.of_model and not pair and not isinstance(batch, dict):
            got = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else told(batch)
            raise UsageError(
                f"the batch is {got}; expected a pair (x, y) for loss(model(x), y), or a dict for loss(model(**batch), "
                f"batch). For any other kind of batch let the loss call the model: def loss(model, batch): …"
            )

    def __call__(self, model: nn.Module) -> Tensor:
        """Return the loss of a model.

        Raises:
            UsageError: what the loss returned is not a scalar tensor.
        """
        if self.of_model:
            value = _called("loss(model, batch)", model, self.loss, model, self.batch)
        elif isinstance(self.batch, dict):
            output = _called("model(**batch)", model, model, **self.batch)
            value = _called("loss(output, batch)", model, self.loss, output, self.batch)
        else:
            x, y = self.batch
            spread = x if isinstance(x, tuple) else () if isinstance(x, dict) else (x,)
            named = x if isinstance(x, dict) else {}
            output = _called(
                "model(**x)" if named else "model(*x)" if x is spread else "model(x)", model, model, *spread, **named
            )
            value = _called("loss(output, target)", model, self.loss, output, y)
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            raise UsageError(f"the loss returned {told(value)}; expected one real number, as a tensor: {_mend(value)}.")
        return value


def told(value: Any) -> str:
    """Say what a value is: of a tensor its kind of number and its shape."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, (tuple, list, dict)):
        inside = value.values() if isinstance(value, dict) else value
        return f"{type(value).__name__} of {', '.join(told(v) for v in list(inside)[:_TOLD]) or 'nothing'}"
    return "None" if value is None else type(value).__name__


def _mend(value: Any) -> str:
    if value is None:
        return "the function has to end with `return loss`"
    if isinstance(value, (bool, int, float)):
        return "leave out .item(), float() and the like, which cut the way back"
    if isinstance(value, Tensor) and value.is_complex():
        return "its absolute value, as loss.abs() gives"
    if isinstance(value, Tensor):
        return "as loss(…).mean() gives"
    return "let it return the loss alone"


def _called(name: str, model: nn.Module, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call what is the user's; an error of it passes through, with a note that says where it was and what was given."""
    try:
        return function(*args, **named)
    except Exception as problem:
        given = [told(a) for a in (*args, *named.values()) if a is not model]
        problem.add_note(
            f"gradientflow: in {name}{_where(problem, model)}, which was given {', '.join(given)}. The error is that call's own; "
            f"make the call by hand to see it, and give the batch, or the loss, that fits."
        )
        raise


def _where(problem: Exception, model: nn.Module) -> str:
    """Name the innermost module of a model in which an error arose."""
    try:
        names = {
            id(m): f" at module {n or '(the model itself)'} ({type(m).__name__})" for n, m in model.named_modules()
        }
    except Exception:  # a model whose own `named_modules` fails: its error is not the one to tell
        return ""
    found, trace = "", problem.__traceback__
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found


def _first_parameter(loss: Loss) -> str | None:
    """Return the name of a function's first parameter; None where Python cannot tell."""
    try:
        return next(iter(inspect.signature(loss).parameters), None)
    except (TypeError, ValueError):
        return None
