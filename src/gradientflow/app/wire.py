"""Frames: a JSON header and float32 arrays, one after the other on one stream.

A frame is: the length of its header in bytes and the number of floats behind it, both as little-endian uint32; the header as
UTF-8 JSON, filled up with spaces to whole four bytes; the floats, little-endian. None and what is not finite travel as NaN.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from gradientflow.files import encoded

_SIZES = struct.Struct("<II")


def frame(header: msgspec.Struct, arrays: Sequence[object] = ()) -> bytes:
    """Return one frame.

    Args:
        header: a record; which arrays follow it, and of which shape, its type says.
        arrays: numbers, each of any shape.

    Example:
        >>> from gradientflow.records import Water
        >>> sent = frame(Water("bowl", (0, 1, 0, 1), 1), [[1.0], [2.0]])
        >>> [list(floats) for _, floats in frames(sent)]
        [[1.0, 2.0]]
    """
    text = encoded(header)
    text += b" " * (-len(text) % 4)
    body = b"".join(np.ascontiguousarray(np.asarray(a, dtype=np.float64), dtype="<f4").tobytes() for a in arrays)
    return _SIZES.pack(len(text), len(body) // 4) + text + body


def frames(stream: bytes) -> Iterator[tuple[bytes, np.ndarray[tuple[int], np.dtype[np.float32]]]]:
    """Read frames: for each its header, as JSON, and its floats."""
    at = 0
    while at < len(stream):
        head, floats = _SIZES.unpack_from(stream, at)
        at += _SIZES.size
        yield stream[at : at + head], np.frombuffer(stream, "<f4", floats, at + head)
        at += head + 4 * floats
