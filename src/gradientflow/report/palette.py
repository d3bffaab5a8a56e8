"""Colour maps, baked in, and pictures made with one: PNG bytes from codes, through the standard library alone.

The maps are *batlow* for levels and *vik* for what lies on either side of a middle, perceptually uniform and fit for colour-blind
readers and grey print, by Fabio Crameri (MIT licence): F. Crameri, Scientific colour maps, Zenodo, doi:10.5281/zenodo.1243862.
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

VIK = bytes.fromhex(
    "001261011462011563011764011865011a66021c67021d68021f6902206a02226b02236c02256d02276e02286f022a70022b71022d72"
    "022e7302307402317502337602347702367802377902397a023a7b033c7c033e7d033f7e03417f034280034481034582034783034984"
    "034a85044c86044d87044f8805518905528a06548b06568c07578d08598f095b900b5d910c5e920e6093106294116496136697156798"
    "176999196b9a1c6d9c1e6f9d20719e2373a02575a12877a22b79a42d7ba5307da6337fa83681a93983ab3c85ac3f87ad4289af458bb0"
    "488db24b90b34e92b45194b65496b75798b95a9aba5d9cbb619ebd64a0be67a2c06aa4c16da6c271a8c474aac577acc67aaec87db0c9"
    "80b2ca84b4cc87b6cd8ab8ce8dbad090bcd194bed297c0d49ac2d59dc4d6a0c5d8a3c7d9a7c9daaacbdcadcdddb0cfdeb3d1dfb6d3e1"
    "bad5e2bdd6e3c0d8e4c3dae5c6dbe6c9dde7ccdfe8cfe0e8d2e1e9d5e3e9d8e4e9dbe5e9dee6e9e0e6e9e2e7e8e5e7e8e7e7e7e8e7e5"
    "eae6e4ebe6e2ece5e0ede4deeee3dceee1daeee0d8eeded5eeddd3eedbd0eed9cdedd7cbedd5c8ecd3c5ecd1c3ebd0c0eacebde9ccba"
    "e9cab8e8c8b5e7c6b2e6c4b0e5c1ade4bfaae4bea8e3bca5e2baa2e1b8a0e0b69ddfb49adfb298deb095ddae93dcac90dbaa8ddba88b"
    "daa688d9a486d8a283d7a081d69f7ed69d7cd59b79d49977d39774d39572d29470d1926dd0906bcf8e68cf8c66ce8b64cd8961cc875f"
    "cc855dcb835aca8258c98056c97e53c87c51c77b4fc6794cc6774ac57548c47445c37243c27041c26e3fc16d3cc06b3abf6938be6736"
    "be6533bd6431bc622fbb602dba5e2ab85c28b75a26b65824b55521b3531fb2511db04f1baf4c18ad4a16ab4814a94512a74310a5400f"
    "a33e0da13c0b9f390a9c37099a3508983307963107942f06912d068f2b068d29068b2706892606872406852206832106811f067f1e06"
    "7e1d067c1b067a1a067818067617067415067314067113076f11076d10076c0e076a0d07680c07670a07650907630707620607600408"
    "5e03085d02085b0108590008"
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
