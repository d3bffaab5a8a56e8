"""The place of our function mode on PyTorch's stack of modes: under the user's own modes, and away where it would be noticed.

Under, because a `with` block of the user's takes off whatever lies on top when it ends. Away while one of PyTorch's
transformer layers runs without gradients, because it takes its fused fast path, whose result differs in the last bits,
only where no function mode is seen. The hooks that tell of such layers add a frame to every module's call, so they are
there only where there are such layers. An instance refers to its class: where no class is referred to more often than
before, there is no new one. What `gc.freeze` has set aside is not found by its references, so there may be one in it.
"""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
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
_COUNTED = sysconfig.get_config_var("Py_GIL_DISABLED") != 1  # (without the lock the counts of references are not exact)


_known = 0  # frozen objects of which it is known that none of them is such a layer


class _Here(threading.local):
    """What holds for one thread; each has its own stack of modes."""

    def __init__(self) -> None:
        self.on = False
        self.over = False  # what was left stays left: a mode that could not be taken off the stack is still called
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
        self._looked_at: list[int] = []
        self._found = False  # that there is a layer with a fast path

    def enter(self) -> None:
        """Put the mode on the stack, if it is not there."""
        here = self._here
        if not modes_can_be_moved():
            return
        here.over = False
        if not here.on or here.aside:
            here.aside = []
            self._put()
            here.on = True
        self.heed()

    def heed(self) -> None:
        """Listen to modules from now on, if there are layers with a fast path. Cheap: to be called with every torch call."""
        if self._handles or self._here.over or not self._here.on:
            return
        if not self._found:
            references = _references() if _COUNTED else []
            if _COUNTED and references == self._looked_at:
                return
            self._looked_at = references  # (more of them can also mean that another module names the class)
            self._found = not _COUNTED or gc.get_freeze_count() > _known or _there_is_one()
        if self._found:
            self._handles = [
                register_module_forward_pre_hook(self._before_module),
                register_module_forward_hook(self._after_module, always_call=True),
            ]

    def leave(self) -> None:
        """Take the mode off the stack. From within a call of the mode itself, when it is not on it, it stays in place."""
        here = self._here
        here.over = True
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

    HOOKS = (_before_module, _after_module)

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


def _family() -> list[type]:
    """Return the classes with a fast path and all that are derived from them."""
    found: list[type] = list(_FAST_PATHS)
    for kind in found:
        found += kind.__subclasses__()
    return found


def _references() -> list[int]:
    """Return how often each class of the family is referred to: more often, once there is an instance of it."""
    return [sys.getrefcount(kind) for kind in _family()]


def _there_is_one() -> bool:
    """Whether there is an instance of the family."""
    return any(issubclass(type(r), _FAST_PATHS) for kind in _family() for r in gc.get_referrers(kind))


def set_aside() -> None:
    """Call `gc.freeze`, for a process of our own that looks at many small things: only what comes later is walked through."""
    global _known
    gc.collect()
    none = not _there_is_one()
    gc.freeze()
    if none:
        _known = gc.get_freeze_count()


def _may_be_fused(module: nn.Module, args: tuple[Any, ...]) -> bool:
    """Return whether nothing but a function mode would keep a transformer layer from its fast path."""
    judged = module.layers[0] if isinstance(module, nn.TransformerEncoder) else module  # whose weights PyTorch looks at
    if judged.training:
        return False
    tensors = [*(p for _, p in parameters_within(judged)), *(a for a in args if isinstance(a, Tensor))]
    return not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors)
