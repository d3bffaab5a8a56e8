"""What a script sees of the stack: no frame of ours, nor those of PyTorch's that led to us.

The frames of ours under the script, and those between it and PyTorch. They are taken out of an exception that ends the
script, and left out wherever Python's own `traceback` reads a stack while the script runs (its own `print_exc`, `logging`,
`print_stack`, PyTorch's anomaly mode).
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType, TracebackType
from typing import Any

from gradientflow.depth.probe.frames import OURS, classify
from gradientflow.torch_internals import dispatches

_GATE = "_extract_from_extended_frame_gen"  # of StackSummary: every stack and traceback that is told goes through it


def clean(problem: BaseException) -> None:
    """Take our frames out of an exception, out of those that led to it and, where it is a group, out of its parts."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [problem]
    while todo:
        entry = todo.pop()
        if entry is not None and id(entry) not in seen:
            seen.add(id(entry))
            entry.__traceback__ = _without_ours(entry.__traceback__)
            todo += [entry.__cause__, entry.__context__]
            if isinstance(entry, BaseExceptionGroup):
                todo += entry.exceptions


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    entries: list[TracebackType] = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    following: TracebackType | None = None
    for i in reversed(_kept([entry.tb_frame for entry in entries])):
        entry = entries[i]
        following = TracebackType(following, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return following


def _kept(frames: Sequence[FrameType], bottom: CodeType | None = None) -> list[int]:
    """Return which frames, the outermost first, the script would have without us; `bottom` is what runs the script."""
    kept: list[int] = []
    for i, frame in enumerate(frames):
        if frame.f_code is bottom:
            kept.clear()
        elif classify(frame.f_code) != OURS:
            kept.append(i)
        elif i and dispatches(frames[i - 1].f_code):
            kept = [k for k in kept if k < i - 2]  # that frame, and the function that asked it whether anybody listens
    return kept


@contextlib.contextmanager
def hidden(bottom: CodeType) -> Iterator[None]:
    """While this block runs, what `traceback` tells of a stack is told without us.

    Args:
        bottom: the function that runs the script; it and what called it are left out too.
    """
    gate: Any = vars(traceback.StackSummary).get(_GATE)
    if not isinstance(gate, classmethod):  # another Python: frames of ours are told too
        yield
        return

    def told(kind: Any, entries: Iterable[tuple[FrameType, Any]], /, **how: Any) -> Any:
        found = list(entries)
        inwards = len(found) < 2 or found[0][0].f_back is not found[1][0]
        ordered = found if inwards else found[::-1]
        ordered = [ordered[i] for i in _kept([frame for frame, _ in ordered], bottom)]
        return gate.__func__(kind, iter(ordered if inwards else ordered[::-1]), **how)

    ours: Any = classmethod(told)
    setattr(traceback.StackSummary, _GATE, ours)
    try:
        yield
    finally:
        if vars(traceback.StackSummary).get(_GATE) is ours:
            setattr(traceback.StackSummary, _GATE, gate)
