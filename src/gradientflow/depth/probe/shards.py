"""Parameters that are shared out among processes (FSDP2, tensor parallel): the part of each that lies in this one.

A number of all of such a tensor takes a collective, which every process has to join at the same moment. Probes fall on different
steps in different processes, so one of ours would make them wait for each other for good: nothing is ever computed with
the distributed tensor itself, only with the part that is here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from gradientflow.torch_internals import parameters_of


def is_shared_out(t: Tensor) -> bool:
    """Whether a tensor is distributed among processes."""
    kind = type(t)
    if kind is Tensor or kind is Parameter:  # (as a rule: the short way)
        return False
    distributed = _known("torch.distributed.tensor", "DTensor")
    return distributed is not None and isinstance(t, distributed)


def local(t: Tensor) -> Tensor:
    """Return the part of a distributed tensor that lies in this process, a view; any other tensor as it is."""
    if not is_shared_out(t):
        return t
    with torch.no_grad():
        part: Any = t.to_local()  # type: ignore[attr-defined]
    return part.wait() if hasattr(part, "wait") else part  # type: ignore[no-any-return]


def shares_out(modules: Iterable[Module]) -> bool:
    """Whether one of these modules, or a parameter of its own, is shared out: a pass over its graph then takes collectives."""
    kinds = tuple(
        kind
        for kind in (_known("torch.distributed.fsdp", n) for n in ("FSDPModule", "FullyShardedDataParallel"))
        if kind
    )
    if not kinds and _known("torch.distributed.tensor", "DTensor") is None:
        return False
    return any(
        isinstance(m, kinds) or any(is_shared_out(p) for p in parameters_of(m).values() if p is not None)
        for m in modules
    )


def takes_turns() -> bool:
    """Whether a module's parameters may be exchanged for others and back (FSDP2: the shard, and all of it while it is used)."""
    distributed = torch.distributed
    return (
        _known("torch.distributed.fsdp", "FSDPModule") is not None
        and distributed.is_available()
        and distributed.is_initialized()
    )


def freed(t: Tensor) -> bool:
    """Whether the memory of a tensor was given back (FSDP does that with what it has gathered, when it was used)."""
    return type(t) in (Tensor, Parameter) and not t.is_sparse and t.numel() > 0 and t.untyped_storage().size() == 0


def _known(module: str, name: str) -> Any:
    """A class of a part of PyTorch that is not loaded by us: not there means not in use."""
    return getattr(sys.modules.get(module), name, None)
