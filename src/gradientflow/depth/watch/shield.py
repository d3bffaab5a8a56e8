"""Never hurt the patient: code of ours runs inside the user's training loop only through a `Shield`."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

from gradientflow.depth.probe.trace import nothing
from gradientflow.depth.probe.tracebacks import from_outside, from_the_handler
from gradientflow.torch_internals import set_grad_enabled, undispatched, unseen


class Effort:
    """Seconds of work since it was made: by the clock, or of the processor where that is less.

    Other programs on the machine slow the clock's seconds down, and what may be looked into must not depend on them.
    """

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    @property
    def by_the_clock(self) -> float:
        return time.perf_counter() - self._clock

    @property
    def seconds(self) -> float:
        return min(self.by_the_clock, time.process_time() - self._processor)


class _Here(threading.local):
    """What holds for one thread: how many of our functions are running inside each other."""

    depth = 0


class Shield:
    """Runs functions of ours so that no exception of them reaches the script, and counts the time they take.

    An exception of the script's that comes while they run, out of a signal handler of its own, say, is not kept from it.

    After `limit` failures at one place that function is not run any more. Nothing runs in a forked child. The torch calls
    of ours are seen by no mode and no tensor subclass of the script's.
    """

    def __init__(self, limit: int = 3) -> None:
        self.errors: list[str] = []
        self.spent = 0.0  # seconds by the clock
        self.effort = 0.0  # seconds of work
        self.interrupted: Callable[[], None] = nothing  # called where our work was cut short, to drop what is half done
        self._limit = limit
        self._failures: dict[Any, int] = {}
        self._pid = os.getpid()
        self._here = _Here()

    @property
    def inside(self) -> bool:
        """Whether a function of ours is running in this thread."""
        return self._here.depth > 0

    @property
    def at_home(self) -> bool:
        """Whether this is the process that is watched, not a forked child of it."""
        return os.getpid() == self._pid

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`, or None when it failed."""
        if not self.at_home:
            return None
        key = getattr(function, "__qualname__", None) or repr(function)
        if self._failures.get(key, 0) >= self._limit:
            return None
        here = self._here
        depth, graded = here.depth, torch.is_grad_enabled()
        effort = Effort() if depth == 0 else None
        try:
            here.depth = depth + 1
            with unseen(), undispatched():
                return function(*args)
        except BaseException as problem:
            if torch.is_grad_enabled() != graded:  # it came between the halves of a `with` of ours
                set_grad_enabled(graded)
            if from_outside(problem):
                self.interrupted()
                from_the_handler(problem)
                raise
            self.failed(key, problem)
            return None
        finally:
            here.depth = depth
            if effort is not None:
                self.spent += effort.by_the_clock
                self.effort += effort.seconds

    def failed(self, key: Any, problem: BaseException) -> None:
        """Remember one failure of ours, with the place in our code, to be told at the end."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        frames = list(traceback.walk_tb(problem.__traceback__))  # (what else `traceback` tells leaves us out)
        place = f"{os.path.basename(frames[-1][0].f_code.co_filename)}:{frames[-1][1]}" if frames else "?"
        text = f"{type(problem).__name__}: {problem} (in {key}, {place})"
        if text not in self.errors:
            self.errors.append(text)
        if count == self._limit:
            self.errors.append(f"{key} failed {count} times and was switched off; what it measures is missing")
