"""Remedies at an activation: another function's result in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradientflow.depth.remedies.acting.base import quietly
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.torch_internals import weak


def _same(x: Tensor) -> Tensor:
    return x * 1.0  # (an operation of its own: what is returned is not the operand itself)


def _log_softmax(x: Tensor) -> Tensor:
    return F.log_softmax(x, dim=-1)


_KEPT = 1000  # tensors that are known for scores before those that are gone are forgotten

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "identity": _same,
    "log_softmax": _log_softmax,
}  # fmt: skip


class SwapActivation(OnCalls):
    """At the places, the function `to` in place of the one that is called."""

    def wants(self, name: str) -> bool:
        """Whether it is one of the functions that are named."""
        ops = {p.op for p in self.change.places}
        return name in ops or (None in ops and name in FUNCTIONS)

    def before(self, call: Call) -> None:
        """Put the other function in the call's place."""
        x = call.argument(0, "input", "self")
        if not isinstance(x, Tensor) or not self.here(call):
            return
        function = FUNCTIONS[self.word("to", "relu")]
        self.acted += 1
        if call.inplace:
            call.func, call.args, call.kwargs = _written(function), (x,), {}
        else:
            call.func, call.args, call.kwargs = function, (x,), {}


def _written(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the in-place form of a function."""

    def write(x: Tensor) -> Tensor:
        return x.copy_(function(x.clone()))

    return write


class FixOutput(SwapActivation):
    """As `SwapActivation`, on the output; a loss that wants probabilities is given the scores in its form for scores."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._raw: dict[int, Any] = {}

    def wants(self, name: str) -> bool:
        """Whether it is the output's function, or a loss that consumes it."""
        return super().wants(name) or name in (
            "binary_cross_entropy",
            "squeeze",
            "reshape",
            "view",
            "flatten",
            "getitem",
        )

    def before(self, call: Call) -> None:
        """Swap the function; or the loss, where it is given scores now."""
        if super().wants(call.name):
            super().before(call)
            if call.func in FUNCTIONS.values() and call.func is _same:
                call.notes[self] = "made"
        elif self._raw and self._is_raw(call.argument(0, "input")):
            call.notes[self] = "passed"
            if call.name == "binary_cross_entropy":
                call.func = F.binary_cross_entropy_with_logits

    def after(self, call: Call, out: Any) -> Any:
        """Remember which tensors are scores."""
        if self in call.notes and isinstance(out, Tensor):
            with quietly():
                self._raw[id(out)] = weak(out)
                if len(self._raw) > _KEPT:
                    self._raw = {k: ref for k, ref in self._raw.items() if not ref.expired()}
        return out

    def _is_raw(self, t: Any) -> bool:
        ref = self._raw.get(id(t))
        return ref is not None and not ref.expired()
