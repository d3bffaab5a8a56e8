"""At which line a running operation stands, told as the records tell it, and whether a change is meant for that line.

An operation in a module's own code stands where it is written; a ready-made layer that the code only reaches by calling the
model or a container stands where the layer was made (`causes.places.of_op` says the same of a record).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.causes import places
from gradientflow.depth.probe.frames import locate
from gradientflow.records import Place
from gradientflow.torch_internals import parameters_of

_Made = tuple[str | None, int | None, str]
_Line = tuple[str | None, int | None]


class Sites:
    """The lines of layers and parameters, listened for while the script makes them."""

    def __init__(self) -> None:
        self._modules: dict[int, _Made] = {}
        self._params: dict[int, _Line] = {}
        self._owners: list[tuple[weakref.ref[torch.nn.Module], str]] = []
        self._resolved: dict[int, _Line] = {}
        self._texts: dict[str, str] = {}
        self._handles: list[Any] = []

    def open(self) -> None:
        """Begin to listen for what modules register."""
        hooks = torch.nn.modules.module
        self._handles = [
            hooks.register_module_module_registration_hook(self._contained),
            hooks.register_module_parameter_registration_hook(self._registered),
        ]

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _contained(self, module: torch.nn.Module, name: str, child: Any) -> None:
        if child is not None and id(child) not in self._modules:
            where = locate(2, modules=False, limit=1)
            self._modules[id(child)] = (where.file, where.line, name)

    def _registered(self, module: torch.nn.Module, name: str, param: Any) -> None:
        if isinstance(param, Tensor) and id(param) not in self._params:
            where = locate(2, modules=False, limit=1)
            self._params[id(param)] = (where.file, where.line)
            self._owners.append((weakref.ref(module), name))

    def parameters(self) -> Iterator[Tensor]:
        """Yield every module's parameters that are still there, each once."""
        seen: set[int] = set()
        for ref, name in self._owners:
            module = ref()
            param = parameters_of(module).get(name) if module is not None else None
            if param is not None and id(param) not in seen:
                seen.add(id(param))
                yield param

    def made(self, param: Tensor) -> _Line:
        """Return the line that made a module's parameter; (None, None) where it was not seen."""
        return self._params.get(id(param), (None, None))

    def here(self, depth: int = 2) -> _Line:
        """Return the line of the torch call that is running, as `Place.file` and `Place.line` name it."""
        where = locate(depth, limit=1)
        if where.modules and (where.ready or not where.inside):
            made = self._resolve(where.modules[0])
            if made[0] is not None:
                return made
        return where.file, where.line

    def matches(self, wanted: Sequence[Place], name: str, depth: int = 3) -> bool:
        """Whether the torch call that is running, of a plain name, stands at one of the places (at any, where none is given)."""
        if not wanted:
            return True
        if not any(p.op is None or p.op == name for p in wanted):
            return False
        here = self.here(depth)
        return any((p.op is None or p.op == name) and (p.file, p.line) == here for p in wanted)

    def _resolve(self, module: torch.nn.Module) -> _Line:
        found = self._resolved.get(id(module))
        if found is None:
            file, line, key = self._modules.get(id(module), (None, None, ""))
            if file is not None:
                text = self._text(file)
                line = places.element_line(text, line, key) or places.by_class(text, type(module).__name__) or line
            found = self._resolved[id(module)] = (file, line)
        return found

    def _text(self, file: str) -> str:
        if file not in self._texts:
            try:
                with open(file, encoding="utf-8", errors="replace") as source:
                    self._texts[file] = source.read()
            except OSError:
                self._texts[file] = ""
        return self._texts[file]
