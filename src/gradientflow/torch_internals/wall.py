"""What a private name of PyTorch is to us: looked up once, asked without ever raising, told where it is lost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


@dataclass
class Internal:
    """One private name of PyTorch.

    Args:
        name: dotted, from `torch` on.
        purpose: what we ask it for.
        without: what is not seen, or how else it is done, where it is missing.
        lazy: it lives in a part of PyTorch that is not loaded by us: not there means not in use.
    """

    name: str
    purpose: str
    without: str
    lazy: bool = False
    broken: str = ""
    _value: Any = field(default=None, repr=False)
    _looked: bool = field(default=False, repr=False)

    @property
    def value(self) -> Any:
        """What the name stands for; None where PyTorch has no such name, or where it failed us before."""
        if self.broken:
            return None
        if not self._looked or (self.lazy and self._value is None):
            self._looked = True
            self._value = _resolve(self.name)
            if self._value is None and not self.lazy:
                self.broken = "is missing"
        return self._value

    def ask(self, default: Any, *args: Any) -> Any:
        """Return what the function of this name gives, or `default` where it is missing or fails."""
        function = self._value  # (asked of every tensor of every step: the short way first)
        if function is None or self.broken:
            function = self.value
            if function is None:
                return default
        try:
            return function(*args)
        except Exception as problem:
            if _handled_elsewhere(problem, function):
                raise
            self._failed(problem)
            return default

    def _failed(self, problem: Exception) -> None:
        self.broken = f"failed ({type(problem).__name__}: {problem})"


def any_says(internals: Sequence[Internal], thing: Any) -> bool:
    """Whether one of these functions says yes of a thing; one that is missing or fails says no.

    As asking each of them, without a call in between: it is what most of the time of the cheap tier goes into.
    """
    for one in internals:
        function = one._value
        if function is None or one.broken:
            function = one.value
        try:
            if function is not None and function(thing):
                return True
        except Exception as problem:
            if _handled_elsewhere(problem, function):
                raise
            one._failed(problem)
    return False


_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def _handled_elsewhere(problem: Exception, function: Any) -> bool:
    """Whether an exception is not the function's: one that a signal handler of the script's raised while it ran."""
    at = problem.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None or at.tb_frame.f_code is getattr(function, "__code__", None):
        return False
    return not at.tb_frame.f_code.co_filename.startswith(_OWN)


def _resolve(name: str) -> Any:
    """Look a dotted name up among what is loaded; nothing is imported."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is not None:
            for part in parts[
                cut:
            ]:  # (asking `torch` itself for a name may load the compiler: only what is there counts)
                found = vars(found).get(part) if isinstance(found, ModuleType) else getattr(found, part, None)
            return found
    return None


INTERNALS: dict[str, Internal] = {}


def lean_on(name: str, purpose: str, without: str, lazy: bool = False) -> Internal:
    found = INTERNALS[name] = Internal(name, purpose, without, lazy)
    if not lazy:  # now, ahead of the script, which may put something of its own in its place
        found._value = _resolve(name)
        found._looked = found._value is not None
    return found


def lost() -> list[str]:
    """Return a sentence for each private name that PyTorch lacks or changed, with what is not seen because of it."""
    for internal in INTERNALS.values():
        _ = internal.value
    return [
        f"PyTorch {torch.__version__}: {i.name} {i.broken}, so {i.without}." for i in INTERNALS.values() if i.broken
    ]
