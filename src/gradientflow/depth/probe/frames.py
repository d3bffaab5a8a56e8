"""Where in the user's code something happens: the stack, read from inside a torch call.

A frame is *ours* (gradientflow), *torch's*, a *library's* (installed packages, the standard library) or the *user's*.
An operation's place is the innermost user frame; with no user frame, the innermost library frame. Modules are found on
the way: every `torch.nn.Module.__call__` leaves a frame whose `self` is the module.
"""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch

from gradientflow.files import here
from gradientflow.torch_internals import calls_module, runs_checkpoint

_TORCH = os.path.dirname(torch.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_LIBRARIES = tuple(
    {
        os.path.join(path, "")
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_paths().get(key))
    }
)
_TYPED = (
    "<stdin>",
    "<python-input-",
    "<ipython-input-",
    "<doctest ",
    "<console>",
    "<input>",
)  # at a prompt, by the user

OURS, TORCH, LIBRARY, USER = range(4)
_class_of: dict[CodeType, int] = {}
_name_of: dict[CodeType, str] = {}
_base = str(here())


def set_base(folder: str) -> None:
    """Name files below `folder` relative to it from now on (the working directory the script began in)."""
    global _base
    _base = folder
    _name_of.clear()


def file_name(code: CodeType) -> str:
    """Return a code object's file as records name it: relative to the base folder where it lies below it."""
    name = _name_of.get(code)
    if name is None:
        name = code.co_filename
        if os.path.isabs(name) and name.startswith(os.path.join(_base, "")):
            name = os.path.relpath(name, _base)
        _name_of[code] = name
    return name


def classify(code: CodeType) -> int:
    """Return whose code this is: OURS, TORCH, LIBRARY or USER (cached per code object)."""
    found = _class_of.get(code)
    if found is None:
        name = code.co_filename
        if name.startswith(_TORCH):
            found = TORCH
        elif name.startswith(_OURS):
            found = OURS
        elif name.startswith(_TYPED) or (name == "<string>" and not code.co_name.startswith("__")):
            found = (
                USER  # "<string>" is `python -c`; a special method there is generated, by dataclasses and their like
            )
        elif name.startswith("<") or name.startswith(_LIBRARIES) or "site-packages" in name:
            found = LIBRARY
        else:
            found = USER
        _class_of[code] = found
    return found


def is_ours(code: CodeType) -> None:
    """Take a code object for ours, whatever file it names."""
    _class_of[code] = OURS


@dataclass(slots=True)
class Where:
    """A place in the running program, innermost user line first in `stack`."""

    file: str | None = None
    line: int | None = None
    function: str | None = None
    stack: list[tuple[str, int]] = field(default_factory=list)
    modules: list[Any] = field(default_factory=list)  # torch.nn.Module, innermost first
    frame: FrameType | None = None  # innermost user frame; dropped once names were read
    checkpointed: bool = False
    inside: bool = False  # the user's line runs inside a module's forward
    ready: bool = False  # the line only calls a container of ready-made layers, or a ready-made recurrence


def locate(depth: int = 1, *, modules: bool = True, limit: int = 8) -> Where:
    """Walk the stack outwards and return the place of the user's line.

    Args:
        depth: frames to skip.
        modules: also collect the modules whose `__call__` is on the stack.
        limit: number of user frames kept in `stack`.
    """
    where = Where()
    frame: FrameType | None = sys._getframe(depth)
    fallback: tuple[str, int, str] | None = None
    while frame is not None:
        code = frame.f_code
        owner = classify(code)
        if owner == USER:
            if where.file is None:
                where.file, where.line, where.function = file_name(code), frame.f_lineno, code.co_qualname
                where.frame = frame
                where.ready = _ready_made(where.modules)
            if len(where.stack) < limit:
                where.stack.append((file_name(code), frame.f_lineno or 0))
        elif owner == TORCH:
            if runs_checkpoint(code):
                where.checkpointed = True
            elif modules and calls_module(code):
                module = frame.f_locals.get("self")
                if module is not None and (not where.modules or where.modules[-1] is not module):
                    where.modules.append(module)
                    where.inside |= where.file is not None
        elif owner == LIBRARY and fallback is None and not code.co_filename.startswith("<"):
            fallback = (file_name(code), frame.f_lineno or 0, code.co_qualname)
        frame = frame.f_back
    if where.file is None and fallback is not None:
        where.file, where.line, where.function = fallback
    return where


def _ready_made(modules: list[Any]) -> bool:
    """Whether the innermost module, all of PyTorch's own code, is reached through a container or is a recurrence."""
    if not modules:
        return False
    return isinstance(modules[0], torch.nn.RNNBase) or (len(modules) > 1 and type(modules[1]) is torch.nn.Sequential)


def variables_of(frame: FrameType) -> dict[str, Any]:
    """Return a copy of a frame's local variables that does not stay behind.

    Up to Python 3.12 a function's frame keeps the dict that `f_locals` returns, and what is in it alive until the
    function ends. It is emptied, unless somebody else (a call of `locals()`) holds it too.
    """
    found = frame.f_locals
    copy = dict(found)
    optimised = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if optimised and type(found) is dict and found is not frame.f_globals and sys.getrefcount(found) <= 3:
        found.clear()
    return copy
