"""Whether a script can be run again as it was watched: its record is whole, and its texts are what they were."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from gradientflow import files
from gradientflow.depth.watch.recorder import SOURCE_LIMIT
from gradientflow.errors import UsageError
from gradientflow.records import Run


def same_script(run: Run) -> None:
    """Refuse a script that is not there any more, or not as it was watched: lines would mean something else.

    Args:
        run: the watched run, with the texts of its source files.

    Raises:
        UsageError: a text has changed or cannot be read, or the record does not hold enough to tell.
    """
    damaged = next((n.text for n in run.notes if n.kind == "record"), None)
    if damaged is not None:  # what is missing may be how it was run, or the text to compare it with
        raise UsageError(
            f"the record of this run is damaged, and a script is run again only as it was watched: {damaged}. "
            f"Watch it anew: gradientflow run --replay {' '.join(run.meta.argv)}"
        )
    if run.meta.ranks > 1:
        raise UsageError(
            f"this run was one of {run.meta.ranks} processes that trained together, and a replay runs the script in one. Make it train "
            f"in one process, and watch that: gradientflow run --replay {' '.join(run.meta.argv)}"
        )
    base = Path(run.meta.cwd)
    if not base.is_dir():
        raise UsageError(
            f"the folder the script was run in is not there any more: {base}. Expected to run "
            f"{' '.join(run.meta.argv)} from it again; run gradientflow run where the script is now."
        )
    if not run.meta.sources and not _too_long(base / run.meta.script):
        raise UsageError(
            f"the record of this run holds no text of {run.meta.script or 'its script'}, so nobody can tell whether it is as it was "
            f"watched. Watch it anew: gradientflow run --replay {' '.join(run.meta.argv)}"
        )
    for file, text in run.meta.sources.items():
        try:
            if not (base / file).is_file():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            now = (base / file).read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError) as problem:
            why = files.reason(problem) if isinstance(problem, OSError) else problem
            raise UsageError(f"cannot read {base / file}, which the run was made with: {why}.") from problem
        if now != text:
            raise UsageError(
                f"{file} has changed since it was watched, so its lines may mean something else. "
                f"Watch it anew: gradientflow run --replay {' '.join(run.meta.argv)}"
            )


def _too_long(script: Path) -> bool:
    """Whether a script is so long that a run keeps no text of it."""
    try:
        return script.stat().st_size > SOURCE_LIMIT
    except (OSError, ValueError):
        return False
