"""Files and text of ours: written whole or not at all, named for good at the start, and any text can be stored.

What a script does while it is watched (change its directory, remove it, fill the disk, name things with characters that no
encoding knows) must cost neither the script anything nor the user the verdict.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.apart import apart


def here() -> Path:
    """Return the working directory; where it was removed, the folder for temporary files."""
    try:
        return Path.cwd()
    except OSError:
        return Path(tempfile.gettempdir())


def settled(path: Path) -> Path:
    """Return a path as it is meant now, whatever the working directory becomes."""
    return path if path.is_absolute() else here() / path


def shown(path: Path) -> Path:
    """Return a path as people read it: relative to the working directory where it lies below it."""
    with contextlib.suppress(OSError):
        base = Path.cwd()
        return path.relative_to(base) if path.is_relative_to(base) else path
    return path


def clean(text: str) -> str:
    r"""Return a text that every encoding of Unicode takes: half characters (lone surrogates) are written out.

    Example:
        >>> clean("x\udcff"), clean("naïve")
        ('x\\udcff', 'naïve')
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def encoded(value: Any, encode: Any = msgspec.json.encode) -> bytes:
    """Encode a record; texts in it that no encoding takes are cleaned first."""
    try:
        made: bytes = encode(value)
    except UnicodeEncodeError:
        made = encode(_cleaned(msgspec.to_builtins(value)))
    return made


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_cleaned(k): _cleaned(v) for k, v in value.items()}
    return [_cleaned(v) for v in value] if isinstance(value, (list, tuple)) else value


def write(path: Path, content: bytes | str) -> None:
    """Write a file whole: beside its place first, then put there. What was there before stays until then.

    A thing that is no plain file (a pipe, a device) is written to as it is.

    Raises:
        OSError: it cannot be written; nothing is left behind, and what was there is untouched.
    """
    data = clean(content).encode("utf-8") if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = path.resolve() if path.is_symlink() else path
    apart(lambda alone: _put(data, target))


def _put(data: bytes, target: Path) -> None:
    handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _umask() -> int:
    """The mask of new files, without setting it for a moment where that can be read."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def reason(problem: OSError) -> str:
    """Return what an error of the system says, in words."""
    return problem.strerror or str(problem) or type(problem).__name__
