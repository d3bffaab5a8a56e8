"""A path on disk while it is being solved: written whole or not at all, and read back only by a run that asks the same."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import OutputError, RecordError, UsageError

FORMAT = "gradientflow.checkpoint/2"


def fingerprint(settings: dict[str, Any], *tensors: Tensor) -> str:
    """Return a digest of what was asked: settings, starting points, and what the field says there."""
    digest = hashlib.sha256(repr(sorted((k, v) for k, v in settings.items())).encode())
    for tensor in tensors:  # one after the other, and not copied where they are on the CPU
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def ready(file: Path | None, *, resume: bool) -> None:
    """Refuse, before anything is spent, a checkpoint that could not be written, and a resume without one.

    Raises:
        OutputError: the folder is missing or cannot be written.
        UsageError: resume without a checkpoint.
    """
    if file is None:
        if resume:
            raise UsageError("resume=True goes on from a checkpoint: name its file, checkpoint=…")
        return
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise OutputError(f"the checkpoint {file} cannot be written: {file.parent} is missing or not writable.")


def write(file: Path, asked: str, state: dict[str, Any]) -> None:
    """Write the state beside the file and move it into place, so that a kill leaves the old one or the new one.

    Raises:
        OutputError: it cannot be written.
    """
    part = file.with_name(file.name + ".part")
    try:
        with open(part, "wb") as f:
            torch.save({"format": FORMAT, "asked": asked, "state": state}, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, file)
    except OSError as problem:
        raise OutputError(f"the checkpoint could not be written to {file}: {problem.strerror}.") from problem


def read(file: Path, asked: str) -> dict[str, Any] | None:
    """Return the state, or None where there is no file yet. Nothing in the file is executed.

    Raises:
        RecordError: the file is not a checkpoint.
        UsageError: it belongs to a run that was asked something else.
    """
    if not file.exists():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that is none of ours PyTorch has more to say than we have
            stored = torch.load(file, weights_only=True)
        if not isinstance(stored, dict) or stored.get("format") != FORMAT or not {"asked", "state"} <= set(stored):
            raise KeyError("format")
    except Exception as problem:
        raise RecordError(
            f"{file} is not a checkpoint of a path ({type(problem).__name__}). Remove it to begin anew."
        ) from problem
    if stored["asked"] != asked:
        raise UsageError(
            f"{file} belongs to a run with other settings, another start or another field. "
            "Call with the same arguments to resume, or remove the file to begin anew."
        )
    state: dict[str, Any] = stored["state"]
    return state
