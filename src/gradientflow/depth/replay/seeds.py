"""The same randomness for every trial: a script that sets no seed gets one; one that does gets its own, shifted alike.

Shift 0 leaves a script's own seeds as they are, so that the baseline is the run that was watched. Another shift is
another draw of weights, batches and splits, the same one for the baseline and for every change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

UNSEEDED = 20_240_501  # what a script that sets no seed gets; any number would do


@contextmanager
def shifted(shift: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch, and add `shift` to every seed that is set inside the block.

    Args:
        shift: a whole number; 0 changes no seed that the script sets.

    Example:
        >>> with shifted(0):
        ...     a = torch.manual_seed(3) and torch.rand(1)
        >>> with shifted(1):
        ...     b = torch.manual_seed(2) and torch.rand(1)
        >>> bool(a == b)
        True
    """
    random.seed(UNSEEDED + shift)
    torch.manual_seed(UNSEEDED + shift)
    patched = list(_targets())
    try:
        import numpy as np

        np.random.seed((UNSEEDED + shift) % 2**32)
        patched += [(np.random, name) for name in ("seed", "default_rng")]
    except ImportError:
        pass
    if shift == 0:
        yield
        return
    before = [(owner, name, getattr(owner, name)) for owner, name in patched]
    generator = torch.Generator
    for owner, name, function in before:
        setattr(owner, name, _shifting(function, shift))
    torch.Generator = _generator(shift)  # type: ignore[misc]
    try:
        yield
    finally:
        torch.Generator = generator  # type: ignore[misc]
        for owner, name, function in before:
            setattr(owner, name, function)


def _targets() -> Iterator[tuple[Any, str]]:
    yield torch, "manual_seed"
    yield torch.random, "manual_seed"
    yield torch.cuda, "manual_seed"
    yield torch.cuda, "manual_seed_all"
    yield random, "seed"


def _shifting(function: Callable[..., Any], shift: int) -> Callable[..., Any]:
    def seeded(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], int):
            return function(args[0] + shift, *args[1:], **kwargs)
        if isinstance(kwargs.get("seed"), int):
            return function(*args, **(kwargs | {"seed": kwargs["seed"] + shift}))
        return function(*args, **kwargs)

    return seeded


def _generator(shift: int) -> type[torch.Generator]:
    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + shift)

    return Generator
