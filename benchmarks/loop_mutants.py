"""Is a fault of the training loop told within its first 50 steps? Healthy scripts with one fault each put in, and counted.

    python benchmarks/loop_mutants.py [--only TEXT,TEXT] [--json FILE] [--jobs 1] [--timeout 300] [--into DIR]

Every fault of `benchmarks/mutants/faults.py` is a replacement of text in one of the healthy scripts beside it, which take 50
steps. --only picks those whose kind or name holds one of the texts (`none`: the healthy scripts alone); --into writes the
changed scripts there and runs nothing.

- told    a fault that does harm is the verdict, with an accepted symptom and cause; one that does none is the verdict or is named
          in a sentence of a certificate; what is no fault of the gradient may stay unsaid, and is not called by another name
- line    its place is within two lines of an accepted one
- healthy the script without a fault is healthy, and every certificate holds

Exit code: 0, or 1 if a fault was not told, a healthy script was not healthy, or anything crashed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a plain script

from benchmarks import cases
from benchmarks.mutants.faults import MUTANTS, NAMED, SILENT, Mutant

SCRIPTS = Path(__file__).parent / "mutants" / "scripts"
HEALTHY = tuple(sorted(file.stem for file in SCRIPTS.glob("*.py")))
SOUND = "healthy"  # the kind of the scripts without a fault


@dataclass
class Told:
    """What became of one script."""

    name: str
    kind: str
    demand: str
    told: bool
    symptom: str | None = None
    cause: str | None = None
    line: int | None = None
    right_line: bool | None = None  # None: the place is not judged
    sentence: str | None = None  # that names it, where the verdict does not
    crash: str | None = None
    loss: tuple[float | None, float | None] = (None, None)


def text_of(mutant: Mutant) -> str:
    """Return the script with the fault in it.

    Raises:
        ValueError: a text that is to be replaced does not stand in the script exactly once, or a place is not in the result.
    """
    text = (SCRIPTS / f"{mutant.script}.py").read_text(encoding="utf-8")
    for old, new in mutant.replace:
        if text.count(old) != 1:
            raise ValueError(f"mutant {mutant.name!r}: {old!r} stands {text.count(old)} times in {mutant.script}.py")
        text = text.replace(old, new)
    if mutant.at and not places(mutant, text):
        raise ValueError(f"mutant {mutant.name!r}: no line has any of {mutant.at!r}")
    return text


def places(mutant: Mutant, text: str) -> list[int]:
    """Return the lines of a changed script that are accepted as the fault's place."""
    return [i for i, line in enumerate(text.splitlines(), 1) if any(at in line for at in mutant.at)]


def judge(mutant: Mutant, lines: Sequence[int], verdict: dict[str, Any]) -> Told:
    """Say whether a verdict tells a fault.

    Args:
        mutant: the fault.
        lines: accepted as its place.
        verdict: of the changed script.
    """
    first = (verdict["findings"] or [{}])[0]
    place = first.get("place") or {}
    loss = verdict["loss"]["first"], verdict["loss"]["last"]
    found = Told(
        mutant.name,
        mutant.kind,
        mutant.demand,
        False,
        verdict["symptom"],
        first.get("cause"),
        place.get("line"),
        loss=loss,
    )
    found.told = found.symptom in mutant.symptoms and (found.cause or "") in mutant.causes
    if found.told:
        found.right_line = any(abs(found.line - i) <= cases.LINE_TOLERANCE for i in lines) if found.line else False
    elif mutant.demand == NAMED and found.symptom == "healthy":
        said = (c["why"] for c in verdict["certificates"])
        found.sentence = next((why for why in said if re.search(mutant.says, why)), None)
        found.told = found.sentence is not None
        found.right_line = any(re.search(rf":{i}\b", found.sentence or "") for i in lines)
    elif mutant.demand == SILENT:
        found.told = found.symptom == "healthy"
    if not lines or not found.told:
        found.right_line = None if not lines or mutant.demand == SILENT else False
    return found


def sound(name: str, verdict: dict[str, Any]) -> Told:
    """Judge a script without a fault: it is healthy, and every certificate holds."""
    broken = [c["name"] for c in verdict["certificates"] if c["state"] != "held"]
    held = verdict["symptom"] == "healthy" and bool(verdict["certificates"]) and not broken
    loss = verdict["loss"]["first"], verdict["loss"]["last"]
    return Told(name, SOUND, SOUND, held, verdict["symptom"], sentence=", ".join(broken) or None, loss=loss)


