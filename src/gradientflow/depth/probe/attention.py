"""What the softmax inside an attention kernel does, worked out from its queries and keys on a few rows.

`scaled_dot_product_attention` and `multi_head_attention_forward` never show their scores. On a probed step they are
computed once more, for at most `HEADS` heads and `ROWS` queries each, evenly spread: softmax(q·kᵀ·scale + mask).
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gradientflow.depth.probe.stats import ONE_HOT
from gradientflow.depth.probe.tracebacks import let_through

HEADS, ROWS = 16, 32
_MHA = inspect.signature(F.multi_head_attention_forward)


def score_stat(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return the share of one-hot rows and the spread of the scores of an attention call.

    Args:
        name: `scaled_dot_product_attention` or `multi_head_attention_forward`.
        args, kwargs: what it was called with.

    Returns:
        (share of rows whose largest weight is above `ONE_HOT`, standard deviation of the scores within a row). Rows that may
        look at one key only do not count. (None, None) where the call cannot be read.
    """
    with torch.no_grad():
        try:
            found = _kernel(args, kwargs) if name == "scaled_dot_product_attention" else _module(args, kwargs)
            return _measure(*found) if found is not None else (None, None)
        except (RuntimeError, TypeError, KeyError, IndexError) as problem:  # nested tensors, shapes of another version
            let_through(problem)
            return None, None


def _measure(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> tuple[float | None, float | None]:
    """Return (share of one-hot rows, spread of the scores) for queries and keys of shape heads × length × size."""
    heads, length = q.shape[0], q.shape[1]
    which = torch.linspace(0, heads - 1, min(heads, HEADS)).long().to(q.device)
    rows = torch.linspace(0, length - 1, min(length, ROWS)).long().to(q.device)
    some = q.index_select(0, which).index_select(1, rows).float()
    scores = some @ k.index_select(0, which).float().transpose(1, 2) * scale
    if mask is not None:
        scores = scores + mask.index_select(0, which % mask.shape[0]).index_select(1, rows)
    seen = torch.isfinite(scores)
    counts = seen.sum(-1)
    if not bool((counts >= 2).any()):
        return None, None
    top = torch.softmax(scores, -1).amax(-1)[counts >= 2]
    plain = scores.masked_fill(~seen, 0.0)
    mean = plain.sum(-1, keepdim=True) / counts.clamp_min(1).unsqueeze(-1)
    spread = ((plain - mean).masked_fill(~seen, 0.0).square().sum(-1) / counts.clamp_min(1)).sqrt()[counts >= 2]
    return float((top > ONE_HOT).float().mean()), float(spread.mean())


def _kernel(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor, float, Tensor | None] | None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, args, strict=False)) | kwargs
    q, k = given["query"].detach(), given["key"].detach()
    if q.dim() < 3 or q.shape[-3] != k.shape[-3]:  # (grouped queries: fewer heads for the keys)
        return None
    scale = given.get("scale")
    mask = _additive(given.get("attn_mask"), allowed=True)
    if mask is not None:
        mask = mask.expand(*q.shape[:-2], q.shape[-2], k.shape[-2]).reshape(-1, q.shape[-2], k.shape[-2])
    elif given.get("is_causal"):
        mask = _causal(q.shape[-2], k.shape[-2], q)
    q, k = q.reshape(-1, *q.shape[-2:]), k.reshape(-1, *k.shape[-2:])
    return q, k, 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale), mask


def _module(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor, float, Tensor | None] | None:
    given = _MHA.bind(*args, **kwargs)
    given.apply_defaults()
    a = given.arguments
    query, key, heads, size = a["query"].detach(), a["key"].detach(), a["num_heads"], a["query"].shape[-1]
    if query.dim() == 2:
        query, key = query.unsqueeze(1), key.unsqueeze(1)
    if a["use_separate_proj_weight"]:
        wq, wk = a["q_proj_weight"].detach(), a["k_proj_weight"].detach()
    else:
        wq, wk = a["in_proj_weight"].detach()[:size], a["in_proj_weight"].detach()[size : 2 * size]
    bias = a["in_proj_bias"]
    bq, bk = (bias.detach()[:size], bias.detach()[size : 2 * size]) if bias is not None else (None, None)
    q, k = F.linear(query, wq, bq), F.linear(key, wk, bk)  # length, batch, size
    q = q.reshape(q.shape[0], -1, size // heads).transpose(0, 1)
    k = k.reshape(k.shape[0], -1, size // heads).transpose(0, 1)
    mask = _additive(a["attn_mask"], allowed=False)
    if mask is not None and mask.dim() == 2:
        mask = mask.unsqueeze(0)
    return q, k, 1 / math.sqrt(size // heads), mask


def _additive(mask: Tensor | None, *, allowed: bool) -> Tensor | None:
    """Return a mask as what is added to the scores; in a boolean one True means allowed, or forbidden."""
    if mask is None:
        return None
    mask = mask.detach()
    if mask.dtype != torch.bool:
        return mask.float()
    forbidden = ~mask if allowed else mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(forbidden, -math.inf)


def _causal(rows: int, columns: int, like: Tensor) -> Tensor:
    above = torch.ones(rows, columns, dtype=torch.bool, device=like.device).triu(1)
    return torch.zeros(1, rows, columns, device=like.device).masked_fill(above, -math.inf)
