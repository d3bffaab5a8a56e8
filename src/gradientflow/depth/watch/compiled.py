"""`torch.compile` and the function mode do not go together: Dynamo would trace the mode into the user's graph.

So the watcher listens for the beginning of a compilation (PyTorch's own callback) and steps aside before the first
frame is traced, for good: the graph, its breaks and its numbers are what they are without us. Dynamo is not imported by
us; its callback is registered once the script has imported it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradientflow.torch_internals import no_more_compiling, when_compiling


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
        self._handler = when_compiling(self._callback, self._handler)

    def close(self) -> None:
        """Remove the callback."""
        no_more_compiling(self._callback, self._handler)
        self._handler = None

    def _callback(self, *told: Any) -> None:
        self._begins()
