"""Runs the hostile scripts plain and watched, and tells which of them notice that they are watched.

    python -m tests.hostile [--only NAMES] [--kinds KINDS] [--warm] [--probe-every N] [--json FILE]

Each run starts an interpreter of its own, as a user does; --warm forks it from one that has loaded PyTorch (what is decided
when an interpreter starts is then left out). Exit code: 0, or 1 if any script differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.case import Case
from tests.hostile.compare import differences
from tests.hostile.running import Cold, Runner, Warm, both
from tests.hostile.scripts import CASES, KINDS


@dataclass(frozen=True)
class Result:
    """What became of one script."""

    case: Case
    found: list[str]  # differences, in words
    errors: list[str]  # of the watcher, as the verdict tells them; they hurt nobody, and want mending
    seconds: float


def chosen(only: str | None, kinds: str | None) -> list[Case]:
    """The cases of comma-separated names and kinds; all, where none are named."""
    names = [n.strip() for n in only.split(",") if n.strip()] if only else list(CASES)
    wanted = [k.strip() for k in kinds.split(",") if k.strip()] if kinds else KINDS
    if unknown := [n for n in names if n not in CASES] + [k for k in wanted if k not in KINDS]:
        raise SystemExit(f"error: no script or kind is called {', '.join(unknown)}. Kinds: {', '.join(KINDS)}.")
    return [CASES[n] for n in names if CASES[n].kind in wanted]


def run_one(case: Case, runner: Runner, options: Sequence[str]) -> Result:
    """Run one case both ways."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder:
        plain, watched = both(case, Path(folder).resolve(), runner, options)
    errors = list(((watched.verdict or {}).get("watch") or {}).get("errors", []))
    return Result(case, differences(case, plain, watched), errors, time.perf_counter() - began)


def table(results: Sequence[Result]) -> str:
    """How many scripts of each kind are left unhurt, as text."""
    rows = [("kind", "scripts", "unhurt", "differ", "watcher erred")]
    for kind in (*KINDS, "total"):
        some = [r for r in results if kind in (r.case.kind, "total")]
        if some:
            hurt, erred = sum(bool(r.found) for r in some), sum(bool(r.errors) for r in some)
            rows.append((kind, str(len(some)), str(len(some) - hurt), str(hurt), str(erred)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases, with a line for each, and print the table."""
    parser = argparse.ArgumentParser(description="Which scripts notice that they are watched?")
    parser.add_argument("--only", metavar="NAMES", help="only these scripts, by comma-separated names")
    parser.add_argument("--kinds", metavar="KINDS", help=f"only these kinds: {', '.join(KINDS)}")
    parser.add_argument("--warm", action="store_true", help="fork the runs from one interpreter; much faster")
    parser.add_argument("--probe-every", metavar="N", help="watch with --probe-every N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here")
    told = parser.parse_args(arguments)
    options = ["--probe-every", told.probe_every] if told.probe_every else []
    results: list[Result] = []
    with Warm() if told.warm else Cold() as runner:
        cases = [case for case in chosen(told.only, told.kinds) if runner.fits(case)]
        for number, case in enumerate(cases, 1):
            results.append(run_one(case, runner, options))
            last = results[-1]
            mark = "DIFFERS" if last.found else "unhurt"
            print(f"[{number}/{len(cases)}] {case.kind:<12} {case.name:<28} {last.seconds:6.1f} s  {mark}", flush=True)
            for line in last.found:
                print(f"  {line}", flush=True)
            for line in last.errors:
                print(f"  (told by the watcher: {line})", flush=True)
    print("\n" + table(results))
    if told.json:
        content = {
            r.case.name: {"differences": r.found, "errors": r.errors, "seconds": round(r.seconds, 2)} for r in results
        }
        told.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if any(r.found for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
