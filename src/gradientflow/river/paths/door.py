"""What a field must show at the start before anything is moved."""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Evaluation


def admitted(at: Evaluation, theta: Tensor, name: str) -> Evaluation:
    """Return what a field says at the start, if it is what the protocol asks for, and finite.

    Raises:
        FieldError: shape or dtype are not, or something is not finite there.
    """
    if at.rate.shape != theta.shape or at.rate.dtype != theta.dtype:
        raise FieldError(
            f"{name} was given points of shape {tuple(theta.shape)}, {theta.dtype}, and returned a rate of shape "
            f"{tuple(at.rate.shape)}, {at.rate.dtype}; expected the same shape and dtype: one row per drop."
        )
    if at.value is not None and at.value.shape != theta.shape[:1]:
        raise FieldError(
            f"{name} returned a loss of shape {tuple(at.value.shape)} for {len(theta)} points; expected {tuple(theta.shape[:1])}: "
            "one number per drop."
        )
    _refuse_not_finite(at, name)
    return at


def _refuse_not_finite(at: Evaluation, name: str) -> None:
    bad = ~torch.isfinite(at.rate).all(dim=1)
    if at.value is not None:
        bad |= ~torch.isfinite(at.value)
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        value = "" if at.value is None else f"the loss is {float(at.value[i]):g} and "
        count = "" if len(bad) == 1 else f" (drop {i}; {int(bad.sum())} of {len(bad)} drops)"
        wrong = int((~torch.isfinite(at.rate[i])).sum())
        raise FieldError(
            f"{name}: at the start{count} {value}{wrong} of {at.rate.shape[1]} components of dθ/dt are "
            "not finite; expected a point where the field is defined. Choose another start=, or check the loss there."
        )
