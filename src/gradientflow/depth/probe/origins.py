"""Where data comes from: the user's line that made a tensor, passed on through indexing, stacking and arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from gradientflow.depth.probe.calls import grad_fn
from gradientflow.depth.probe.frames import locate
from gradientflow.depth.probe.names import op_name
from gradientflow.ops import kind_of, writes
from gradientflow.torch_internals import weak

Origin = tuple[str | None, int | None, str | None]  # file, line, and the operation that first made it not finite
_NOWHERE: Origin = (None, None, None)
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
_FOLLOWED = 20_000  # tensors followed in one window: a script that makes them one by one is not slowed down by us


class Origins:
    """The line of origin of tensors that carry no gradient, by identity. Holds no tensor alive.

    Of none, where modules are converted by `torch.utils.swap_tensors`: it refuses tensors that anybody refers to weakly.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Origin]] = {}
        self._own: dict[int, Any] = {}  # tensors without gradient that were made of the network's own
        self._left = _FOLLOWED

    def of(self, t: Tensor) -> Origin:
        """Return (file, line, operation that first made it not finite) of a tensor; None each where it is not known."""
        found = self._known.get(id(t))
        return found[1] if found is not None and not found[0].expired() else _NOWHERE

    def own(self, t: Tensor) -> bool:
        """Whether a tensor without gradient was made of the network's own parameters or values: detached, or under no_grad."""
        found = self._own.get(id(t))
        return found is not None and not found.expired()

    def _taken_over(self, args: tuple[Any, ...], out: Any) -> None:
        """Remember what a call without gradient makes of the network's own."""
        if self._left <= 0:
            return
        given = [t for a in args for t in (a if isinstance(a, (list, tuple)) else (a,)) if isinstance(t, Tensor)]
        if any(isinstance(t, Parameter) or grad_fn(t) is not None or self.own(t) for t in given):
            for t in out if isinstance(out, (list, tuple)) else (out,):
                if isinstance(t, Tensor) and not t.requires_grad:
                    self._own[id(t)] = weak(t)
                    self._left -= 1

    def see(self, args: tuple[Any, ...], out: Any, name: str, func: Any = None) -> None:
        """Look at one torch call. Arithmetic of the user's and writes into a tensor are a new origin; what only picks,
        stacks, casts or moves comes from where its first known argument came from.
        """
        if torch.__future__.get_swap_module_params_on_conversion():
            self._known.clear()
            self._own.clear()
            return
        if name != "__get__" or (func is not None and op_name(func) == "data"):
            self._taken_over(args, out)
        if self._left <= 0 or name == "__get__":
            return
        if writes(name):
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
            origin = self._born(args, out, func) or self._here()
        self._remember(out, origin)

    @staticmethod
    def _here(born: str | None = None, depth: int = 4) -> Origin:
        where = locate(depth, modules=False, limit=1)
        return (where.file, where.line, born)

    def _born(self, args: tuple[Any, ...], out: Tensor, func: Any) -> Origin | None:
        """Return the origin of values that arithmetic on data took over, or made, from NaN or Inf; None for others.

        Only operations that can make a finite number one that is not are looked into.
        """
        inputs = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
        known = next((o for o in map(self.of, inputs) if o[2] is not None), None)
        if known is not None:
            return known
        name = op_name(func) if func is not None else ""
        if kind_of(name) != "singular" or not inputs or not out.is_floating_point() or bool(out.isfinite().all()):
            return None
        if all(bool(a.isfinite().all()) for a in inputs):
            return self._here(name, 5)
        return None

    def _remember(self, t: Tensor, origin: Origin) -> None:
        if origin[0] is not None:
            self._known[id(t)] = (weak(t), origin)
            self._left -= 1

    def prune(self) -> None:
        """Forget tensors that are gone, and begin to follow anew."""
        self._left = _FOLLOWED
        self._known = {key: entry for key, entry in self._known.items() if not entry[0].expired()}
        self._own = {key: ref for key, ref in self._own.items() if not ref.expired()}
