"""Writes what the page shares with the package, from where it stands in the package: types, colours, the first water.

python scripts/wire_types.py           write types.ts, colours.ts and words.ts in web/src/wire, and app/static/first.bin
python scripts/wire_types.py --check   exit with 1 if one of them is not what would be written

The types come from `records/`, by way of their JSON Schema; the colours from `report/`; the first water is the field that
the app opens with, sampled coarsely, so that a liquid moves before torch is loaded.
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gradientflow import records
from gradientflow.report import words
from gradientflow.report.maps import INKS, navia
from gradientflow.report.meanings import MEANINGS
from gradientflow.report.palette import BATLOW, VIK
from gradientflow.report.proof import SIGNS
from gradientflow.report.water import BEND, tint

ROOT = Path(__file__).resolve().parent.parent
TYPES = (
    records.Opened, records.WaterAsk, records.Water, records.PlaneAsk, records.PlaneSeen, records.BasinsAsk, records.Basins, records.Order, records.DropAsk, records.LineAsk, records.Answer,
    records.Verdict, records.Replay,
    records.KnobsOpened, records.KnobsAsk, records.KnobsSeen, records.TrainAsk, records.Course, records.Linked, records.LinkedAt, records.WayAsk, records.WaySeen, records.LayerShares, records.Offers, records.TryAsk,
    records.RunList, records.RunView, records.Way, records.OpSeen, records.Routes, records.Excerpt, records.Curves, records.HeatMap, records.Cell, records.Inlined,
)  # fmt: skip
FIRST_SIDE = 48  # samples along a side of the first water
FIRST_BOX = (-4.0, 4.0, -2.5, 2.5)  # wide enough for most windows


def types() -> str:
    """The types as TypeScript, sorted by name."""
    _, found = msgspec.json.schema_components(TYPES)
    head = "// Made by scripts/wire_types.py from src/gradientflow/records. Do not edit.\n"
    return head + "".join(_interface(name, found[name]) for name in sorted(found))


def _interface(name: str, schema: dict[str, Any]) -> str:
    about = "".join(f"/** {line} */\n" for line in schema.get("description", "").split("\n")[:1] if line)
    if schema.get("type") != "object":
        return f"\n{about}export type {name} = {_type(schema)};\n"
    lines = [f"  {key}: {_type(of)};" for key, of in schema.get("properties", {}).items()]
    return f"\n{about}export interface {name} {{\n" + "\n".join(lines) + "\n}\n"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "enum" in schema:
        return " | ".join(msgspec.json.encode(x).decode() for x in schema["enum"])
    if "const" in schema:
        return msgspec.json.encode(schema["const"]).decode()
    if "anyOf" in schema:
        return " | ".join(_type(x) for x in schema["anyOf"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_type({"type": k}) for k in kind)
    if kind == "array":
        if "prefixItems" in schema:
            return "[" + ", ".join(_type(x) for x in schema["prefixItems"]) + "]"
        of = _type(schema.get("items") or {}) if schema.get("items") is not False else "never"
        return f"({of})[]" if " " in of else f"{of}[]"
    if kind == "object":
        return f"Record<string, {_type(schema.get('additionalProperties') or {})}>"
    plain = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}
    return plain.get(str(kind), "unknown")


def colours() -> str:
    """The tables of colour as TypeScript: 256 entries of three bytes each, in base64."""
    levels = np.linspace(0, 1, 256)
    tables = {
        "TINT": (tint(levels) * 255).round().astype(np.uint8).tobytes(),
        "NAVIA": (navia(levels) * 255).round().astype(np.uint8).tobytes(),
        "BATLOW": BATLOW,
        "VIK": VIK,
    }
    said = {
        "TINT": "The water, slow to fast, as in the figures (Crameri's navia, brightened).",
        "NAVIA": "navia of Crameri 2018, doi:10.5281/zenodo.1243862.",
        "BATLOW": "batlow, likewise.",
        "VIK": "vik, likewise: white in the middle.",
    }
    out = ["// Made by scripts/wire_types.py from src/gradientflow/report. Do not edit.\n"]
    for name, table in tables.items():
        out.append(f'\n/** {said[name]} */\nexport const {name} =\n  "{base64.b64encode(table).decode()}";\n')
    out.append("\n/** Inks for lines: Okabe and Ito 2008. */\n")
    out.append(f"export const INKS = {msgspec.json.encode(list(INKS)).decode()};\n")
    out.append("\n/** Speed is shown as ‖dθ/dt‖ to this power. */\n")
    out.append(f"export const BEND = {BEND};\n")
    return "".join(out)


def said() -> str:
    """The words of the screens as TypeScript: what each means, the mark of each symptom, the sign of each certificate."""
    marks = {symptom: words.mark(symptom) for symptom in records.SYMPTOMS}
    tables = {"MEANINGS": MEANINGS, "MARKS": marks, "SIGNS": SIGNS}
    out = ["// Made by scripts/wire_types.py from src/gradientflow/report. Do not edit.\n"]
    for name, table in tables.items():
        told = msgspec.json.format(msgspec.json.encode(table), indent=2).decode()
        out.append(f"\nexport const {name}: Record<string, string> = {told};\n")
    return "".join(out)


def first() -> bytes:
    """The first water, without its loss; numbers rounded to three digits, so that it packs well."""
    from gradientflow import river
    from gradientflow.app.fields import FIRST
    from gradientflow.app.water import sampled

    drawn = river.portrait(river.zoo.named(FIRST).field, FIRST_BOX, FIRST_SIDE, structure=False)
    drawn.loss = None
    drawn.u, drawn.v = ([float(f"{x:.3g}") for x in xs] for xs in (drawn.u, drawn.v))
    return sampled(drawn)


def main() -> int:
    """Write the files, or only check them."""
    parser = argparse.ArgumentParser(description="Write what the page shares with the package.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is not up to date")
    check = parser.parse_args().check
    wire = ROOT / "web" / "src" / "wire"
    made = {
        wire / "types.ts": types().encode(),
        wire / "colours.ts": colours().encode(),
        wire / "words.ts": said().encode(),
        ROOT / "src" / "gradientflow" / "app" / "static" / "first.bin": first(),
    }
    stale = []
    for file, text in made.items():
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
        elif not file.exists() or file.read_bytes() != text:
            stale.append(file.relative_to(ROOT))
    if stale:
        told = ", ".join(map(str, stale))
        print(f"{told}: not what the package says. Mend: python scripts/wire_types.py && make web", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
