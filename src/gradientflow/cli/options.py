"""What the value of an option may be: numbers, counts, files. Each is refused with its option, what was expected and got."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gradientflow import store
from gradientflow.errors import UsageError
from gradientflow.report import shown

LONGEST = 1e9  # seconds: 30 years; timers of the operating system end at ten times that
LARGEST = 2**63 - 1
SEEDS = 2**62  # PyTorch's go to 2⁶³, and each drop of a network adds one to it
NO_LIMIT = "Leave it out for no limit."


def number(
    option: str, *, least: float = 0.0, most: float = math.inf, below: float = math.inf, unit: str = "number", without: str = ""
) -> Callable[[str | float], float]:  # fmt: skip
    """Return how to read a finite number above 0.

    Args:
        option: as the user writes it.
        least: the smallest, where 0 is not enough to be above.
        most, below: the largest that makes sense, or what it has to be smaller than.
        unit: what is counted, as "number of seconds".
        without: what leaving the option out means, for who asked for infinity.
    """
    low = f", {least:g} or more" if least else " above 0"
    high = f" and at most {most:g}" if most < math.inf else f" and below {below:g}" if below < math.inf else ""

    def read(text: str | float) -> float:
        try:
            x = float(text)
        except ValueError:
            x = math.nan
        if 0 < x <= most and least <= x < below:
            return x
        mend = f" {without}" if without and x > 0 else ""
        raise UsageError(f"{option} {shown(repr(str(text)))}: expected a finite {unit}{low}{high}.{mend}")

    return read


def seconds(option: str, without: str = "", *, least: float = 0.0) -> Callable[[str | float], float]:
    """Return how to read a length of time."""
    return number(option, least=least, most=LONGEST, unit="number of seconds", without=without)


def whole(option: str, *, least: int = 1, most: int = LARGEST) -> Callable[[str | int], int]:
    """Return how to read a whole number; 1e5 is one too."""

    def read(text: str | int) -> int:
        n = _count(str(text).strip())
        if n is not None and least <= n <= most:
            return n
        limit = f"{least} or more" if most == LARGEST else f"from {least} to {most}"
        raise UsageError(f"{option} {shown(repr(str(text)))}: expected a whole number, {limit}.")

    return read


def _count(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # 1e5; or more digits than Python reads
        with contextlib.suppress(ValueError):
            return int(x) if (x := float(text)).is_integer() else None
        return None


def path(option: str, expected: str = "a file") -> Callable[[str | Path], Path]:
    """Return how to read the name of a file or folder that the system can have."""

    def read(text: str | Path) -> Path:
        if not str(text).strip():
            raise UsageError(f"{option} '' is empty: expected the name of {expected}.")
        found = Path(text)
        try:
            os.stat(found)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # whether it has to be there, the command says
        except (OSError, ValueError) as problem:  # too long, a loop of links, a null byte
            why = problem.strerror if isinstance(problem, OSError) else str(problem)
            raise UsageError(f"{option} {shown(text)}: {why}. Expected the name of {expected}.") from problem
        return found

    return read


def run_folder(text: str | Path) -> Path:
    """Read a run's folder; of a job of several processes that of its first rank."""
    return store.of_job(path("RUN", "a run's folder")(text))


RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", parser=run_folder, help="A run's folder, as printed by `gradientflow run`."),
]
