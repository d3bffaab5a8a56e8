"""What a torch call is made of: the tensors and numbers among its arguments."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.graph import Node


def grad_fn(t: Tensor) -> Node | None:
    """Return a tensor's autograd node; None also for views that PyTorch refuses to differentiate."""
    if not t.requires_grad:
        return None
    try:
        return t.grad_fn
    except RuntimeError:  # a view made under no_grad whose base was written to since
        return None


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, one level of lists and tuples deep."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        found: list[Tensor] = []
        for entry in value:
            if isinstance(entry, Tensor):
                found.append(entry)
            elif isinstance(entry, (list, tuple)):
                found.extend(t for t in entry if isinstance(t, Tensor))
        return found
    return []


_MASKS = ("attn_mask", "key_padding_mask", "mask", "src_mask", "src_key_padding_mask")


def masks(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> list[Tensor]:
    """Return the tensors that a call was given as masks: by their names, or by their place in an attention kernel."""
    given = [kwargs.get(word) for word in _MASKS]
    if name == "scaled_dot_product_attention":
        given += args[3:4]
    return [t for t in given if isinstance(t, Tensor)]


def scalars(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[float]:
    """Return the first few plain numbers among a call's arguments."""
    values = [*args, *kwargs.values()]
    return [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)][:6]
