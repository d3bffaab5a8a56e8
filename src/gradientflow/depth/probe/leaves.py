"""The numbers of very many small tensors at once: a call for each is what a model of ten thousand parameters costs.

They are the numbers of `stats`, up to the rounding of sums; tensors whose numbers are not ordinary go there one by one.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from gradientflow import garbage
from gradientflow.depth.probe.stats import TINY, grad_stat, value_stat
from gradientflow.limits import Limit
from gradientflow.records import GradStat, ValueStat

MANY = Limit("leaves", 1000, "chosen: more parameters than ordinary models have, which are measured one by one")
SMALL = 1 << 14  # entries; a larger tensor is worth a call of its own
_AT_ONCE = 1 << 20  # entries that are put together
_Stat = TypeVar("_Stat", ValueStat, GradStat)


def uncollected(leaves: int) -> AbstractContextManager[None]:
    """A block in which no garbage is collected, where very many leaves are gone through.

    What is made and dropped within it would have all objects of the script looked through, several times.

    Args:
        leaves: how many there are.
    """
    return garbage.uncollected() if leaves > MANY else contextlib.nullcontext()


def is_small(t: Tensor) -> bool:
    """Whether a tensor can be put together with others of its kind."""
    return (
        type(t) in (Tensor, Parameter)
        and t.layout is torch.strided
        and t.is_floating_point()
        and 0 < t.numel() <= SMALL
    )


def value_stats(tensors: Sequence[Tensor]) -> list[ValueStat]:
    """Return what `value_stat` tells of each tensor.

    Args:
        tensors: values that no operation is named for: parameters.

    Returns:
        Their statistics, in order.
    """

    def read(x: Tensor) -> Tensor:
        std, mean = torch.std_mean(x, dim=1, correction=0)
        low, high = torch.aminmax(x, dim=1)
        return torch.stack([mean, std, low, high, torch.count_nonzero(x, dim=1).to(x.dtype)], 1)

    def told(t: Tensor, row: list[float]) -> ValueStat | None:
        mean, std, low, high, nonzero = row
        if not all(map(math.isfinite, row)):
            return None
        dtype = str(t.dtype).removeprefix("torch.")
        return ValueStat(list(t.shape), dtype, mean, std, low, high, 1.0 - nonzero / t.numel(), 0, 0)

    return _of_all(tensors, read, told, value_stat)


def grad_stats(tensors: Sequence[Tensor]) -> list[GradStat]:
    """Return what `grad_stat` tells of each tensor.

    Args:
        tensors: gradients.

    Returns:
        Their statistics, in order.
    """

    def read(x: Tensor) -> Tensor:
        norm, top = (torch.linalg.vector_norm(x, ord=order, dim=1) for order in (2, math.inf))
        return torch.stack([norm, top, torch.count_nonzero(x, dim=1).to(x.dtype)], 1)

    def told(t: Tensor, row: list[float]) -> GradStat | None:
        norm, top, nonzero = row
        if not math.isfinite(norm) or (top > 0 and norm < TINY):
            return None
        n = t.numel()
        return GradStat(norm, norm / math.sqrt(n), top, 1.0 - nonzero / n, 0, 0)

    return _of_all(tensors, read, told, grad_stat)


def _of_all(
    tensors: Sequence[Tensor],
    read: Callable[[Tensor], Tensor],
    told: Callable[[Tensor, list[float]], _Stat | None],
    each: Callable[[Tensor], _Stat],
) -> list[_Stat]:
    alike: dict[Any, list[int]] = defaultdict(list)
    for i, t in enumerate(tensors):
        if is_small(t):
            alike[t.shape, t.dtype, t.device].append(i)
    found: dict[int, _Stat] = {}
    with torch.no_grad():
        for places in alike.values():
            step = max(1, _AT_ONCE // tensors[places[0]].numel())
            for start in range(0, len(places), step):
                some = places[start : start + step]
                x = torch.stack([tensors[i].detach() for i in some]).reshape(len(some), -1)
                rows = read(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).tolist()
                for i, row in zip(some, rows, strict=True):
                    stat = told(tensors[i], row)
                    if stat is not None:
                        found[i] = stat
    return [found[i] if i in found else each(t) for i, t in enumerate(tensors)]
