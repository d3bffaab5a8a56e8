"""Where data comes from: the user's line that made a tensor, passed on through indexing, stacking and arithmetic."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from gradientflow.depth.probe.frames import locate

Origin = tuple[str | None, int | None]
_NOWHERE: Origin = (None, None)
_MOST = 20_000  # tensors followed in one window: a script that makes them one by one is not slowed down by us


class Origins:
    """The line of origin of tensors that carry no gradient, by identity. Holds no tensor alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}
        self._left = _MOST

    def of(self, t: Tensor) -> Origin:
        """Return (file, line) of a tensor's origin; (None, None) where it is not known."""
        found = self._known.get(id(t))
        return found[1] if found is not None and found[0]() is t else _NOWHERE

    def see(self, args: tuple[Any, ...], out: Any, name: str) -> None:
        """Look at one torch call: what it returns comes from where its first known argument came from, or from here."""
        if self._left <= 0 or name == "__get__" or not isinstance(out, Tensor) or out.requires_grad or not out.dim():
            return
        origin = _NOWHERE
        made_here = True
        for arg in args[:2]:
            entries = arg[:1] if isinstance(arg, (list, tuple)) else (arg,)
            for entry in entries:
                if isinstance(entry, Tensor):
                    made_here = False
                    origin = self.of(entry) if origin is _NOWHERE else origin
        if made_here:
            where = locate(3, modules=False, limit=1)
            origin = (where.file, where.line)
        if origin[0] is not None:
            self._known[id(out)] = (weakref.ref(out), origin)
            self._left -= 1

    def prune(self) -> None:
        """Forget tensors that are gone, and begin to follow anew."""
        self._left = _MOST
        self._known = {key: entry for key, entry in self._known.items() if entry[0]() is not None}
