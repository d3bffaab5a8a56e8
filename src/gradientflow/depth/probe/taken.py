"""How an operation takes its input: over how many entries a normalisation runs, which axes a recurrence reads as time and batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gradientflow.ops import GATES

_SOFT = frozenset({"softmax", "log_softmax", "softmin", "gumbel_softmax"})
_SHAPED = frozenset({"layer_norm", "rms_norm", "native_layer_norm"})
_BATCHED = 3  # dimensions of an input with time, batch and features


def span(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> int | None:
    """Return over how many entries each normalisation of a call runs; None where the call is none, or it cannot be told.

    Args:
        name: plain name of the operation.
        args, kwargs: of the call.
    """
    x = args[0] if args else kwargs.get("input")
    if not isinstance(x, Tensor) or not x.dim():
        return None
    if name in _SOFT:
        dim = _given(args, kwargs, 1, "dim") if name != "gumbel_softmax" else kwargs.get("dim", -1)
        if dim is None:  # the axis that PyTorch guesses
            dim = 0 if x.dim() in (0, 1, _BATCHED) else 1
        return x.shape[dim] if isinstance(dim, int) and -x.dim() <= dim < x.dim() else None
    if name == "normalize":
        dim = _given(args, kwargs, 2, "dim", 1)
        return x.shape[dim] if isinstance(dim, int) and -x.dim() <= dim < x.dim() else None
    if name in _SHAPED:
        shape = _given(args, kwargs, 1, "normalized_shape")
        return math.prod(shape) if isinstance(shape, (tuple, list)) else None
    rest = math.prod(x.shape[2:])
    if name == "group_norm":
        groups = _given(args, kwargs, 1, "num_groups")
        return x.shape[1] // groups * rest if isinstance(groups, int) and groups and x.dim() > 1 else None
    if name == "instance_norm":
        return rest if x.dim() > 2 else None
    if name == "batch_norm" and x.dim() > 1:
        return x.shape[0] * rest if _given(args, kwargs, 5, "training", False) else None
    return None


def _given(args: Sequence[Any], kwargs: dict[str, Any], place: int, name: str, otherwise: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, otherwise)


def reads(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[int]:
    """Return (steps, batch) as a recurrence or an attention over whole sequences takes its input; nothing for others."""
    x = args[0] if args else kwargs.get("query")
    if not isinstance(x, Tensor) or x.dim() != _BATCHED:
        return []
    if name == "multi_head_attention_forward":
        return [x.shape[0], x.shape[1]]
    if name not in GATES or not args or not isinstance(args[-1], bool):  # (a packed sequence has two dimensions)
        return []
    return [x.shape[1], x.shape[0]] if args[-1] else [x.shape[0], x.shape[1]]
