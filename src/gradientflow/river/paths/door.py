"""What the numbers of a call, and a field at the start, must be before anything is moved."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields.base import Evaluation
from gradientflow.river.solvers.base import lengths


def number(value: Any, wanted: str) -> float:
    """Return a real number, whoever made it: Python, NumPy, or PyTorch (a tensor of no axes).

    Raises:
        UsageError: it is none; `wanted` says what was expected.
    """
    if isinstance(value, numbers.Real):
        return float(value)
    if getattr(value, "ndim", None) == 0 and not (isinstance(value, Tensor) and value.is_complex()):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise UsageError(f"{wanted}, got {value!r}.")


def end_time(t: Any) -> float:
    """Return the flow time to end at.

    Raises:
        UsageError: it is no finite number above 0.
    """
    wanted = "t is the flow time to end at: expected a finite number above 0"
    end = number(t, wanted)
    if not (math.isfinite(end) and end > 0):
        raise UsageError(f"{wanted}, got {t!r}.")
    return end


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
    if not bool(bad.any()):
        _refuse_overflow(at.rate, name)
    else:
        i = int(bad.nonzero()[0])
        value = "" if at.value is None else f"the loss is {float(at.value[i]):g} and "
        count = "" if len(bad) == 1 else f" (drop {i}; {int(bad.sum())} of {len(bad)} drops)"
        wrong = int((~torch.isfinite(at.rate[i])).sum())
        raise FieldError(
            f"{name}: at the start{count} {value}{wrong} of {at.rate.shape[1]} components of dθ/dt are "
            "not finite; expected a point where the field is defined. Choose another start=, or check the loss there."
        )


def _refuse_overflow(rate: Tensor, name: str) -> None:
    """Refuse numbers that are finite while their squares are not: no length of a step could be found by them."""
    over = ~torch.isfinite(lengths(rate))
    if bool(over.any()):
        kind = str(rate.dtype).removeprefix("torch.")
        raise FieldError(
            f"{name}: at the start dθ/dt has components of size {float(rate[over.to(rate.device)].abs().amax()):.2g}, whose squares are beyond "
            f"{kind} (up to {torch.finfo(rate.dtype).max:.2g}). Divide the loss by a constant c, which only slows the clock down "
            "(ask for c times the flow time)" + ("." if rate.dtype == torch.float64 else ", or use float64.")
        )
