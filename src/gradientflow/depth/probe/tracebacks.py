"""What a script sees of an exception that passed through our frames: its own frames and PyTorch's, none of ours.

A frame adds itself to a traceback when an exception enters it, and a bare `raise` does not add it again. So whichever
function of ours an exception of the script's leaves last takes our frames out and raises it on, with a bare `raise`.
"""

from __future__ import annotations

import dis
import signal
from collections.abc import Sequence
from types import CodeType, FrameType, TracebackType

from gradientflow.depth.probe.frames import OURS, USER, classify
from gradientflow.torch_internals import dispatches

# Packages whose exceptions our own work can end in; one of any other package was not raised by what we called.
_OF_OUR_WORK = frozenset({"builtins", "torch", "gradientflow", "numpy", "msgspec", "sqlite3"})
_WITHOUT_A_WORD = (AssertionError, MemoryError, StopIteration, StopAsyncIteration, RecursionError)
_RAISING = frozenset({dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]})


def cleaned(problem: BaseException) -> None:
    """Take our frames out of an exception's traceback; for the `except` of a function that then says `raise`."""
    problem.__traceback__ = without_ours(problem.__traceback__)


def take_out(problem: BaseException, caller: FrameType | None) -> None:
    """Clean an exception on its way out of a call that the script made of PyTorch, and PyTorch of us.

    Where PyTorch's own Python led to us one frame of ours stays, by which those that led to it are found later.
    """
    first = problem.__traceback__
    cleaned(problem)
    if first is not None and caller is not None and dispatches(caller.f_code):
        problem.__traceback__ = TracebackType(problem.__traceback__, first.tb_frame, first.tb_lasti, first.tb_lineno)


def without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without frames of gradientflow, which the script knows nothing of."""
    entries: list[TracebackType] = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    following: TracebackType | None = None
    for i in reversed(kept([entry.tb_frame for entry in entries])):
        following = TracebackType(following, entries[i].tb_frame, entries[i].tb_lasti, entries[i].tb_lineno)
    return following


def kept(frames: Sequence[FrameType], bottom: CodeType | None = None) -> list[int]:
    """Return which frames, the outermost first, the script would have without us.

    Args:
        frames: of a stack or a traceback.
        bottom: the function that runs the script; it and what called it are left out too.
    """
    found: list[int] = []
    for i, frame in enumerate(frames):
        if frame.f_code is bottom:
            found.clear()
        elif classify(frame.f_code) != OURS:
            found.append(i)
        elif i and dispatches(frames[i - 1].f_code):
            # that frame, and the function that asked it whether anybody listens
            found = [k for k in found if k < i - 2]
    return found


def let_through(problem: BaseException) -> None:
    """Raise an exception on that came from outside while our code ran; return where it is of our own making.

    For every `except` of ours that would keep it: a time limit that the script has set must reach the script.
    """
    if from_outside(problem):
        raise problem


def from_outside(problem: BaseException) -> bool:
    """Return whether an exception came from outside: out of a signal handler of the script's, or thrown into the thread by
    another (`PyThreadState_SetAsyncExc`). What the script's own code raised because we called it is of our making.
    """
    if not isinstance(problem, Exception):
        return True
    if _handler_entry(problem.__traceback__) is not None:
        return True
    last = problem.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or classify(last.tb_frame.f_code) == USER:
        return False
    if type(problem).__module__.partition(".")[0] not in _OF_OUR_WORK:
        return True
    raised = last.tb_frame.f_code.co_code[last.tb_lasti] in _RAISING
    return not problem.args and not raised and not isinstance(problem, _WITHOUT_A_WORD)


def from_the_handler(problem: BaseException) -> None:
    """Cut the way through our code off an exception from outside: what is left begins with the script's signal handler."""
    problem.__traceback__ = _handler_entry(problem.__traceback__)


def _handler_entry(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback from a signal handler on: its frame was given the one that it interrupted."""
    behind: set[int] = set()
    while trace is not None:
        if behind and classify(trace.tb_frame.f_code) != OURS and _was_given(trace.tb_frame, behind):
            return trace
        behind.add(id(trace.tb_frame))
        trace = trace.tb_next
    return None


def _was_given(frame: FrameType, interrupted: set[int]) -> bool:
    code = frame.f_code
    if any(_code_of(signal.getsignal(n)) is code for n in signal.valid_signals()):
        return True
    count = code.co_argcount + bool(code.co_flags & 0x04)  # CO_VARARGS
    given = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
    return any(id(v) in interrupted for g in given for v in (g if isinstance(g, tuple) else (g,)))


def _code_of(handler: object) -> object:
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    handler = getattr(handler, "__func__", handler)
    called = handler if hasattr(handler, "__code__") else vars(type(handler)).get("__call__")
    return getattr(called, "__code__", None)