def run(chosen: Mutant | str, file: Path, timeout: float) -> Told:
    """Watch one script, and judge what is told of it."""
    verdict, code, _, output = cases.watched(str(file), timeout)
    problem = None
    if code is None:
        problem = f"not finished after {timeout:.0f} s"
    elif verdict is None or code != 0:
        problem = f"exit code {code}: {(output.strip().splitlines() or ['nothing said'])[-1]}"
    elif verdict["watch"]["errors"]:
        problem = f"error in the watcher: {verdict['watch']['errors'][0]}"
    if verdict is None:
        name, kind = (chosen, SOUND) if isinstance(chosen, str) else (chosen.name, chosen.kind)
        return Told(name, kind, "", False, crash=problem)
    if isinstance(chosen, str):
        told = sound(chosen, verdict)
    else:
        told = judge(chosen, places(chosen, file.read_text(encoding="utf-8")), verdict)
    told.crash, told.told = problem, told.told and problem is None
    return told


def lay_out(folder: Path, mutants: Iterable[Mutant]) -> dict[str, Path]:
    """Write the changed scripts, each into a folder of its own, and return where they are by the fault's name."""
    written = {}
    for number, mutant in enumerate(mutants):
        here = folder / f"{number:02d}"  # (without its name, which a sentence that tells a path would say by chance)
        here.mkdir(parents=True)
        written[mutant.name] = here / f"{mutant.script}.py"
        written[mutant.name].write_text(text_of(mutant), encoding="utf-8")
    return written


def table(results: Sequence[Told]) -> str:
    """Return the counts per kind and in total, as text."""
    rows = [["kind", "faults", "told", "as the verdict", "by name", "line ±2", "crashes"]]
    kinds = list(dict.fromkeys(r.kind for r in results if r.kind != SOUND))
    for name, part in [
        *((k, [r for r in results if r.kind == k]) for k in kinds),
        ("total", [r for r in results if r.kind != SOUND]),
    ]:
        verdicts = sum(r.told and r.symptom != "healthy" for r in part)
        named = sum(r.told and r.sentence is not None for r in part)
        rows.append(
            [name, str(len(part)), cases.rate(cases.tally(r.told for r in part)), str(verdicts), str(named),
             cases.rate(cases.tally(r.right_line for r in part)), str(sum(r.crash is not None for r in part))]
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def one_line(result: Told) -> str:
    """Return a result for the progress log."""
    if result.crash:
        said = f"CRASH {result.crash}"
    elif result.sentence is not None:
        said = f"named: {result.sentence}" if result.told else f"NOT HELD: {result.sentence}"
    else:
        said = f"{result.symptom} · {result.cause} · line {result.line}"
    marks = ("" if result.told else "MISSED ") + ("wrong line " if result.told and result.right_line is False else "")
    return f"{result.kind:<9} {result.name:<48} {marks}{said}"


def pick(only: str | None) -> list[Mutant]:
    """Return the faults whose kind or name holds one of the texts; all without one."""
    wanted = [text.strip() for text in (only or "").split(",") if text.strip()]
    return [m for m in MUTANTS if not wanted or any(text == m.kind or text in m.name for text in wanted)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Put the faults in, run the scripts, print the table."""
    parser = argparse.ArgumentParser(description="Is a fault of the training loop told within its first 50 steps?")
    parser.add_argument(
        "--only", metavar="TEXTS", help="only faults whose kind or name holds one of these; none: no fault"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result here")
    parser.add_argument("--jobs", type=int, default=1, help="scripts at a time (default 1)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per run (default 300)")
    parser.add_argument("--into", type=Path, metavar="DIR", help="write the changed scripts here, and run nothing")
    options = parser.parse_args(arguments)
    mutants = pick(options.only)
    if options.into is not None:
        lay_out(options.into, mutants)
        return 0
    results: list[Told] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as made, ThreadPoolExecutor(options.jobs) as pool:
        files = lay_out(Path(made), mutants)
        jobs: list[tuple[Mutant | str, Path]] = [(name, SCRIPTS / f"{name}.py") for name in HEALTHY]
        jobs += [(mutant, files[mutant.name]) for mutant in mutants]
        for result in pool.map(lambda job: run(*job, options.timeout), jobs):
            results.append(result)
            print(f"[{len(results)}/{len(jobs)}] {one_line(result)}", file=sys.stderr, flush=True)
    print(table(results))
    for result in results:
        if not result.told:
            print(f"not told: {one_line(result)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n", encoding="utf-8")
    return 0 if all(r.told for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
