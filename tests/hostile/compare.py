"""What a script leaves, read and compared: plain beside watched."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from pathlib import Path

from tests.hostile.case import Case, Seen

_TOLD = 6  # lines of a difference that are shown
_ADDRESS = re.compile(r"\b0x[0-9a-f]{8,}\b")  # of an object: another in each process
_CALL = re.compile(r'([ |]*)File ".*/torch/nn/modules/module\.py", line \d+, in (_wrapped_call_impl|_call_impl|inner)$')


def shell_code(code: int | None) -> int | None:
    """An exit code as a shell tells it: a process ended by signal 2 has 130. What is watched ends so, or by that code."""
    return code if code is None or code >= 0 else 128 - code


def files_under(folder: Path) -> dict[str, str]:
    """Digests of all files under a folder, and `/` for a folder; of compiled modules the name only."""
    found: dict[str, str] = {}
    for root, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(root, name), folder)] = "/"
        for name in files:
            path = Path(root, name)
            content = b"" if name.endswith(".pyc") else path.read_bytes()
            found[os.path.relpath(path, folder)] = hashlib.sha256(content).hexdigest()[:16]
    return found


def differences(case: Case, plain: Seen, watched: Seen) -> list[str]:
    """Say in words where a watched run is not the plain one, and what else does not hold of it."""
    found = []
    if plain.code is None:
        found.append(f"the plain run was not finished after {plain.seconds:.0f} s, so nothing is compared")
        return found
    if watched.code is None:
        found.append(f"not finished after {watched.seconds:.0f} s; plain it took {plain.seconds:.1f} s")
    elif plain.code != watched.code and "code" not in case.skips:
        found.append(f"exit code {watched.code}, plain {plain.code}")
    for stream in ("stdout", "stderr"):
        if stream not in case.skips:
            one, other = (_hidden(case, getattr(seen, stream)) for seen in (plain, watched))
            if one != other:
                found.append(f"{stream}:\n{_told(one, other)}")
    if "files" not in case.skips and plain.files != watched.files:
        names = sorted(n for n in {*plain.files, *watched.files} if plain.files.get(n) != watched.files.get(n))
        found.append("files: " + ", ".join(f"{n} ({_change(n, plain, watched)})" for n in names[:_TOLD]))
    if case.holds is not None and (broken := case.holds(plain, watched)):
        found.append(f"does not hold: {broken}")
    return found


def _hidden(case: Case, text: str) -> str:
    text = _ADDRESS.sub("0x…", without_calls(text))
    return re.sub(case.hides, "", text) if case.hides else text


def without_calls(text: str) -> str:
    """A text without the frames of PyTorch's own between a module and its `forward`, as tracebacks tell them.

    Their number and lines depend on whether any hook is registered anywhere, also one of the script's.
    """
    kept: list[str] = []
    inside: str | None = None  # how the lines of such a frame begin
    for line in text.splitlines(keepends=True):
        if inside is not None and line.startswith(inside):
            continue
        frame = _CALL.match(line)
        inside = f"{frame.group(1)}  " if frame else None
        if not frame:
            kept.append(line)
    return "".join(kept)


def _change(name: str, plain: Seen, watched: Seen) -> str:
    return "new" if name not in plain.files else "missing" if name not in watched.files else "changed"


def _told(one: str, other: str) -> str:
    lines = list(difflib.unified_diff(one.splitlines(), other.splitlines(), "plain", "watched", lineterm="", n=0))[2:]
    shown = [f"    {line[:240]}" for line in lines if not line.startswith("@@")] or [
        "    only the ends of lines differ"
    ]
    return "\n".join(shown[:_TOLD] + ([f"    … {len(shown) - _TOLD} more lines"] if len(shown) > _TOLD else []))
