"""The buffers of the modules that ran on a probed step: are they finite?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gradientflow.records import Buffers
from gradientflow.torch_internals import buffers_of, modules_within, readable

_MOST = 512  # buffers that are looked at
_ENTRIES = 1 << 22  # together


def buffers_within(roots: Iterable[tuple[torch.nn.Module, Any]]) -> Buffers | None:
    """Look at every buffer of numbers in these modules, as far as there is room.

    Args:
        roots: the outermost modules, each with where it was called.

    Returns:
        How many there are and the names of those that are not finite; None where there is none.
    """
    count, room = 0, _ENTRIES
    bad: list[str] = []
    with torch.no_grad():
        for root, _ in roots:
            for name, module in modules_within(root):
                for key, b in buffers_of(module).items():
                    if not isinstance(b, Tensor) or not readable(b) or not (b.is_floating_point() or b.is_complex()):
                        continue
                    if b.is_sparse or count >= _MOST or b.numel() > room:
                        continue
                    count, room = count + 1, room - b.numel()
                    if not bool(torch.isfinite(b).all()):
                        bad.append(".".join(part for part in (name, key) if part))
    return Buffers(count, bad) if count else None
