"""Looks of the app's, one at a time: a probe listens to PyTorch as a whole, so no training of ours runs in the meantime."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import nn

from gradientflow.depth.look.diagnose import diagnose
from gradientflow.depth.look.diagnosis import Diagnosis
from gradientflow.depth.look.question import Loss
from gradientflow.depth.probe.frames import USER, classify, is_ours
from gradientflow.depth.watch.post import set_aside

ALONE = threading.RLock()
_settled = False


def diagnose_alone(model: nn.Module | Callable[[], nn.Module], loss: Loss, batch: Any) -> Diagnosis:
    """Look once, as `diagnose` does, while nobody else of the app looks or trains."""
    _nobodys(sys._getframe(1))
    with ALONE:
        found = diagnose(model, loss, batch)
        _settle()
    return found


def _nobodys(caller: FrameType | None) -> None:
    """See that no operation is told to be on a line of the library that runs our thread, where no line of the user's called us."""
    frames = []
    while caller is not None:
        frames.append(caller.f_code)
        caller = caller.f_back
    if all(classify(code) != USER for code in frames):
        for code in frames:
            is_ours(code)


def _settle() -> None:
    """Set what the process holds behind the first look aside from the collector: each look goes through all that is not."""
    global _settled
    if not _settled:
        set_aside()
        _settled = True
