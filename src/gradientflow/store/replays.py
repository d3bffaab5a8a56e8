"""What a replay found, beside the run: one JSON file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gradientflow.errors import OutputError, RecordError
from gradientflow.files import encoded, reason, write
from gradientflow.records import Replay

REPLAY, TRIALS = "replay.json", "replay"


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
        return msgspec.json.decode(path.read_bytes(), type=Replay)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as problem:
        raise RecordError(
            f"{path} cannot be read as a replay of gradientflow: {problem}. Remove it and replay anew."
        ) from problem
