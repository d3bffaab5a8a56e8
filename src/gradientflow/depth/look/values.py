"""The values of one tensor, kept and put back: strided, overlapping, sparse, quantised, or none at all (meta)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def values(t: Tensor) -> Callable[[], None]:
    """Keep a tensor's values; what is returned writes them back, but only where they differ.

    So a tensor that nobody touched is not touched by us, and what shares its memory is as it was too. Nothing is written that
    autograd would see: a backward pass that is under way goes on.

    Raises:
        Exception: whatever PyTorch says of a kind of tensor that it cannot copy.
    """
    memory = t.data if not t.is_inference() else t.detach()  # the memory as it is now, also if `t` is given another
    parts = [(window, _copied(window)) for window in _windows(memory)]
    shape = _shape(t)

    def put_back() -> None:
        with torch.no_grad(), torch.inference_mode(t.is_inference()):
            if _shape(t) != shape:
                t.data = memory
            for window, copy in parts:
                if not _same(window, copy):
                    window.copy_(copy)

    return put_back


def _windows(t: Tensor) -> list[Tensor]:
    """Return tensors over the memory of one, each of which can be read and written as a whole."""
    if t.is_meta:
        return []
    if t.layout == torch.sparse_coo:
        return [t._indices(), t._values()]
    if t.layout in _COMPRESSED:
        rows = t.layout in (torch.sparse_csr, torch.sparse_bsr)
        return (
            [t.crow_indices(), t.col_indices(), t.values()] if rows else [t.ccol_indices(), t.row_indices(), t.values()]
        )
    if (
        t.layout == torch.strided and not t.is_nested and _overlaps(t)
    ):  # expanded, say: an entry stands in several places
        span = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
        return [t.as_strided((span,), (1,))]
    return [t]


def _overlaps(t: Tensor) -> bool:
    """Whether two entries of a tensor may lie at one place."""
    reach = 0  # of the dimensions so far, from the first entry to the last
    for stride, size in sorted(zip(t.stride(), t.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return t.numel() > 0
            reach += (size - 1) * stride
    return False


def _copied(t: Tensor) -> Tensor:
    with torch.no_grad():
        return t.detach().clone()


def _shape(t: Tensor) -> tuple[object, ...]:
    """Return what a tensor is apart from its values: where its memory is, and how it is read."""
    if t.is_nested:
        return (t.layout, t.dtype, t.device)
    kind = (t.layout, t.dtype, t.device, t.shape)
    if t.layout == torch.sparse_coo and not t.is_meta:
        return (*kind, t.is_coalesced(), t._indices().data_ptr(), t._values().data_ptr())
    if t.layout in _COMPRESSED and not t.is_meta:
        return (*kind, t.values().data_ptr())
    return (*kind, t.stride(), t.data_ptr()) if t.layout == torch.strided else kind


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to the bit (a NaN equals itself)."""
    if a.is_quantized:
        return bool(torch.equal(a.int_repr(), b.int_repr()))
    if a.layout != torch.strided or a.is_nested:
        return False
    wide = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(a.element_size())
    if a.is_complex():
        return _same(*(torch.view_as_real(c.resolve_conj()) for c in (a, b)))
    if wide is None:
        return bool(torch.equal(a, b))
    return bool(torch.equal(a.contiguous().view(wide), b.contiguous().view(wide)))
