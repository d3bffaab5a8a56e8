"""`torch.compile` and the function mode do not go together: Dynamo would trace the mode into the user's graph.

So the watcher listens for the beginning of a compilation (PyTorch's own callback) and steps aside before the first
frame is traced, for good: the graph, its breaks and its numbers are what they are without us. Dynamo is not imported by
us; its callback is registered once the script has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch


def exporting() -> bool:
    """Return whether what is being traced is traced for `torch.export`, whose product this script does not train."""
    told: Callable[[], bool] | None = getattr(torch.compiler, "is_exporting", None)  # (new in PyTorch 2.7)
    return told is not None and told()


class CompileWatch:
    """Calls `begins` when PyTorch begins to compile something.

    Args:
        begins: called at the beginning of each compilation.
    """

    def __init__(self, begins: Callable[[], None]) -> None:
        self._begins = begins
        self._handler: Any = None

    def notice(self) -> None:
        """Register the callback if Dynamo is there by now. Cheap: to be called wherever the watcher wakes."""
        module = sys.modules.get("torch._dynamo.callback")
        handler = getattr(module, "callback_handler", None)
        if handler is not None and (handler is not self._handler or self._callback not in handler.start_callbacks):
            handler.register_start_callback(self._callback)  # (torch._dynamo.reset() clears them)
            self._handler = handler

    def close(self) -> None:
        """Remove the callback."""
        if self._handler is not None and self._callback in self._handler.start_callbacks:
            self._handler.remove_start_callback(self._callback)
        self._handler = None

    def _callback(self, args: Any) -> None:
        self._begins()
