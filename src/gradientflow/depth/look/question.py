"""What is asked of a model: its loss on one batch, in one of two forms, checked on entry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradientflow.errors import UsageError

Loss = Callable[[Any, Any], Tensor]
_A_MODEL = frozenset({"model", "net", "network", "module"})


class Question:
    """The loss of a model on one batch.

    Args:
        loss: (output, target) → scalar; or (model, batch) → scalar, told by the name of its first parameter, which is then
            `model`, `net`, `network` or `module`.
        batch: for the first form a pair (x, y), or a dict; for the second anything.

    Raises:
        UsageError: the loss cannot be called, or the batch does not fit its form.

    Example:
        >>> Question(nn.functional.mse_loss, (torch.ones(2, 3), torch.zeros(2, 1))).of_model
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
            got = (
                f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
            )
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
            value = self.loss(model, self.batch)
        elif isinstance(self.batch, dict):
            value = self.loss(model(**self.batch), self.batch)
        else:
            x, y = self.batch
            value = self.loss(model(*x) if isinstance(x, tuple) else model(**x) if isinstance(x, dict) else model(x), y)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"the loss returned {got}; expected one number, as loss(…).mean() gives.")
        return value


def _first_parameter(loss: Loss) -> str | None:
    """Return the name of a function's first parameter; None where Python cannot tell."""
    try:
        return next(iter(inspect.signature(loss).parameters), None)
    except (TypeError, ValueError):
        return None


def check_model(model: Any) -> None:
    """Refuse what is no model, has no weights yet, or weights that are broken already.

    Raises:
        UsageError: with the mend.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"the model is {type(model).__name__}; expected a torch.nn.Module, or a function without arguments that builds one."
        )
    if any(torch.nn.parameter.is_lazy(t) for t in [*model.parameters(), *model.buffers()]):
        raise UsageError(
            "the model has lazy layers that have no weights yet. Call it once on a batch before: model(x)."
        )
    broken = [n for n, p in model.named_parameters() if p.is_floating_point() and not bool(torch.isfinite(p).all())]
    if broken:
        raise UsageError(
            f"the weights {', '.join(broken[:3])} hold values that are not finite, before anything is computed. Look at the model "
            f"as it was before that training, or watch the training itself: with gf.watch() as watch: …"
        )
    if not any(True for _ in model.parameters()):
        raise UsageError(f"{type(model).__name__} has no parameters, so no gradient can flow to any.")
