"""The warnings that the script is shown, taken down as they are made and before they are shown; nothing of their way is changed.

Python makes a `WarningMessage` of each warning that the filters let through, and hands it to whoever shows it. So its making
is where we listen: no filter, no hook of the script's and no frame is touched, and what is ignored, raised as an error or
caught by `catch_warnings(record=True)` was never shown, and is not taken down.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from gradientflow.depth.probe.frames import is_ours, locate
from gradientflow.records import Warned

MOST = 40  # different ones that are kept
LONG = 400  # characters of a message
_MESSAGE: Any = warnings.WarningMessage
_SHOWS_IT = ("showwarning", "formatwarning")  # of `warnings` itself: they make one again of a warning that is there


class Warnings:
    """Takes down the script's warnings between `open` and `close`.

    Args:
        shield: protects the script from us, and knows when we are at work ourselves.
        steps: how many optimizer steps were taken so far.
    """

    def __init__(self, shield: Any, steps: Callable[[], int]) -> None:
        self._shield, self._steps = shield, steps
        self._found: dict[tuple[str, str, str, int], Warned] = {}
        self.more = 0  # that came when there was no room for another one
        self._made: Any = None
        self._ours: Any = None
        self._shown: Any = None
        self._listens = False  # (somebody else's hook may stand on ours when we leave)

    @property
    def found(self) -> list[Warned]:
        """What was taken down, in the order of its first coming."""
        return list(self._found.values())

    def open(self) -> None:
        """Begin to listen."""
        made: Any = vars(_MESSAGE).get("__init__")
        if made is None:  # another Python
            return
        self._shown = getattr(warnings, "_showwarnmsg_impl", None)

        @wraps(made)
        def listening(message: Any, *args: Any, **named: Any) -> None:
            made(message, *args, **named)
            if self._listens and not self._shield.inside:
                self._shield(self._take, message, sys._getframe(1))

        self._made, self._ours = made, listening
        self._listens = True
        is_ours(self._ours.__code__)
        _MESSAGE.__init__ = self._ours

    def close(self) -> None:
        """Listen no longer."""
        self._listens = False
        if self._ours is not None and vars(_MESSAGE).get("__init__") is self._ours:
            _MESSAGE.__init__ = self._made

    def _take(self, shown: Any, maker: Any) -> None:
        code = maker.f_code
        if code.co_filename == warnings.__file__ and code.co_name in _SHOWS_IT:
            return
        if getattr(warnings, "_showwarnmsg_impl", None) is not self._shown:  # the script collects them itself
            return
        category = shown.category
        key = (category.__name__, _text(shown.message), str(shown.filename), int(shown.lineno))
        known = self._found.get(key)
        if known is not None:
            known.count += 1
        elif len(self._found) >= MOST:
            self.more += 1
        else:
            where = locate(2, modules=False, limit=1)
            self._found[key] = Warned(*key, self._steps(), 1, where.file, where.line)


def _text(message: Any) -> str:
    """Return what a warning says, past any method of a class of the script's."""
    if isinstance(message, str):
        return message[:LONG]
    said = [a for a in BaseException.args.__get__(message) if isinstance(a, str)]  # type: ignore[attr-defined]
    return " ".join(said)[:LONG]
