"""What a script sees of the stack: no frame of ours, nor those of PyTorch's that led to us.

The frames of ours under the script, and those between it and PyTorch. They are taken out of an exception that ends the
script, and left out wherever Python's own `traceback` reads a stack while the script runs (its own `print_exc`, `logging`,
`print_stack`, PyTorch's anomaly mode).
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from gradientflow.depth.probe.tracebacks import cleaned, kept

_GATE = "_extract_from_extended_frame_gen"  # of StackSummary: every stack and traceback that is told goes through it


def clean(problem: BaseException) -> None:
    """Take our frames out of an exception, out of those that led to it and, where it is a group, out of its parts."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [problem]
    while todo:
        entry = todo.pop()
        if entry is not None and id(entry) not in seen:
            seen.add(id(entry))
            cleaned(entry)
            todo += [entry.__cause__, entry.__context__]
            if isinstance(entry, BaseExceptionGroup):
                todo += entry.exceptions


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
        ordered = [ordered[i] for i in kept([frame for frame, _ in ordered], bottom)]
        return gate.__func__(kind, iter(ordered if inwards else ordered[::-1]), **how)

    ours: Any = classmethod(told)
    setattr(traceback.StackSummary, _GATE, ours)
    try:
        yield
    finally:
        if vars(traceback.StackSummary).get(_GATE) is ours:
            setattr(traceback.StackSummary, _GATE, gate)
