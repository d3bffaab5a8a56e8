"""The loss of every step, with nothing patched and the function mode off the stack.

One hook per optimizer, on the parameter whose gradient arrives first. While it runs the backward engine is at work, and
the frame of PyTorch's own `_engine_run_backward` holds the tensors that `backward` was called on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from gradientflow.torch_internals import backward_roots, backward_task, readable, transformed


class LossFinder:
    """Tells of every backward call that reaches a hooked parameter, once per call.

    Args:
        seen: called with the root of the backward call.
        busy: whether the backward calls are seen otherwise at the moment (by the mode).
        shield: protects the script from us.
    """

    def __init__(self, seen: Callable[[Tensor], None], busy: Callable[[], bool], shield: Callable[..., Any]) -> None:
        self._seen = seen
        self._busy = busy
        self._shield = shield
        self._task: int | None = None
        self._handles: list[Any] = []

    def hook(self, params: Sequence[Tensor]) -> None:
        """Hook parameters; gradients that reach any of them lead to the loss."""
        for p in params:
            self._handles.append(p.register_post_accumulate_grad_hook(partial(self._shield, self._find)))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _find(self, param: Tensor) -> None:
        if self._busy():
            return
        task = backward_task()
        if task is not None and task == self._task:
            return
        self._task = task
        for root in backward_roots():
            if isinstance(root, Tensor):
                if readable(root) and not transformed():
                    self._seen(root)
                return
