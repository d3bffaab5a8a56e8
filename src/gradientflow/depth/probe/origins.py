"""Where data comes from: the user's line that made a tensor, passed on through indexing, stacking and arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.probe.frames import locate

Origin = tuple[str | None, int | None]
_NOWHERE: Origin = (None, None)
_WEAK: Any = torch._C._WeakTensorRef  # type: ignore[attr-defined]
_PASSING = frozenset(
    [
        "getitem",
        "stack",
        "cat",
        "concat",
        "index_select",
        "gather",
        "reshape",
        "view",
        "flatten",
        "unsqueeze",
        "squeeze",
        "transpose",
        "permute",
        "expand",
        "t",
        "to",
        "float",
        "double",
        "half",
        "bfloat16",
        "long",
        "int",
        "contiguous",
        "clone",
        "detach",
        "pin_memory",
        "cpu",
        "cuda",
        "type",
        "split",
        "chunk",
        "unbind",
        "narrow",
        "repeat",
        "select",
        "take",
        "index",
        "vstack",
        "hstack",
        "unflatten",
        "movedim",
        "roll",
        "flip",
        "pad",
        "as_tensor",
        "requires_grad_",
    ]
)
_MOST = 20_000  # tensors followed in one window: a script that makes them one by one is not slowed down by us


class Origins:
    """The line of origin of tensors that carry no gradient, by identity. Holds no tensor alive.

    PyTorch's own weak references are used, not Python's: `torch.utils.swap_tensors` refuses tensors that have one.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Origin]] = {}
        self._left = _MOST

    def of(self, t: Tensor) -> Origin:
        """Return (file, line) of a tensor's origin; (None, None) where it is not known."""
        found = self._known.get(id(t))
        return found[1] if found is not None and not found[0].expired() else _NOWHERE

    def see(self, args: tuple[Any, ...], out: Any, name: str) -> None:
        """Look at one torch call. Arithmetic of the user's and writes into a tensor are a new origin; what only picks,
        stacks, casts or moves comes from where its first known argument came from.
        """
        if self._left <= 0 or name == "__get__":
            return
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            target = args[0] if args else None
            if isinstance(target, Tensor) and not target.requires_grad and target.dim():
                self._remember(target, self._here())
            return
        if not isinstance(out, Tensor) or out.requires_grad or not out.dim():
            return
        origin = _NOWHERE
        if name.strip("_") in _PASSING:
            for arg in args[:2]:
                for entry in arg[:1] if isinstance(arg, (list, tuple)) else (arg,):
                    if isinstance(entry, Tensor) and origin is _NOWHERE:
                        origin = self.of(entry)
        else:
            origin = self._here()
        self._remember(out, origin)

    @staticmethod
    def _here() -> Origin:
        where = locate(4, modules=False, limit=1)
        return (where.file, where.line)

    def _remember(self, t: Tensor, origin: Origin) -> None:
        if origin[0] is not None:
            self._known[id(t)] = (_WEAK(t), origin)
            self._left -= 1

    def prune(self) -> None:
        """Forget tensors that are gone, and begin to follow anew."""
        self._left = _MOST
        self._known = {key: entry for key, entry in self._known.items() if not entry[0].expired()}
