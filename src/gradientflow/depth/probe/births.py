"""Where parameters and optimizers are born: read while the script builds its model, before the first step.

Uses PyTorch's own parameter-registration hook for modules, and what the function mode sees for everything else:
`torch.nn.init` calls, in-place writes to a parameter, plain tensors that are made to require grad, and the look that
every optimizer takes at its parameters when it is made.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.probe.frames import OURS, TORCH, Where, classify, locate
from gradientflow.depth.probe.registry import Registry
from gradientflow.ops import writes
from gradientflow.torch_internals import (
    initialises,
    is_compiler_module,
    layer_being_reset,
    optimizer_being_made,
    readable,
)

IS_LEAF = Tensor.is_leaf.__get__  # type: ignore[attr-defined]


class Births:
    """Records the lines where parameters are made and initialised and where optimizers are made."""

    def __init__(self, registry: Registry, shield: Callable[..., Any]) -> None:
        self.registry = registry
        self.shield = shield
        self.optimizers: dict[int, tuple[weakref.ref[Any], str | None, int | None]] = {}
        self.modules: dict[int, tuple[str | None, int | None, str]] = {}
        self.trained = False  # backward was called: what is written into a parameter from now on is no initialisation
        self._handles: list[Any] = []
        self._awake: Callable[[], None] | None = None
        self._compiled: Callable[[], None] | None = None

    def open(self, awake: Callable[[], None] | None = None, compiled: Callable[[], None] | None = None) -> None:
        """Begin to listen for what modules register; `awake` is called each time one does, `compiled` when it is a
        module that `torch.compile` or a strict `torch.export` made, about to be traced.
        """
        self._awake = awake
        self._compiled = compiled
        hooks = torch.nn.modules.module
        self._handles = [
            hooks.register_module_parameter_registration_hook(partial(self.shield, self._registered)),
            hooks.register_module_module_registration_hook(partial(self.shield, self._contained)),
        ]

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _registered(self, module: torch.nn.Module, name: str, param: Any) -> None:
        if self._awake is not None:
            self._awake()
        if isinstance(param, Tensor) and (param.is_meta or readable(param)):
            self.registry.made(param, locate(3, modules=False, limit=1), (module, name))

    def _contained(self, module: torch.nn.Module, name: str, child: Any) -> None:
        if self._awake is not None:
            self._awake()
        if self._compiled is not None and is_compiler_module(module):
            self._compiled()
        if child is not None and id(child) not in self.modules:
            where = locate(3, modules=False, limit=1)
            self.modules[id(child)] = (where.file, where.line, name)

    HOOKS = (_registered, _contained)

    def see(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Look at one torch call made while the model is built."""
        if func == IS_LEAF:
            self.look_for_optimizer()
            return
        first = args[0] if args else kwargs.get("tensor")
        target = first if isinstance(first, Tensor) else None
        module = getattr(func, "__module__", "") or ""
        if target is not None and (module == "torch.nn.init" or writes(name)):
            if name == "requires_grad_":
                if target.is_leaf and target.requires_grad:
                    self.registry.made(target, locate(3, modules=False, limit=1))
                return
            where = locate(3, modules=False, limit=1)
            if where.file is not None and not self.trained and not _by_torch_itself():
                self.registry.initialised(target, _init_function() or name, where)
        elif isinstance(out, Tensor) and out.is_leaf and out.requires_grad and self.registry.find(out) is None:
            self.registry.made(out, locate(3, modules=False, limit=1))

    def look_for_optimizer(self) -> None:
        """Somebody asks whether a tensor is a leaf: see whether it is an optimizer that is being made, and where."""
        optimizer = optimizer_being_made()
        if optimizer is not None and self._known(optimizer) is None:
            where: Where = locate(3, modules=False, limit=1)
            self.optimizers[id(optimizer)] = (weakref.ref(optimizer), where.file, where.line)

    def made(self, optimizer: Any) -> tuple[str | None, int | None]:
        """Return the line that made an optimizer, where it was seen."""
        found = self._known(optimizer)
        return (None, None) if found is None else found[1:]

    def _known(self, optimizer: Any) -> tuple[weakref.ref[Any], str | None, int | None] | None:
        found = self.optimizers.get(id(optimizer))  # (a later one may have come to lie where another was)
        return found if found is not None and found[0]() is optimizer else None


def _by_torch_itself() -> bool:
    """Return whether a layer's own default initialisation is running (not one that the user wrote)."""
    frame = layer_being_reset()
    return frame is not None and classify(frame.f_code) == TORCH


def _init_function() -> str | None:
    """Return the torch.nn.init function that is running, as the user called it."""
    frame: FrameType | None = sys._getframe(1)
    name = None
    while frame is not None:
        if initialises(frame.f_code):
            name = frame.f_code.co_name
        elif name is not None or classify(frame.f_code) not in (OURS, TORCH):
            break
        frame = frame.f_back
    return name
