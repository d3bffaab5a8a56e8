"""Writes docs/verdict.schema.json, the JSON Schema of verdict.json, from the types in records.py.

python scripts/write_schema.py           write it
python scripts/write_schema.py --check   exit with 1 if the file is not what would be written
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from gradientflow.records import SCHEMA, SYMPTOMS, Verdict

FILE = Path(__file__).resolve().parent.parent / "docs" / "verdict.schema.json"


def schema() -> dict[str, Any]:
    """The schema, with what Python's types cannot say: the name of the schema and the symptoms there are."""
    found = msgspec.json.schema(Verdict)
    definitions = found["$defs"]
    definitions["Verdict"]["properties"]["schema"] = {"const": SCHEMA}
    definitions["Verdict"]["required"].append("schema")
    for name in ("Verdict", "Finding"):
        definitions[name]["properties"]["symptom"] = {
            "type": "string",
            "description": "One of these; the list may grow, a word on it never changes its meaning.",
            "examples": list(SYMPTOMS),
        }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **found}


def text() -> str:
    """The file's text."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file, or only check it."""
    parser = argparse.ArgumentParser(description="Write the JSON Schema of verdict.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is not up to date")
    if not parser.parse_args().check:
        FILE.write_text(text(), encoding="utf-8")
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != text():
        print(f"{FILE.name} is not what records.py says. Mend: python scripts/write_schema.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
