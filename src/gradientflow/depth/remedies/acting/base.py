"""What every intervention shares: its change, its count, and the promise to raise nothing into the script."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.records import Change
from gradientflow.torch_internals import unseen


class Acting:
    """An intervention that does nothing yet.

    Args:
        change: what is to be done, and where.
        sites: tells at which line a call stands; shared by all interventions of one script.
    """

    def __init__(self, change: Change, sites: Sites) -> None:
        self.change = change
        self.sites = sites
        self.acted = 0
        self.loss_factor = 1.0
        self.problem: str | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin to act."""

    def stop(self) -> None:
        """Undo what was hooked."""

    @property
    def asleep(self) -> bool:
        """Whether it acts no more: it failed, or this is a forked child of the script's."""
        return self.problem is not None or os.getpid() != self._pid

    def guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`; None where it failed, and then this intervention is over."""
        if self.asleep:
            return None
        try:
            return function(*args)
        except Exception as problem:
            self.failed(problem)
            return None

    def failed(self, problem: BaseException) -> None:
        """Remember what went wrong, and act no more."""
        self.problem = f"{self.change.kind} failed: {type(problem).__name__}: {problem}"

    def number(self, name: str, default: float) -> float:
        """Return a setting as a number."""
        value = self.change.settings.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default

    def word(self, name: str, default: str) -> str:
        """Return a setting as a word."""
        value = self.change.settings.get(name, default)
        return value if isinstance(value, str) else default


class quietly:
    """A block whose torch calls are seen by no mode, and tracked by no graph.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> with quietly():
        ...     (w * 2).requires_grad
        False
    """

    def __enter__(self) -> None:
        self._grad = torch.no_grad()
        self._functions = unseen()
        self._grad.__enter__()
        self._functions.__enter__()

    def __exit__(self, *problem: Any) -> None:
        self._functions.__exit__(*problem)
        self._grad.__exit__(*problem)


def drawn(t: Tensor, seed: int = 0) -> Tensor:
    """Return standard normal numbers in the shape of a tensor, from a generator of our own: the script's draws stay its own.

    Example:
        >>> drawn(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    generator = torch.Generator().manual_seed(20_240_501 + seed)
    return torch.randn(t.shape, generator=generator, dtype=torch.float32).to(device=t.device, dtype=t.dtype)


class Together(Acting):
    """Several interventions that are one remedy."""

    def __init__(self, change: Change, sites: Sites, *parts: Callable[[Change, Sites], Acting]) -> None:
        self.parts = [part(change, sites) for part in parts]
        super().__init__(change, sites)

    def start(self) -> None:
        """Start every part."""
        for part in self.parts:
            part.start()

    def stop(self) -> None:
        """Stop every part, and sum up. It has a problem only where no part of it acted."""
        for part in self.parts:
            part.stop()
        self.acted = sum(part.acted for part in self.parts)
        self.loss_factor = math.prod(part.loss_factor for part in self.parts)
        problems = [part.problem for part in self.parts if part.problem]
        self.problem = problems[0] if problems and (not self.acted or len(problems) == len(self.parts)) else None
