"""Which call of the script's writes weights? Asked only once it is known that something other than an optimizer does.

The function mode then stays on the stack where nothing is traced (through steps of a probed window, or between two steps), and
each call that may write to the memory of a watched parameter is held against what stood there before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.probe import calls
from gradientflow.depth.probe.frames import TORCH, USER, classify
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.shards import local
from gradientflow.depth.watch.transmission import called_by
from gradientflow.limits import Limit
from gradientflow.ops import writes
from gradientflow.torch_internals import readable

WINDOWS = Limit(
    "steps_of_a_search", 200, "chosen: some microseconds for each call of PyTorch's, in so many steps at most"
)
SEARCHES = Limit("searches", 3, "chosen: what writes past PyTorch (through numpy) is not found by looking more often")
_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
_ENTRIES = 1 << 16  # of a parameter, that are held against what they were
_OPTIMIZERS = os.path.join(os.path.dirname(torch.__file__), "optim", "")

Line = tuple[str, str | None, int | None]  # what was called, in which file, on which line


class Writers:
    """Finds the calls that write to some parameters.

    Args:
        registry: who is who among them.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, registry: Registry, shield: Callable[..., Any]) -> None:
        self._registry = registry
        self._shield = shield
        self._memory: dict[int, list[int]] = {}  # where a parameter's numbers lie -> parameters
        self._found: dict[Line, float] = {}

    def watch(self, params: Iterable[int]) -> None:
        """Begin to watch these parameters, and forget what was found."""
        self._memory, self._found = {}, {}
        for index in params:
            t = self._registry.tensor(index)
            if t is not None and readable(t) and not t.is_sparse:
                self._memory.setdefault(local(t).untyped_storage().data_ptr(), []).append(index)

    def found(self) -> Line | None:
        """Return the call that changed most since `watch`; None where none was seen."""
        return max(self._found, key=self._found.__getitem__) if self._found else None

    def watched(self, func: Callable[..., Any], args: tuple[Any, ...], run: Callable[[], Any], out: Any = None) -> Any:
        """Run a call, and note its line where it changes a watched parameter.

        Args:
            func: what is called, with `args`.
            run: makes the call.
            out: what the call was told to write to.
        """
        raw = getattr(func, "__name__", "")
        sets = raw == "__set__" and func == _SET_DATA
        if not (sets or writes(raw) or out is not None):
            return run()
        frame = sys._getframe(1)
        before = self._shield(self._before, calls.tensors([*args[:1], out]), frame)
        result = run()
        if before:
            self._shield(self._note, raw, before, frame)
        return result

    def _before(self, tensors: list[Tensor], frame: FrameType) -> dict[int, Tensor]:
        """Return the numbers of the parameters that a call may write to; none where the call is an optimizer's own."""
        wanted = {local(t).untyped_storage().data_ptr() for t in tensors if not t.is_sparse and readable(t)}
        indices = [i for at in wanted & self._memory.keys() for i in self._memory[at]]
        if not indices or _an_optimizers(frame):
            return {}
        return {i: t for i in indices if (t := self._numbers(i)) is not None}

    def _numbers(self, index: int) -> Tensor | None:
        t = self._registry.tensor(index)
        if t is None or not readable(t):
            return None
        with torch.no_grad():
            flat = local(t.detach()).reshape(-1)
            start = max(0, flat.numel() // 2 - _ENTRIES // 2)
            return flat[start : start + _ENTRIES].clone()

    def _note(self, raw: str, before: dict[int, Tensor], frame: FrameType) -> None:
        changed = 0.0
        for index, old in before.items():
            new = self._numbers(index)
            if new is None or new.shape != old.shape or torch.equal(new, old):
                continue
            changed += float((new.double() - old.double()).norm()) if not old.is_complex() else 1.0
            t = self._registry.tensor(index)
            if t is not None:  # (that may lie elsewhere now)
                self._memory.setdefault(local(t).untyped_storage().data_ptr(), []).append(index)
        if changed:
            name, file, line = called_by(frame, raw)
            if file is not None:
                found = "data = …" if raw == "__set__" else name, file, line
                self._found[found] = self._found.get(found, 0.0) + changed


def _an_optimizers(frame: FrameType | None) -> bool:
    """Whether a call comes from an optimizer's own code, by no function of the script's."""
    while frame is not None:
        owner = classify(frame.f_code)
        if owner == USER:
            return False
        if owner == TORCH and frame.f_code.co_filename.startswith(_OPTIMIZERS):
            return True
        frame = frame.f_back
    return False
