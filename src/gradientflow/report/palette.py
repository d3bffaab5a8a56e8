"""One colour map, baked in, and pictures made with it: PNG bytes from codes, through the standard library alone.

The map is *batlow*, perceptually uniform and fit for colour-blind readers and grey print, by Fabio Crameri (MIT
licence): F. Crameri, Scientific colour maps, Zenodo, doi:10.5281/zenodo.1243862.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

BATLOW = bytes.fromhex(
    "011959021b59031c5a041e5a051f5a06215b07225b07245b08255b09275c0a285c0a2a5c0b2b5c0b2d5d0c2e5d0c2f5d0d315d0d325e"
    "0d335e0e355e0e365e0e375e0f385f0f395f0f3b5f0f3c5f103d5f103e5f103f60104060114160114260114360114460124561124661"
    "124761124861134961134a61134b61144c62144d62144e62154f62154f62165062165162175262175362185462185562195662195762"
    "1a57621b58621b59621c5a621d5b621e5c621e5d621f5d61205e61215f6122606123606024616025626026635f27635f28645f2a655e"
    "2b655e2c665d2d675d2f675c30685c31695b33695a346a5a356a59376b58386c583a6c573b6d563c6d563e6e553f6e54416f53426f52"
    "44705245705147715048714f4a724e4c724d4d734d4f734c50744b52744a5375495575485776475876465a77455b77455d78445f7843"
    "607942627941637a40657a3f677b3e687b3e6a7b3d6c7c3c6d7c3b6f7d3a717d39737e38747e38767f37787f367980357b80347d8134"
    "7f813381823282823184833186833088842f8a842f8c852e8e852e8f862d91862d93872c95872c97882c99882c9b892b9d892b9f892b"
    "a18a2ba38a2ca58b2ca78b2ca98c2cab8c2dad8c2daf8d2eb18d2fb38e2fb58e30b78e31b98f32bb8f33bd8f34be9035c09036c29037"
    "c49138c6913ac8913bca923ccb923ecd923fcf9340d19342d29343d49445d69446d89448d9954adb954bdd954dde964fe09651e19752"
    "e39754e49756e69858e7985ae9995cea995eeb9a60ed9a62ee9b64ef9b67f09c69f19d6bf29d6df39e70f49f72f59f74f6a077f7a179"
    "f8a17bf8a27ef9a380f9a382faa485faa587fba689fba68cfca78efca890fca993fca995fdaa97fdab9afdac9cfdac9efdada0fdaea2"
    "fdafa5fdafa7fdb0a9fdb1abfdb2adfdb2affdb3b1fdb4b4fdb4b6fdb5b8fdb6bafdb7bcfdb7befdb8c0fdb9c2fdbac4fdbac7fdbbc9"
    "fdbccbfdbccdfcbdcffcbed1fcbfd3fcbfd6fcc0d8fcc1dafcc2dcfcc3dffcc3e1fcc4e3fcc5e5fbc6e8fbc6eafbc7ecfbc8effbc9f1"
    "fbcaf3fbcaf6facbf8faccfa"
)

NOTHING, BROKEN, DEAD, LOWEST = 0, 1, 2, 3  # codes of a cell; LOWEST..255 are levels of the map


def batlow(at: float) -> str:
    """The colour at 0..1, dark to bright, as #rrggbb."""
    k = 3 * min(max(round(255 * at), 0), 255)
    return "#" + BATLOW[k : k + 3].hex()


def level(x: float, low: float, high: float) -> int:
    """The code of a number between `low` and `high`."""
    at = (x - low) / (high - low)
    return LOWEST + min(max(round(at * (255 - LOWEST)), 0), 255 - LOWEST)


def png(codes: Sequence[bytes]) -> bytes:
    """A PNG of one pixel per code, rows of equal length from the top; codes below LOWEST are transparent."""
    table = bytearray(3 * LOWEST)
    for code in range(LOWEST, 256):
        k = 3 * round(255 * (code - LOWEST) / (255 - LOWEST))
        table += BATLOW[k : k + 3]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", len(codes[0]), len(codes), 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(table)),
        (b"tRNS", bytes(LOWEST)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in codes), 9)),
        (b"IEND", b""),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out


def data_uri(codes: Sequence[bytes]) -> str:
    """The picture as a data URI, to stand in a page that loads nothing."""
    return "data:image/png;base64," + base64.b64encode(png(codes)).decode("ascii")
