"""Who else finds the fault? The table of benchmarks/cases.py for rivals that install, beside ours, in one run.

    python benchmarks/rivals.py --cases DIR --venv DIR [--every 3] [--only case_001,…] [--rivals NAMES] [--raw DIR] [--json FILE]

Rivals: TorchLens' gradient_flow_audit, torchmortem, torch-audit, torchdiag, and PyTorch's own anomaly mode. They live in
an environment of their own, never in this one: `--venv` names it, and it is made there if it is missing (PyTorch first,
at this environment's version, then each rival by itself, so that one that does not install does not stop the others).
Scripts are run as they are; benchmarks/rival_driver.py puts one rival around one script.

What is counted, over faulty scripts: symptom, cause and line, as benchmarks/cases.py does it for the first finding of our
verdict, but for *any* finding of a rival. benchmarks/rival_maps.py says how its words are read, and where it is given the
benefit of the doubt. Over healthy scripts: false alarms. Crashed: the rival failed or did not end in time. Could not run:
it needs something the script has not (a module, say). Both count as "not found", and as no false alarm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cases import Label, choose, execute, line_is_right, rate, run_case, tally
from benchmarks.rival_maps import Claim, claims

OURS = "gradientflow"
PACKAGES = {
    "torchlens": "torchlens",
    "torchmortem": "torchmortem",
    "torch-audit": "torch-audit",
    "torchdiag": "torchdiag",
    "anomaly mode": "",
}
ALSO = ("numpy", "scikit-learn")  # what training scripts import beside PyTorch
DRIVER = Path(__file__).with_name("rival_driver.py")


@dataclass
class Outcome:
    """What one tool made of one script. None in a `right_…` field means: does not apply to this script."""

    tool: str
    file: str
    healthy: bool
    state: str = "ran"  # ran, crashed, could not run
    why: str = ""
    findings: int = 0
    right_symptom: bool | None = None
    right_cause: bool | None = None
    right_line: bool | None = None
    false_alarm: bool | None = None
    seconds: float = 0.0


def judge(tool: str, label: Label, told: dict[str, Any] | None, made: Sequence[Claim], seconds: float = 0.0) -> Outcome:
    """Compare the claims of one rival with a label.

    Args:
        tool: the rival.
        label: the script's label.
        told: what the driver wrote; None: nothing.
        made: the claims in it.
        seconds: the run took.
    """
    outcome = Outcome(tool, label["file"], bool(label["healthy"]), findings=len(made), seconds=seconds)
    if told is None:
        outcome.state, outcome.why = "crashed", "left nothing behind"
    elif told["crash"]:
        outcome.state, outcome.why = "crashed", told["crash"]
    elif told["could_not"]:
        outcome.state, outcome.why = "could not run", told["could_not"]
    if outcome.healthy:
        outcome.false_alarm = any(claim.alarm for claim in made)
        return outcome
    outcome.right_symptom = any(set(claim.symptoms) & set(label["symptoms"]) for claim in made)
    outcome.right_cause = any(set(claim.causes) & set(label["causes"]) for claim in made)
    if label["lines"]:
        places = [{"file": label["file"], "line": line} for claim in made for line in claim.lines]
        outcome.right_line = any(line_is_right(place, label) for place in places)
    return outcome


def ours(label: Label, cases: Path, timeout: float) -> Outcome:
    """Run our own watcher; only the first finding of its verdict counts."""
    result = run_case(label, cases, timeout, plain=False)
    return Outcome(
        OURS, result.file, result.healthy, "crashed" if result.crash else "ran", result.crash or "", 1, result.right_symptom,
        result.right_cause, result.right_line, result.false_alarm, result.seconds or 0.0,
    )  # fmt: skip


def run_rival(tool: str, python: Path, label: Label, cases: Path, timeout: float, raw: Path | None) -> Outcome:
    """Run one rival around one script in an empty folder, and judge what it says; `raw` keeps its words."""
    script = (cases / label["file"]).resolve()
    kept = raw / f"{tool.replace(' ', '-')}-{script.stem}.json" if raw is not None else None
    seconds = 0.0
    if kept is not None and kept.exists():  # said before: only read it again
        told = json.loads(kept.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory(prefix="rival-") as folder:
            out = Path(folder) / "told.json"
            work = Path(folder) / "work"
            work.mkdir()
            code, seconds, said = execute([str(python), str(DRIVER), tool, str(script), str(out)], work, timeout, 1)
            told = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
        if told is None:
            last = said.strip().splitlines()[-1] if said.strip() else ""
            why = f"not finished after {timeout:.0f} s" if code is None else f"exit code {code}: {last}"
            told = {"crash": why, "could_not": None, "findings": [], "places": {}}
        if kept is not None:
            kept.write_text(json.dumps(told), encoding="utf-8")
    return judge(tool, label, told, claims(tool, told), seconds)


# ── the rivals' own environment ──────────────────────────────────────────────────────────────────────────────────────


def python_of(venv: Path) -> Path:
    """The Python of an environment."""
    return venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def prepare(venv: Path, tools: Sequence[str]) -> dict[str, str]:
    """Make the environment where it is missing, and install what is missing in it.

    Returns:
        For each rival that could not be installed, why.

    Raises:
        SystemExit: the environment is the one this runs in, or PyTorch does not install there.
    """
    import torch

    if venv.resolve() == Path(sys.prefix).resolve():
        raise SystemExit(
            f"error: --venv {venv} is the environment this runs in. Expected one of the rivals' own; name another."
        )
    python = python_of(venv)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pin = f"torch=={torch.__version__.split('+')[0]}"
    pins = venv / "pins.txt"
    pins.write_text(pin + "\n", encoding="utf-8")
    base = _install(python, [pin, *ALSO], pins)
    if base:
        raise SystemExit(f"error: {pin} does not install into {venv}: {base}")
    return {t: why for t in tools if PACKAGES[t] and (why := _install(python, [PACKAGES[t]], pins))}


def _install(python: Path, packages: Sequence[str], pins: Path) -> str:
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(pins), *packages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = done.stderr.strip().splitlines()
    return (told[-1] if told else f"exit code {done.returncode}") if done.returncode else ""


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(outcomes: Sequence[Outcome]) -> str:
    """One row per tool."""
    rows = [["", "symptom", "cause", "line", "false alarms", "silent on faulty", "crashed", "could not run"]]
    for tool in dict.fromkeys(o.tool for o in outcomes):
        mine = [o for o in outcomes if o.tool == tool]
        faulty = [o for o in mine if not o.healthy]
        rows.append(
            [
                tool + (" (first finding)" if tool == OURS else " (any finding)"),
                *(rate(tally(getattr(o, f"right_{what}") for o in mine)) for what in ("symptom", "cause", "line")),
                rate(tally(o.false_alarm for o in mine)),
                "–" if tool == OURS else f"{sum(not o.findings for o in faulty)}/{len(faulty)}",
                str(sum(o.state == "crashed" for o in mine)),
                str(sum(o.state == "could not run" for o in mine)),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def thinned(labels: list[Label], every: int) -> list[Label]:
    """Every so many of the faulty scripts and every so many of the healthy ones."""
    faulty, healthy = ([x["file"] for x in labels if x["healthy"] == sort] for sort in (False, True))
    chosen = {*faulty[::every], *healthy[::every]}
    return [x for x in labels if x["file"] in chosen]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, count, tell."""
    parser = argparse.ArgumentParser(description="Who else finds the fault? Our table beside the rivals'.")
    parser.add_argument("--cases", type=Path, required=True, metavar="DIR", help="folder with scripts and labels.json")
    parser.add_argument(
        "--venv", type=Path, required=True, metavar="DIR", help="the rivals' environment; made if missing"
    )
    parser.add_argument("--rivals", default=",".join(PACKAGES), metavar="NAMES", help="default: all")
    parser.add_argument("--only", metavar="NAMES", help="only these scripts: case_001,case_002")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every N-th faulty and every N-th healthy script"
    )
    parser.add_argument("--timeout", type=float, default=300, help="seconds per run (default 300)")
    parser.add_argument(
        "--raw", type=Path, metavar="DIR", help="keep each rival's own words here; words kept are not asked for again"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome here")
    parser.add_argument("--no-ours", action="store_true", help="rivals only")
    options = parser.parse_args(arguments)
    try:
        labels = json.loads((options.cases / "labels.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"--cases {options.cases}: no readable labels.json there ({error})")
    labels = thinned(choose(labels, options.only), options.every)
    tools = [name.strip() for name in options.rivals.split(",") if name.strip()]
    if unknown := [name for name in tools if name not in PACKAGES]:
        parser.error(f"--rivals names {', '.join(unknown)}; known are {', '.join(PACKAGES)}")
    lacking = prepare(options.venv, tools)
    if options.raw is not None:
        options.raw.mkdir(parents=True, exist_ok=True)

    outcomes: list[Outcome] = []
    for k, label in enumerate(labels):
        if not options.no_ours:
            outcomes.append(ours(label, options.cases, options.timeout))
        for tool in tools:
            if tool not in lacking:
                python = python_of(options.venv)
                outcomes.append(run_rival(tool, python, label, options.cases, options.timeout, options.raw))
        print(f"[{k + 1}/{len(labels)}] {label['file']}", file=sys.stderr, flush=True)

    outcomes.sort(key=lambda o: [OURS, *PACKAGES].index(o.tool))
    print(table(outcomes))
    for tool, why in lacking.items():
        print(f"not installed: {tool}: {why}")
    for o in outcomes:
        if o.state != "ran":
            print(f"{o.state}: {o.tool} on {o.file}: {o.why}")
    if options.json:
        options.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
