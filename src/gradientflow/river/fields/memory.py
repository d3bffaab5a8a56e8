"""What is asked for is held against the memory there is, before any of it is taken."""

from __future__ import annotations

import math
import os
from pathlib import Path

from gradientflow.errors import UsageError

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def available() -> float:
    """Return the bytes of main memory that can still be had; infinite where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def refuse_beyond(count: int, each: float, what: str, mend: str) -> None:
    """Refuse what needs more memory than there is.

    Args:
        count: of things.
        each: bytes that one of them needs.
        what: they are: the beginning of the sentence.
        mend: what to ask for instead; its "{fit}" becomes how many fit.

    Raises:
        UsageError: they do not fit.
    """
    room, need = available(), count * each
    if need > room:
        fit = mend.format(fit=f"{int(room // each):,}")
        raise UsageError(f"{what} would take about {sized(need)} of memory, {sized(room)} are free. {fit}")


def sized(count: float) -> str:
    """Return a number of bytes in the unit that fits it.

    Example:
        >>> sized(1.6e11)
        '160 GB'
    """
    k = min(int(math.log10(max(count, 1)) // 3), len(UNITS) - 1)
    return f"{count / 1000**k:.3g} {UNITS[k]}"
