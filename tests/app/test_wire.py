"""Frames, and that what is generated for the page is what the package says."""

from __future__ import annotations

import gzip
import math
from importlib.resources import files

import msgspec
import numpy as np

from gradientflow.app.wire import frame, frames
from gradientflow.records import Answer, Water
from scripts import wire_types

STATIC = files("gradientflow.app") / "static"
FIRST = ("index.html", "style.css", "app.js", "first.bin")


def test_frames_come_back_as_they_went() -> None:
    sent = frame(Water("ünïcode </script>", (0, 1, 2, 3), 2), [[1.0, math.nan, 3.0, math.inf]]) + frame(
        Answer("flow", text="x")
    )
    (head, floats), (second, none) = frames(sent)
    assert msgspec.json.decode(head, type=Water).name == "ünïcode </script>"
    assert np.array_equal(floats, np.array([1, np.nan, 3, np.inf], np.float32), equal_nan=True)
    assert msgspec.json.decode(second, type=Answer).text == "x" and len(none) == 0
    assert len(sent) % 4 == 0


def test_half_a_character_does_not_break_a_frame() -> None:
    assert msgspec.json.decode(next(frames(frame(Answer("refused", text="\udcff"))))[0])["text"] == "\\udcff"


def test_the_pages_types_colours_and_first_water_are_the_packages() -> None:
    wire = wire_types.ROOT / "web" / "src" / "wire"
    assert (wire / "types.ts").read_text(encoding="utf-8") == wire_types.types()
    assert (wire / "colours.ts").read_text(encoding="utf-8") == wire_types.colours()
    (head, floats), *rest = frames((STATIC / "first.bin").read_bytes())
    water = msgspec.json.decode(head, type=Water)
    assert not rest and len(floats) == 2 * water.n**2
    x0, x1, y0, y1 = water.box
    x, y = np.meshgrid(np.linspace(x0, x1, water.n), np.linspace(y0, y1, water.n))
    r = x * y - 1
    told = floats.reshape(2, water.n, water.n)
    assert np.allclose(told, [-r * y, -r * x], rtol=1e-2, atol=1e-6)  # L = ½(w₁w₂ − 1)²
    assert not np.allclose(told, [r * y, r * x], rtol=1e-2, atol=1e-6)


def test_the_bundle_is_small() -> None:
    sizes = {f.name: len(gzip.compress(f.read_bytes(), 9)) for f in STATIC.iterdir() if f.is_file()}
    text = (STATIC / "app.js").read_text(encoding="utf-8")
    head = text[: text.index(";")] if ";" in text else text
    at_once = sum(size for name, size in sizes.items() if name in FIRST or (name.startswith("chunk") and name in head))
    assert at_once <= 40 * 1024, f"{at_once} bytes before the first liquid"
    assert sum(sizes.values()) <= 120 * 1024


def test_the_bundle_names_no_folder_of_the_machine_it_was_built_on() -> None:
    for f in STATIC.iterdir():
        if f.is_file():
            body = f.read_bytes()
            assert b"/home/" not in body and b"node_modules" not in body and b"sourceMappingURL" not in body
