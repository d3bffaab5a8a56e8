"""Colours of the figures: perceptually uniform maps, fit for colour-blind readers and grey print, and inks for lines.

*batlow*, *navia* and *grayC* are by Fabio Crameri (MIT licence), baked in here so that no package is needed at run time: Crameri
2018, Scientific colour maps, Zenodo, doi:10.5281/zenodo.1243862. The inks are those of Okabe and Ito (2008, Color
Universal Design), without the ones too near to the water or to white.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradientflow.report.palette import BATLOW

Floats = NDArray[np.float64]

_NAVIA = bytes.fromhex(
    "03132704152904162b04172c04182e041930051a32051b34051c36051d38051e3a05203c05213e052240052342052444052546052648"
    "06284a06294c062a4e062b50062c52062e54062f5606305806315a07325c07345e073560073662073764073966083a68083b6a083c6b"
    "083e6d093f6f0940710a41730a43740b44760b45780b46790c487b0d497d0d4a7e0e4c800e4d810f4e82104f84105185115286125387"
    "13548813568914578a15588b16598c175a8d175c8d185d8e195e8e1a5f8f1b608f1b61901c62901d63901e64911e65911f6691206791"
    "206891216991226a91226b91236c91246c91246d91256e90266f90266f9027709027718f28718f28728f29738f2a738e2a748e2b758e"
    "2b758d2c768d2c768d2d778c2d788c2e788c2f798b2f798b307a8b307a8a317b8a317c8a327c89327d89337d89347e88347e88357f88"
    "357f873680873680863781863781863882853983853983853a84843a84843b85843c85833c86833d86823d87823e88823f88813f8981"
    "408981408a80418a80428b7f428c7f438c7f448d7e448d7e458e7d468f7d478f7d47907c48917c49917b49927b4a937a4b937a4c947a"
    "4c95794d95794e96784f9778509877509877519976529a76539b75549b75559c74569d74579e73579f7358a07259a0725aa1715ba271"
    "5ca3705da4705ea56f5fa66f60a76e62a86e63a96d64aa6d65ab6c66ac6c67ad6b69ae6b6aaf6a6bb06a6db1696eb26970b36971b469"
    "73b56874b66876b76878b96879ba687bbb687dbc687fbd6881bf6883c06885c16987c26989c36a8cc56a8ec66b90c76c93c86d95ca6e"
    "98cb6f9acc709ccd729fce73a2cf74a4d176a7d278a9d379acd47baed57db1d67fb3d781b5d883b8d985bada87bcdb89bfdc8bc1dc8d"
    "c3dd90c5de92c7df94c9e096cbe098cde19bcfe29dd1e39fd3e3a1d5e4a3d7e5a5d8e5a8dae6aadce7acdde7aedfe8b0e0e8b2e2e9b4"
    "e3eab6e5eab8e6ebbae8ebbce9ecbeeaedbfebedc1edeec3eeeec5efefc6f0efc8f1f0caf3f0cbf4f1cdf5f1cff6f2d0f7f2d2f8f3d3"
    "f9f3d5faf3d6fbf4d7fcf4d9"
)

_GRAYC = bytes.fromhex(  # one byte each: it is grey
    "0002040507090b0d0e0f1112131415161718191a1b1c1d1e1f20212223242425262728292a2b2c2d2e2f30313132333435363738393a"
    "3b3b3c3d3e3f40414243444445464748494a4b4b4c4d4e4f5051515253545556565758595a5b5b5c5d5e5f5f60616263636465666767"
    "68696a6a6b6c6d6e6e6f707171727374747576777778797a7a7b7c7d7d7e7f808081828384848586878888898a8b8c8d8e8e8f909192"
    "93949595969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9bbbcbdbebfc0c1c3c4c5c6c7c8ca"
    "cbcccdced0d1d2d3d5d6d7d8dadbdcdedfe0e2e3e4e6e7e8eaebeceeeff1f2f3f5f6f8f9fbfcfeff"
)

INKS = ("#e69f00", "#cc79a7", "#56b4e9", "#009e73", "#d55e00", "#f0e442")


def navia(at: Any) -> Floats:
    """Colours at levels 0..1, dark to bright: (…) → (…, 3)."""
    return _colours(_NAVIA, at)


def batlow(at: Any) -> Floats:
    """Colours at levels 0..1, dark to bright: (…) → (…, 3)."""
    return _colours(BATLOW, at)


def grayc(at: Any) -> Floats:
    """Greys at levels 0..1, dark to bright: (…) → (…, 3)."""
    return _colours(bytes(x for x in _GRAYC for _ in range(3)), at)


def _colours(table: bytes, at: Any) -> Floats:
    rows = np.frombuffer(table, np.uint8).reshape(-1, 3) / 255.0
    x = np.clip(np.nan_to_num(np.asarray(at, dtype=float)), 0, 1) * (len(rows) - 1)
    k = np.minimum(x.astype(int), len(rows) - 2)
    part = (x - k)[..., None]
    picked: Floats = rows[k] * (1 - part) + rows[k + 1] * part
    return picked
