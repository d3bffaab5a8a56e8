"""The file of a finding as other tools want it: relative to where they stand, with forward slashes."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from gradientflow.records import Meta, Place


def relative(file: str | None, meta: Meta | None, here: Path) -> str | None:
    """Return a file's path, relative to `here` where it lies below it and absolute otherwise.

    Args:
        file: as the records name it: relative to the folder in which the run began, or absolute.
        meta: the run's description, for that folder; None: it is `here`.
        here: the working directory of the reader.

    Returns:
        The path with forward slashes; None where there is no file (a line typed at a prompt, a notebook's cell).
    """
    if not file or file.startswith("<") or (file.startswith("In[") and file.endswith("]")):
        return None
    whole = os.path.normpath(os.path.join(meta.cwd if meta is not None and meta.cwd else here, file))
    base = os.path.join(os.path.normpath(here), "")
    return PurePath(whole[len(base) :] if whole.startswith(base) else whole).as_posix()


def of(place: Place | None, meta: Meta | None, here: Path) -> tuple[str, int] | None:
    """Return (path, line) of a place; the script's first line where no line is known; None without any file."""
    file = relative(place.file, meta, here) if place is not None else None
    if file is not None and place is not None:
        return file, max(place.line or 1, 1)
    script = relative(meta.script, meta, here) if meta is not None and meta.script.endswith(".py") else None
    return (script, 1) if script is not None else None
