"""Calls of the script's that go through us, passed on as if they came from the script's own line.

A warning is attributed to the frame that called: its file, its line, the `__warningregistry__` of its globals. So the call
is made from a frame that has those of the script's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any

from gradientflow.depth.probe.frames import is_ours
from gradientflow.torch_internals import dispatches


def _passed(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: return func(*args, **kwargs)  # fmt: skip


_BETWEEN = 4  # frames between a call as the script made it and as it is made: ours, and PyTorch's that lead to us
_codes: dict[tuple[str, int], CodeType] = {}


def called_at(file: str, line: int, names: dict[str, Any]) -> Callable[..., Any]:
    """Return a function of (func, args, kwargs) that makes a call from this line of this file, in these globals."""
    code = _codes.get((file, line))
    if code is None:
        code = _passed.__code__.replace(co_filename=file, co_firstlineno=line)
        is_ours(code)
        _codes[file, line] = code
    return FunctionType(code, names)


def passed_on(caller: FrameType | None, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make a call that PyTorch handed to us.

    Args:
        caller: the frame that called us.
        func: what was called, with `args` and `kwargs`.
    """
    if caller is not None and dispatches(caller.f_code):  # from within the function itself, written in Python
        level = kwargs.get("_stacklevel")  # (by which softmax and its like count up to the line that they warn of)
        if isinstance(level, int) and level > 3:
            kwargs = {**kwargs, "_stacklevel": level + _BETWEEN}
        caller = caller.f_back.f_back if caller.f_back is not None else None
    if (
        caller is None or sys.gettrace() is not None or sys.getprofile() is not None
    ):  # (whoever counts frames counts ours)
        return func(*args, **kwargs)
    return called_at(caller.f_code.co_filename, caller.f_lineno or 1, caller.f_globals)(func, args, kwargs)


def callers_frame() -> FrameType | None:
    """Return the frame that called the function that asks."""
    return sys._getframe(2)
