"""Where a run goes that nobody named a folder for: runs/<script>-<time>/."""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path

from gradientflow.errors import OutputError
from gradientflow.files import reason, settled

_LONGEST_NAME = 100  # characters of a script's name in that of its folder; a file system takes 255 bytes


def stem_of(name: str) -> str:
    """Return what a script's or module's runs are called by."""
    return (Path(name).stem if name.endswith(".py") or os.sep in name else name)[:_LONGEST_NAME]


def fresh_folder(name: str) -> Path:
    """Make a new folder for a run of a script or module, under runs/.

    Raises:
        OutputError: it cannot be made.
    """
    stem = stem_of(name)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = settled(Path("runs")) / f"{stem}-{stamp}"
    for n in range(1, 1000):
        folder = base if n == 1 else base.with_name(f"{base.name}-{n}")
        with contextlib.suppress(FileExistsError):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                raise
            except OSError as problem:
                raise OutputError(
                    f"cannot make the run's folder {folder}: {reason(problem)}. Expected a working directory that can "
                    f"be written; name another place with --out DIR."
                ) from problem
            return folder
    raise OutputError(f"a thousand runs of {stem} within one second: name a folder with --out DIR")
