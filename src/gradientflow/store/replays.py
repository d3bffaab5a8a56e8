"""The replay of a run's remedies, kept beside the run as `replay.json`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gradientflow.errors import OutputError, RecordError
from gradientflow.files import encoded, reason, write
from gradientflow.records import Replay
from gradientflow.store.layout import REPLAY
from gradientflow.store.sound import wrong_with_replay


def keep_replay(folder: Path, replay: Replay) -> None:
    """Write what a replay found so far into a run's folder; a half-written file is never left behind.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / REPLAY
    try:
        write(path, msgspec.json.format(encoded(replay), indent=2) + b"\n")
    except OSError as problem:
        raise OutputError(
            f"cannot write the replay to {path}: {reason(problem)}. Expected the run's folder to be writable."
        ) from problem


def read_replay(folder: Path) -> Replay | None:
    """Read the replay of a run; None where nothing was replayed.

    Raises:
        RecordError: there is one that cannot be read.
    """
    path = (folder if folder.is_dir() else folder.parent) / REPLAY
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Replay)
        wrong: object = wrong_with_replay(found)
    except FileNotFoundError:
        return None
    except Exception as problem:  # of the system, or any that msgspec may raise
        wrong = problem
    if wrong is not None:
        raise RecordError(f"{path} cannot be read as a replay of gradientflow: {wrong}. Remove it and replay anew.")
    return found
