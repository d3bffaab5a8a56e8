"""Random states: kept as they were, and shaken on purpose.

Three generators may speak in a loss or a loader: PyTorch's (one per device), Python's ``random``, and NumPy's. What the
river runs must leave all of them where they stood; a check for randomness must set them apart.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator

import torch

from gradientflow.generators import HELD


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Give back the state of every global random generator at the end.

    Example:
        >>> with kept():
        ...     a = torch.rand(1)
        >>> bool(torch.rand(1) == a)
        True
    """
    numpy = sys.modules.get("numpy.random")
    mine, cpu = random.getstate(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if _cuda() else None
    array = numpy.get_state() if numpy is not None else None
    try:
        yield
    finally:
        random.setstate(mine)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if numpy is not None:
            numpy.set_state(array)


@contextlib.contextmanager
def shaken(seed: int) -> Iterator[None]:
    """Put every global random generator into a state made from the seed, and give back the old state at the end.

    Example:
        >>> with shaken(1):
        ...     a = torch.rand(1)
        >>> with shaken(2):
        ...     b = torch.rand(1)
        >>> bool(a == b)
        False
    """
    with HELD, kept():
        seed_all(seed)
        yield


def seed_all(seed: int) -> None:
    """Seed every global random generator; to be called within `kept`."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if _cuda():
        torch.cuda.manual_seed_all(seed)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(seed % 2**32)


def _cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
