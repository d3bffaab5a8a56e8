"""Loss and gradient by ``torch.compile``."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.model import Model
from gradientflow.river.fields.objective import Objective


class Compiled:
    """Gradient and loss of a batch at a single row: (row, x, y) → (∇L, L).

    Args:
        model, objective: what is compiled.
        steady: the batches have the same few shapes at every pass, so that each may be compiled for itself.
    """

    def __init__(self, model: Model, objective: Objective, *, steady: bool) -> None:
        of, split = model.traceable(objective), model.space.split

        def loss(row: Tensor, x: Any, y: Any) -> Tensor:
            return of(split(row), x, y)

        both = torch.func.grad_and_value(loss)

        def step(row: Tensor, x: Any, y: Any) -> tuple[Tensor, Tensor]:
            return both(row, x, y)

        shapes = False if steady else None  # otherwise it takes for granted that they change
        # The compiler keeps what it made with the code object: each field gets one of its own, and finds its own at once.
        own = types.FunctionType(step.__code__.replace(), step.__globals__, "step", None, step.__closure__)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler's own
            self._call: Callable[..., tuple[Tensor, Tensor]] = torch.compile(own, dynamic=shapes)
        self._name, self._first = model.name, True

    def __call__(self, row: Tensor, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        if not self._first:
            return self._call(row.detach(), x, y)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                slope, loss = self._call(row.detach(), x, y)
        except FieldError:
            raise
        except Exception as problem:
            why = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:300]
            raise FieldError(
                f"torch.compile could not compile {self._name}: {why} Leave compile=True out."
            ) from problem
        self._first = False
        return slope, loss
