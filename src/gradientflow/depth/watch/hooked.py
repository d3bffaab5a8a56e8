"""What the script's own hooks on its parameters make of a gradient, within a backward call that is measured.

A hook of `register_hook` may return another gradient than it is given, and `.grad` holds what the last one returned. Ours go
ahead of the script's and behind them, for the length of the call; they return nothing, so that nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from gradientflow.depth.probe.frames import USER, classify, file_name
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.watch.vectors import dot
from gradientflow.records import Alteration
from gradientflow.torch_internals import backward_hooks, readable

HOOK = "hook"
_FEW = 8  # parameters that are named


class Hooked:
    """Stands around the hooks of every parameter that has some.

    Args:
        registry: who is who among the parameters.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, registry: Registry, shield: Callable[..., Any]) -> None:
        self._registry, self._shield = registry, shield
        self._held: list[dict[Any, Any]] = []
        self._before: dict[int, Tensor] = {}
        self._seen: dict[int, tuple[float, float, float]] = {}  # ⟨b, b⟩, ⟨b, a⟩, ⟨a, a⟩ by index of the parameter
        self._theirs: dict[int, Any] = {}  # the script's last hook, by index of the parameter

    def attach(self) -> None:
        """A backward call is about to begin."""
        self.detach()
        self._before, self._seen, self._theirs = {}, {}, {}
        for index, t in self._registry.live():
            hooks: dict[Any, Any] | None = backward_hooks(t)
            if not hooks:
                continue
            theirs = dict(hooks)
            self._theirs[index] = next(reversed(theirs.values()))
            hooks.clear()  # (what runs first is what was put in first)
            hooks[_Key.AHEAD] = self._listener(index, self._came)
            hooks.update(theirs)
            hooks[_Key.BEHIND] = self._listener(index, self._went)
            self._held.append(hooks)

    def detach(self) -> None:
        """It is over: leave the hooks as they were."""
        for hooks in self._held:
            hooks.pop(_Key.AHEAD, None)
            hooks.pop(_Key.BEHIND, None)
        self._held = []

    def found(self) -> list[Alteration]:
        """Return what the hooks did, all of them taken together; nothing where they changed nothing."""
        square = math.fsum(s for s, _, _ in self._seen.values())
        product = math.fsum(p for _, p, _ in self._seen.values())
        other = math.fsum(o for _, _, o in self._seen.values())
        if not self._seen or all(s == p == o for s, p, o in self._seen.values()):
            return []
        whole = square > 0 and all(map(math.isfinite, (square, product, other)))
        lengths = math.sqrt(square) * math.sqrt(other) if whole else 0.0
        most = max(self._seen, key=lambda i: abs(self._seen[i][0] - self._seen[i][1]))
        file, line = _place(self._theirs.get(most))
        return [
            Alteration(
                HOOK, file, line, len(self._seen), product / square if whole else None, product / lengths if lengths > 0 else None,
                sorted(self._seen)[:_FEW],
            )
        ]  # fmt: skip

    def _listener(self, index: int, hear: Callable[[int, Tensor], None]) -> Callable[[Tensor], None]:
        def listen(grad: Tensor) -> None:
            self._shield(hear, index, grad)

        return listen

    def _came(self, index: int, grad: Tensor) -> None:
        if readable(grad) and not grad.is_sparse:
            self._before[index] = grad.detach().clone()

    def _went(self, index: int, grad: Tensor) -> None:
        before = self._before.pop(index, None)
        if before is None or not readable(grad) or grad.is_sparse or grad.shape != before.shape:
            return
        after = grad.detach()
        self._seen[index] = dot([before], [before]), dot([before], [after]), dot([after], [after])


def _place(hook: Any) -> tuple[str | None, int | None]:
    """Return where a hook is written, if that is in the script's own code."""
    code = getattr(hook, "__code__", None)
    return (file_name(code), code.co_firstlineno) if code is not None and classify(code) == USER else (None, None)


class _Key:
    """Keys that no handle of PyTorch's has."""

    AHEAD, BEHIND = "gradientflow: ahead", "gradientflow: behind"
