"""What the script's hooks on a tensor make of its gradient within backward, each hook by itself.

PyTorch keeps them in a dict in the order of their registration and calls what stands in it. While a measured backward call
runs, readers of ours stand between them, and read what goes in and what comes out; then the dict is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType
from typing import Any, NamedTuple

from torch import Tensor

from gradientflow.depth.probe.frames import OURS, USER, classify, file_name
from gradientflow.torch_internals import accumulation_hooks, backward_hooks, readable

_MOST = 64  # hooked parameters that are read
_ENTRIES = 1 << 20  # of each


class Hook(NamedTuple):
    """One hook of the script's on one parameter, or on a tensor inside the graph: what it was given, and what it left (None:
    nothing).
    """

    param: int | None
    file: str | None
    line: int | None
    before: Tensor
    after: Tensor | None


class Hooked:
    """Reads around the hooks of a backward call's parameters.

    Args:
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, shield: Callable[..., Any]) -> None:
        self._shield = shield
        self._dicts: list[tuple[dict[Any, Any], list[object]]] = []
        self._read: list[
            tuple[int | None, list[Any], list[Tensor | None]]
        ] = []  # parameter, its hooks, what was read around them

    def attach(self, params: Iterable[tuple[int, Tensor]]) -> None:
        """Stand between the hooks of these parameters, where the script has set any."""
        for index, t in params:
            if len(self._dicts) >= _MOST:
                return
            for hooks, stored in ((backward_hooks(t), False), (accumulation_hooks(t), True)):
                if hooks and any(_owner(hook) != OURS for hook in hooks.values()):
                    self._between(index, hooks, stored)

    def attach_within(self, dicts: Iterable[dict[Any, Any]]) -> None:
        """Stand between the hooks of tensors inside the graph."""
        for hooks in dicts:
            if hooks and len(self._dicts) < _MOST:
                self._between(None, hooks, stored=False)

    def _between(self, index: int | None, hooks: dict[Any, Any], stored: bool) -> None:
        theirs = list(hooks.items())
        read: list[Tensor | None] = []
        self._read.append((index, [hook for _, hook in theirs], read))
        keys: list[object] = [object() for _ in range(len(theirs) + 1)]
        reader = partial(self._shield, self._stored if stored else self._passing, read)
        self._dicts.append((hooks, keys))
        hooks.clear()
        for key, entry in zip(keys, [*theirs, None], strict=True):
            hooks[key] = reader
            if entry is not None:
                hooks[entry[0]] = entry[1]

    @staticmethod
    def _passing(read: list[Tensor | None], g: Tensor | None) -> None:
        read.append(_kept(g))

    @staticmethod
    def _stored(read: list[Tensor | None], t: Tensor) -> None:
        read.append(_kept(t.grad))

    def detach(self) -> None:
        """Leave the hooks as they were, with what the script has added and removed meanwhile."""
        for hooks, keys in self._dicts:
            for key in keys:
                hooks.pop(key, None)
        self._dicts.clear()

    def found(self) -> list[Hook]:
        """Return what each hook did, where all of them ran."""
        seen = []
        for index, hooks, read in self._read:
            if len(read) != len(hooks) + 1:  # (one was removed on the way, or backward did not come by)
                continue
            for k, hook in enumerate(hooks):
                before, after = read[k], read[k + 1]
                if before is not None and _owner(hook) != OURS:
                    seen.append(Hook(index, *_line(hook), before, after))
        return seen


def _kept(g: Tensor | None) -> Tensor | None:
    if g is None or not readable(g) or g.is_sparse or g.numel() > _ENTRIES:
        return None
    return g.detach().clone()


def _code(hook: Any) -> CodeType | None:
    """Return the code that a hook runs: of a function, a method, a `partial`, an object that can be called."""
    while isinstance(hook, partial):
        hook = hook.func
    hook = getattr(hook, "__func__", hook)
    code = getattr(hook, "__code__", None) or getattr(type(hook).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _owner(hook: Any) -> int | None:
    code = _code(hook)
    return None if code is None else classify(code)


def _line(hook: Any) -> tuple[str | None, int | None]:
    code = _code(hook)
    if code is None or classify(code) != USER:
        return None, None
    return file_name(code), code.co_firstlineno
