"""The place of our function mode on PyTorch's stack of modes: under the user's own modes, and away where it would be noticed.

Under, because a `with` block of the user's takes off whatever lies on top when it ends. Away while one of PyTorch's
transformer layers runs without gradients, because it takes its fused fast path, whose result differs in the last bits,
only where no function mode is seen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from gradientflow.torch_internals import (
    function_modes,
    is_default_device,
    modes_can_be_moved,
    parameters_within,
    set_function_modes,
)

_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


class _Here(threading.local):
    """What holds for one thread; each has its own stack of modes."""

    def __init__(self) -> None:
        self.on = False
        self.aside: list[nn.Module] = []


class Post:
    """Puts a function mode on this thread's stack and takes it off again.

    Args:
        mode: our mode.
        shield: protects the script from us.
    """

    def __init__(self, mode: TorchFunctionMode, shield: Callable[..., Any]) -> None:
        self._mode = mode
        self._shield = shield
        self._here = _Here()
        self._pid = os.getpid()
        self._handles: list[Any] = []

    def enter(self) -> None:
        """Put the mode on the stack, if it is not there."""
        here = self._here
        if not modes_can_be_moved():
            return
        if not here.on or here.aside:
            here.aside = []
            self._put()
            here.on = True
        if not self._handles:
            self._handles = [
                register_module_forward_pre_hook(self._before_module),
                register_module_forward_hook(self._after_module, always_call=True),
            ]

    def leave(self) -> None:
        """Take the mode off the stack. From within a call of the mode itself, when it is not on it, it stays in place."""
        here = self._here
        if here.on and (here.aside or self._take()):
            here.on, here.aside = False, []
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before_module(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, _FAST_PATHS) and self._here.on:
            if os.getpid() != self._pid:
                self.leave()
            else:
                self._shield(self._step_aside, module, args)

    def _after_module(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        aside = self._here.aside
        if aside and aside[-1] is module:
            aside.pop()
            self._put()

    def _step_aside(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not self._here.aside and _may_be_fused(module, args) and self._take():
            self._here.aside.append(module)

    def _put(self) -> None:
        there = [mode for mode in function_modes() if mode is not self._mode]
        place = 1 if there and is_default_device(there[0]) else 0
        set_function_modes([*there[:place], self._mode, *there[place:]])

    def _take(self) -> bool:
        there = function_modes()
        kept = [mode for mode in there if mode is not self._mode]
        if len(kept) == len(there):
            return False
        set_function_modes(kept)
        return True


def _may_be_fused(module: nn.Module, args: tuple[Any, ...]) -> bool:
    """Return whether nothing but a function mode would keep a transformer layer from its fast path."""
    judged = module.layers[0] if isinstance(module, nn.TransformerEncoder) else module  # whose weights PyTorch looks at
    if judged.training:
        return False
    tensors = [*(p for _, p in parameters_within(judged)), *(a for a in args if isinstance(a, Tensor))]
    return not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors)
