"""Scripts that update their parameters by hand: no optimizer ever steps, so a step is a backward call after which the
parameters have moved. (Gradient accumulation also calls backward again and again, but with the parameters at rest.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gradientflow.depth.watch.cheap import CheapTier, Norms, direction_wanted


class ManualSteps:
    """Turns backward calls into steps.

    Args:
        emit: called with (indices, norms) for each step found.
    """

    def __init__(self, emit: Callable[[list[int], Norms], None]) -> None:
        self.confirmed = False
        self._emit = emit
        self._cheap: CheapTier | None = None
        self._indices: list[int] = []
        self._root: Tensor | None = None
        self._count = 0

    def know(self, indices: list[int], params: Sequence[Tensor]) -> None:
        """Learn which parameters the backward calls reach."""
        if self._cheap is None and params:
            self._cheap, self._indices = CheapTier(params), indices

    def forget(self) -> None:
        """An optimizer was found: hold the parameters no longer."""
        self._cheap, self._indices, self._root = None, [], None

    def before_backward(self) -> None:
        """Close the step that the last backward call began, if the parameters have moved since."""
        if self._cheap is None or self._root is None:
            return
        norms = self._cheap.after(self._root, False)
        self._root = None
        if self.confirmed or norms.all_update:
            self.confirmed = True
            self._emit(self._indices, norms)

    def after_backward(self, root: Tensor | None, inputs: Sequence[Tensor], result: Any) -> None:
        """Read the gradient that a backward call left in `.grad`, or returned for its inputs, in whatever order they were."""
        if self._cheap is None:
            return
        self._root = root
        self._count += 1
        self._cheap.before(direction_wanted(self._count))
        if isinstance(result, (tuple, list)) and len(result) == len(inputs):
            by_input = {id(t): g for t, g in zip(inputs, result, strict=True)}
            self._cheap.given([by_input.get(id(p)) for p in self._cheap.params])
