"""What does the tool see where the source says nothing? Pairs of byte-identical scripts, one run sound, one faulty.

    python benchmarks/source_twins.py [--into DIR] [what benchmarks/cases.py takes: --json, --jobs, --only, --timeout, …]

The two scripts of a pair are the same to the byte; what differs is a data file, a checkpoint, a configuration or the
environment. Whoever only reads the script is right on one of the two by chance. Counted as in `benchmarks/cases.py`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a plain script

from benchmarks import cases
from benchmarks.twins.pairs import PAIRS, Pair

SCRIPTS = Path(__file__).parent / "twins" / "scripts"


def lay_out(folder: Path, pairs: Sequence[Pair] = PAIRS) -> list[dict[str, Any]]:
    """Write every pair below a folder, with labels.json, and return the labels.

    Args:
        folder: is made; each run gets a folder of its own in it.
        pairs: which.

    Raises:
        ValueError: a line that a pair names by its text is not in its script.
    """
    labels = []
    for pair in pairs:
        for faulty in (False, True):
            name = f"{pair.name}-{'faulty' if faulty else 'sound'}"
            here = folder / name
            here.mkdir(parents=True)
            shutil.copyfile(SCRIPTS / pair.script, here / "train.py")
            if pair.files is not None:
                pair.files(here, faulty)
            labels.append(_label(pair, faulty, f"{name}/train.py"))
    (folder / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
    return labels


def _label(pair: Pair, faulty: bool, file: str) -> dict[str, Any]:
    text = (SCRIPTS / pair.script).read_text(encoding="utf-8").splitlines()
    lines = [[i, i] for i, line in enumerate(text, 1) if any(at in line for at in pair.at)]
    if missing := [at for at in pair.at if not any(at in line for line in text)]:
        raise ValueError(f"pair {pair.name}: {pair.script} has no line with {missing[0]!r}")
    return {
        "file": file,
        "healthy": not faulty,
        "story": pair.story if faulty else "sound",
        "symptoms": list(pair.symptoms) if faulty else ["healthy"],
        "causes": list(pair.causes) if faulty else [],
        "lines": lines if faulty else [],
        "remedies": list(pair.remedies) if faulty else [],
        "env": pair.faulty if faulty else pair.sound,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Lay the pairs out and run them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--into" in given:
        at = given.index("--into")
        folder = Path(given[at + 1])
        del given[at : at + 2]
        lay_out(folder)
        return cases.main(["--cases", str(folder), *given])
    with tempfile.TemporaryDirectory(prefix="twins-") as made:
        lay_out(Path(made) / "pairs")
        return cases.main(["--cases", str(Path(made) / "pairs"), *given])


if __name__ == "__main__":
    sys.exit(main())
