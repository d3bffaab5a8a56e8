"""Scripts that update their parameters by hand: no optimizer ever steps, so a step is a backward call after which the
parameters have moved. (Gradient accumulation also calls backward again and again, but with the parameters at rest.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gradientflow.depth.probe.calls import grad_fn
from gradientflow.depth.watch.cheap import CheapTier, Norms, direction_wanted

_WALKED = 50_000  # nodes of a graph, at most


def leaves_of(roots: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors that a backward call from these would reach, in the order in which its graph leads to them."""
    todo = [node for t in reversed(roots) if (node := grad_fn(t)) is not None]
    seen, found = set(todo), []
    left = _WALKED
    while todo and left:
        node, left = todo.pop(), left - 1
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found.append(variable)
        for target, _ in reversed(node.next_functions):
            if target is not None and target not in seen:
                seen.add(target)
                todo.append(target)
    return found if left else []


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
        self._leaves: list[Tensor] = []  # of the last backward call, in the order of its graph
        self._count = 0

    def bound_anew(self, roots: Sequence[Tensor]) -> None:
        """See whether the leaves of a backward call that is about to run are new tensors in the place of those of the call before:
        a script that writes `W = (W - lr * W.grad).detach().requires_grad_()` moves its parameters in this way. Where only some
        are new, those are data that is differentiated.
        """
        leaves = leaves_of(roots)
        before, self._leaves = self._leaves, leaves
        if self._cheap is None or [t.shape for t in before] != [t.shape for t in leaves]:
            return
        instead = {id(old): new for old, new in zip(before, leaves, strict=True) if old is not new}
        if len(instead) == len(leaves):
            self._cheap.params = [instead.get(id(p), p) for p in self._cheap.params]

    def know(self, indices: list[int], params: Sequence[Tensor]) -> None:
        """Learn which parameters the backward calls reach."""
        if self._cheap is None and params:
            self._cheap, self._indices = CheapTier(params), indices

    def forget(self) -> None:
        """An optimizer was found: hold the parameters no longer."""
        self._cheap, self._indices, self._root, self._leaves = None, [], None, []

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
