"""The first look at a loss field: does a batch go through, is the loss a number, does it repeat?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.generators import HELD
from gradientflow.river.fields import chance
from gradientflow.river.fields.batches import changed, tensors
from gradientflow.river.fields.guard import check_deterministic, depends_on_cut
from gradientflow.river.fields.network import NetworkField


def first_look(field: NetworkField) -> list[str]:
    """See that a batch goes through, that the loss is finite and has a gradient, and that two evaluations agree.

    Returns:
        Notes: parameters that do not matter, what was seen of the reduction, those of `check_deterministic`.

    Raises:
        FieldError: one of these is not so.
        RandomFieldError: two evaluations differ.
    """
    with HELD, chance.kept():
        return _look(field)


def _look(field: NetworkField) -> list[str]:
    notes: list[str] = []
    x, y, n = next((b for b in field.batches if field.objective.amount(b[1], b[2])), field.batches.first())
    theta = field.start()
    with torch.enable_grad():
        leaves = field.gradients.leaves(theta[None])
        try:
            out = field.model(leaves, x)
            loss = field.model.loss(leaves, x, y, field.objective)
        except FieldError:
            raise
        except Exception as problem:
            raise FieldError(
                f"{field.name} failed on a batch: {type(problem).__name__}: {problem} The input is {_shapes(x)}, the "
                f"target {_shapes(y)}, the parameters {field.dtype} on {field.device}. Expected model(x) and "
                "loss(model(x), y) to work as they stand; a dict x is passed as model(**x), a tuple as model(*x)."
            ) from problem
        if not loss.requires_grad:
            raise FieldError(
                f"{field.name} does not depend on the parameters in a way PyTorch can see: expected a loss with a graph. "
                "Remove torch.no_grad(), .detach(), .item() or numpy from the model and the loss."
            )
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
    if not bool(torch.isfinite(loss)):
        raise FieldError(
            f"the loss at the start is {float(loss.detach())}: {field.name}, {n} examples. Expected a finite number. "
            f"{_not_finite(field.model.present(), x, y, out)}"
        )
    idle = [name for name, slope in zip(field.space.names, slopes, strict=True) if slope is None]
    if idle:
        notes.append(f"the loss does not depend on {', '.join(idle[:6])}{' …' if len(idle) > 6 else ''}.")
    if field.batches.number > 1:
        with torch.no_grad():
            note = field.objective.check(changed(out, torch.Tensor.detach), y, n)
        notes.extend([note] if note else [])
        notes.extend(depends_on_cut(field))
    notes.extend(check_deterministic(field, theta))
    return notes


def _shapes(tree: Any) -> str:
    return ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors(tree)) or type(tree).__name__


def _not_finite(params: Mapping[str, Tensor], x: Any, y: Any, out: Any) -> str:
    """Say where the first number that is not finite stands."""
    bad = [name for name, p in params.items() if not bool(torch.isfinite(p).all())]
    if bad:
        return f"The parameter {bad[0]!r} is not finite: make or load the model anew."
    for name, tree in (("input", x), ("target", y)):
        if any(t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in tensors(tree)):
            return f"The {name} holds numbers that are not finite: clean the data."
    if any(not bool(torch.isfinite(t).all()) for t in tensors(out)):
        return (
            "The model's output is not finite, its parameters and the input are: scale the input or the initialisation."
        )
    return "The output is finite: the loss itself overflows or takes the logarithm or the root of what it must not."
