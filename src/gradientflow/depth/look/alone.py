"""Looks of the app's, one at a time: a probe listens to PyTorch as a whole, so no training of ours runs in the meantime."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import nn

from gradientflow.depth.look.diagnose import diagnose
from gradientflow.depth.look.diagnosis import Diagnosis
from gradientflow.depth.look.question import Loss
from gradientflow.depth.watch.post import set_aside

ALONE = threading.RLock()
_settled = False


def diagnose_alone(model: nn.Module | Callable[[], nn.Module], loss: Loss, batch: Any) -> Diagnosis:
    """Look once, as `diagnose` does, while nobody else of the app looks or trains."""
    with ALONE:
        found = diagnose(model, loss, batch)
        _settle()
    return found


def _settle() -> None:
    """Set what the process holds behind the first look aside from the collector: each look goes through all that is not."""
    global _settled
    if not _settled:
        set_aside()
        _settled = True
