"""The loss function of a loss field: how the losses of several batches add up to that of all data.

With a mean the batches are weighted by what their means were taken over: the examples, or for cross-entropy the targets
that count, each with the weight of its class. With a sum they are added.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradientflow.errors import FieldError
from gradientflow.river.fields.batches import changed, tensors

F = nn.functional
REDUCTIONS = ("mean", "sum")


class Objective:
    """A loss function with its reduction.

    Args:
        loss: (output, target) → scalar.
        reduction: "mean" or "sum" over the examples; None reads it from ``loss.reduction`` or from the arguments of a
            ``functools.partial``, and else takes it for a mean, as PyTorch's own functions are.

    Raises:
        FieldError: it cannot be called, or reduces to something else.

    Example:
        >>> Objective(nn.MSELoss(reduction="sum")).reduction
        'sum'
        >>> Objective(functools.partial(F.cross_entropy, ignore_index=0)).amount(torch.tensor([0, 2, 1]), 3)
        2.0
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor], reduction: str | None = None) -> None:
        if not callable(loss):
            raise FieldError(
                f"the loss is {type(loss).__name__}; expected a function (output, target) → scalar, as "
                "torch.nn.functional.cross_entropy or torch.nn.MSELoss()."
            )
        self.function = loss
        core: Any = loss
        settings: dict[str, Any] = {}
        while isinstance(core, functools.partial):
            settings = {**core.keywords, **settings}
            core = core.func
        self.name = getattr(core, "__name__", type(core).__name__).replace("<lambda>", "loss")
        found = settings.get("reduction", getattr(core, "reduction", None))
        if found == "batchmean":  # KLDivLoss: the sum over the batch, divided by the examples
            found = "mean"
        if found == "none" and reduction is None:
            raise FieldError(
                f'{self.name} has reduction="none" and returns one loss per example; expected a scalar. '
                'Make it with reduction="mean" or reduction="sum".'
            )
        if reduction is not None and reduction not in REDUCTIONS:
            raise FieldError(f'reduction must be "mean" or "sum", got {reduction!r}.')
        if reduction is not None and found in REDUCTIONS and found != reduction:
            raise FieldError(f"reduction={reduction!r} was asked for, but {self.name} has reduction={found!r}.")
        self.told = reduction is not None or found in REDUCTIONS
        self.reduction: str = reduction or (found if found in REDUCTIONS else "mean")
        self._classes = core in (F.cross_entropy, F.nll_loss) or isinstance(core, nn.CrossEntropyLoss | nn.NLLLoss)
        self._ignored = settings.get("ignore_index", getattr(core, "ignore_index", -100))
        self._weight: Tensor | None = settings.get("weight", getattr(core, "weight", None))

    def __call__(self, out: Any, y: Any) -> Tensor:
        """Return the scalar loss of one batch."""
        if isinstance(out, Tensor) and isinstance(y, Tensor) and y.device != out.device:
            y = y.to(out.device)
        loss = self.function(out, y)
        if not isinstance(loss, Tensor):
            raise FieldError(
                f"{self.name} returned {type(loss).__name__}; expected a scalar tensor that PyTorch can differentiate "
                "(no .item() or float() in the loss)."
            )
        if loss.dim():
            if loss.numel() != 1:
                raise FieldError(
                    f"{self.name} returned a tensor of shape {tuple(loss.shape)}; expected a scalar. "
                    'Make it with reduction="mean" or reduction="sum", or take .mean() of what it returns.'
                )
            loss = loss.reshape(())
        return loss

    def amount(self, y: Any, examples: int) -> float:
        """Return what the loss of a batch counts when batches are added up: 1 for a sum."""
        if self.reduction == "sum":
            return 1.0
        if self._classes and isinstance(y, Tensor) and not y.is_floating_point():
            counted = y != self._ignored
            if self._weight is None:
                return float(counted.sum())
            return float(self._weight.to(y.device)[y[counted]].sum(dtype=torch.float64))
        return float(examples)

    def check(self, out: Any, y: Any, examples: int) -> str | None:
        """See that the loss of a batch is what its parts add up to; called where there are several batches.

        Returns:
            A note where this could not be tried; else None.

        Raises:
            FieldError: it is not, with the reduction that is set.
        """
        cut = 1 + examples // 3
        parts = [*tensors(out), *tensors(y)]
        if cut >= examples or not parts or any(not t.dim() or t.shape[0] != examples for t in parts):
            return f"whether {self.name} is a {self.reduction} over examples was not tried: its parts cannot be told apart."
        whole = float(self(out, y))
        losses, amounts = [], []
        for begin, end in ((0, cut), (cut, examples)):
            a, b = (changed(tree, _rows(begin, end)) for tree in (out, y))
            losses.append(float(self(a, b)))
            amounts.append(self.amount(b, end - begin))
        total = sum(losses)
        mean = sum(loss * n for loss, n in zip(losses, amounts, strict=True) if n) / (sum(amounts) or 1.0)
        added = total if self.reduction == "sum" else mean
        slack = 1e4 * torch.finfo(parts[0].dtype if parts[0].is_floating_point() else torch.float32).eps
        slack *= max(map(abs, [whole, *losses]))
        if not math.isfinite(whole) or abs(added - whole) <= slack:
            return None
        if not self.told and abs(total - whole) <= slack:
            self.reduction = "sum"
            return f"{self.name} was seen to be a sum over examples."
        raise FieldError(
            f"{self.name} of a batch is {whole:.6g}, and its two parts add up to {added:.6g} as a "
            f"{self.reduction}: it is no {self.reduction} over examples, so the loss of several batches is not that of all "
            'data. Pass reduction="sum" or "mean" if that is what it is, or give all data as one batch, without microbatch.'
        )


def _rows(begin: int, end: int) -> Callable[[Tensor], Tensor]:
    return lambda t: t[begin:end]
