"""Files that are to be written: refused before the work is begun, not after."""

from __future__ import annotations

import os
from pathlib import Path

from gradientflow.errors import OutputError
from gradientflow.files import settled
from gradientflow.report.words import shown


def check_file(option: str, file: Path) -> Path:
    """Refuse a file that cannot be written; what is in it stays, and where there is none, none is left.

    Returns:
        The file as it is meant now: a script may go elsewhere, or take its directory away.

    Raises:
        OutputError: with what is wrong, and the mend.
    """
    folder, named = file.parent, f"{option} {shown(file, 200)}"
    if file.is_dir():
        raise OutputError(f"{named}: this is a folder; expected a file, as in {file / 'flow'}.")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{named}: {folder} is a file; expected a folder. Name a file in a folder that is yours.")
    if not folder.exists():
        raise OutputError(f"{named}: the folder {folder} does not exist. Make it first: mkdir -p {folder}")
    new = not file.exists()
    try:  # without waiting, should it be a pipe that nobody reads
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666))
        if new:
            file.unlink()
    except OSError as problem:
        raise OutputError(
            f"{named}: cannot be written: {problem.strerror}. Name a file in a folder that is yours."
        ) from problem
    return settled(file)
