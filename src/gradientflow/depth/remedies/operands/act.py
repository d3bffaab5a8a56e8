"""Clamp: the operand of a singular operation kept away from the point where its slope has no bound.

What lies beyond is moved to the nearest safe value, and gets no gradient through this operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.operands.plan import EPS
from gradientflow.ops import DISTANCES, FROM_ZERO, GROWING, PRODUCTS, WITHIN_ONE


class ClampOp(OnCalls):
    """The operands of an operation at the places, kept `eps` away from its singular point; exponents below overflow.

    Settings: `eps` (in units of the operand); `shift`: the largest exponent along dimension `dim` is taken off first (a
    softmax written by hand keeps its value).
    """

    def wants(self, name: str) -> bool:
        """Whether a place names it."""
        return any(p.op == name for p in self.change.places)

    def before(self, call: Call) -> None:
        """Move the operand."""
        if not self.here(call):
            return
        form = call.args, call.kwargs
        safe = _SAFE.get(call.name)
        if safe is None:
            raise ValueError(f"no safe form of {call.name} is known")
        safe(self, call)
        self.acted += call.args is not form[0] or call.kwargs is not form[1] or call.name in DISTANCES

    def after(self, call: Call, out: Any) -> Any:
        """Keep a distance from zero, where it is the result that is divided by."""
        if call.name in DISTANCES and isinstance(out, Tensor) and out.is_floating_point() and self.here(call):
            return out.clamp(min=self.eps(out))
        return out

    def eps(self, t: Tensor) -> float:
        """Return the distance to be kept, at least what the dtype can tell from zero."""
        tiny = float(torch.finfo(t.dtype).tiny) if t.is_floating_point() else 0.0
        return max(self.number("eps", EPS), 100 * tiny)

    def move(self, call: Call, moved: Callable[[Tensor], Tensor], position: int = 0, *names: str) -> None:
        """Put the moved operand in the operand's place; written back, where the call works in place."""
        x = call.argument(position, *(names or ("input", "self")))
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return
        if call.inplace and position == 0:
            x.copy_(moved(x.clone()))
            call.args = (x, *call.args[1:])
            return
        call.put(moved(x), position, *(names or ("input", "self")))


def _from_zero(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(min=act.eps(x)))


def _log1p(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(min=-1.0 + act.eps(x)))


def _within_one(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(-1.0 + act.eps(x), 1.0 - act.eps(x)))


def _acosh(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(min=1.0 + act.eps(x)))


def _logit(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(act.eps(x), 1.0 - act.eps(x)))


def away(x: Tensor, eps: float) -> Tensor:
    """Return x with entries nearer to zero than eps moved out to ±eps, each to its own side (zero to the upper).

    Example:
        >>> away(torch.tensor([0.0, -0.01, 2.0]), 0.1)
        tensor([ 0.1000, -0.1000,  2.0000])
    """
    return torch.where(x < 0, x.clamp(max=-eps), x.clamp(min=eps))


def _divide(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: away(_bounded(x), act.eps(x)), 1, "other")


def _reciprocal(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: away(x, act.eps(x)))  # also `1 / x`, which PyTorch calls with x first


def _pow(act: ClampOp, call: Call) -> None:
    exponent = call.argument(1, "exponent", "other")
    least = float(exponent.min()) if isinstance(exponent, Tensor) and exponent.numel() else exponent
    if not isinstance(least, (int, float)):
        return
    whole = float(least).is_integer()
    if least >= 1:
        most = max(float(exponent.max()) if isinstance(exponent, Tensor) else least, 1.0)
        act.move(call, lambda x: x.clamp(-_root(x, most), _root(x, most)))
    elif whole:
        act.move(call, lambda x: away(x, act.eps(x)))
    else:
        act.move(call, lambda x: x.clamp(min=act.eps(x)))


def _root(x: Tensor, power: float) -> float:
    return float(torch.finfo(x.dtype).max ** (0.5 / power))


def _exponent(act: ClampOp, call: Call) -> None:
    position, base = 0, math.e
    if call.raw in ("__rpow__",) and isinstance(call.argument(1, "other"), (int, float)):
        base = max(float(call.args[1]), 1.0 + 1e-9)

    def moved(x: Tensor) -> Tensor:
        limit = 0.5 * math.log(torch.finfo(x.dtype).max) / math.log(base)
        if act.change.settings.get("shift") and x.dim():
            dim = int(act.number("dim", -1))
            x = x - x.detach().amax(dim, keepdim=True)
        return x.clamp(max=limit)

    act.move(call, moved, position)


def _normalize(act: ClampOp, call: Call) -> None:
    given = call.argument(3, "eps")
    call.put(max(float(given or 0.0), act.number("eps", EPS)), 3, "eps")


def _cosine(act: ClampOp, call: Call) -> None:
    given = call.argument(3, "eps")
    call.put(max(float(given or 0.0), act.number("eps", EPS)), 3, "eps")


def _result(act: ClampOp, call: Call) -> None:
    """Nothing before the call: its result is kept from zero (see `after`)."""


def _xlogy(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(min=act.eps(x)), 1, "other")


def _atan2(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: away(x, act.eps(x)), 1, "other")


def _scores(act: ClampOp, call: Call) -> None:
    act.move(call, lambda x: x.clamp(min=-(torch.finfo(x.dtype).max ** 0.25), max=torch.finfo(x.dtype).max ** 0.25))


def _bounded(x: Tensor) -> Tensor:
    limit = torch.finfo(x.dtype).max ** 0.75
    return x.clamp(-limit, limit)


def _large(act: ClampOp, call: Call) -> None:
    for position, names in ((0, ("input", "self")), (1, ("other", "weight", "target", "mat2"))):
        value = call.argument(position, *names)
        if isinstance(value, Tensor) and value.is_floating_point() and not value.is_leaf:
            act.move(call, lambda x: x.clamp(-_root(x, 2.0), _root(x, 2.0)), position, *names)


_SAFE: dict[str, Callable[[ClampOp, Call], None]] = {
    **dict.fromkeys(FROM_ZERO, _from_zero),
    **dict.fromkeys(WITHIN_ONE, _within_one),
    **dict.fromkeys(DISTANCES, _result),
    **dict.fromkeys(GROWING, _exponent),
    **dict.fromkeys(PRODUCTS, _large),
    "log1p": _log1p,
    "acosh": _acosh,
    "logit": _logit,
    "div": _divide,
    "true_divide": _divide,
    "reciprocal": _reciprocal,
    "pow": _pow,
    "float_power": _pow,
    "normalize": _normalize,
    "cosine_similarity": _cosine,
    "xlogy": _xlogy,
    "atan2": _atan2,
    "softmax": _scores,
    "log_softmax": _scores,
    "logsumexp": _scores,
}
