"""How often is the verdict right? Runs `gradientflow run` on labelled scripts and counts.

    python benchmarks/cases.py [--cases DIR] [--json FILE] [--jobs 2] [--only case_001,case_002] [--timeout 300]
                               [--replay] [--replay-budget 120]

DIR holds scripts and a `labels.json`: a list of {"file", "healthy", "symptoms", "causes", "lines", …}, where a faulty
script lists the symptoms and causes that are accepted (best first) and the line ranges [first, last] its fault is in;
"env" holds what the script is to find in its environment.

Without --cases it is benchmarks/cases, the set of this repository. A `stated.json` beside the labels holds the figures that
a run of all scripts must reach: the least share of right symptoms, causes and lines, and the most false alarms.

What is counted, always on the first finding of the verdict:

- symptom   it is one of the accepted ones
- cause     it is one of the accepted ones
- line      it is within two lines of an accepted range (only scripts whose label has lines)
- remedy    with --replay: the best remedy that was replayed is of an accepted kind (faulty scripts whose label has some)
- win       with --replay: some remedy was a proven win, accepted or not
- false alarm  a healthy script was not called healthy
- crash     no readable verdict, an error inside the watcher, or another exit code than `python script.py` gives

Exit code: 0, or 1 if anything crashed, or a stated figure was not reached.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WATCH = (sys.executable, "-m", "gradientflow")
CASES = Path(__file__).resolve().with_suffix("")  # the set of this repository
LINE_TOLERANCE = 2

Label = dict[str, Any]


@dataclass
class Result:
    """What became of one script. None in a `right_…` field means: does not apply to this script."""

    file: str
    healthy: bool
    expected: str  # the label's best cause, or "healthy"
    symptom: str | None = None
    cause: str | None = None
    line: int | None = None
    right_symptom: bool | None = None
    right_cause: bool | None = None
    right_line: bool | None = None
    remedy: str | None = None  # the best one that was replayed, of several together the first; None: no proven win
    right_remedy: bool | None = None
    win: bool | None = None
    false_alarm: bool | None = None
    crash: str | None = None  # what went wrong, in words
    seconds: float | None = None  # the whole watched run, start of Python included
    seconds_plain: float | None = None
    overhead: float | None = None  # of the script's own time, as the watcher measured it
    steps: int | None = None


# ── scoring ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def line_is_right(place: dict[str, Any] | None, label: Label) -> bool | None:
    """Whether a finding's place is within LINE_TOLERANCE of a labelled range; None if the label has no lines."""
    if not label["lines"]:
        return None
    if not place or place.get("line") is None or Path(place.get("file") or "").name != Path(label["file"]).name:
        return False
    return any(first - LINE_TOLERANCE <= place["line"] <= last + LINE_TOLERANCE for first, last in label["lines"])


def score(
    label: Label,
    verdict: dict[str, Any] | None,
    exit_code: int,
    plain_exit_code: int | None = None,
    replay: bool = False,
) -> Result:
    """Judge one verdict by its label. `plain_exit_code` None: the script was not run plainly, 0 is expected."""
    healthy = bool(label["healthy"])
    result = Result(label["file"], healthy, "healthy" if healthy else label["causes"][0])
    expected_code = plain_exit_code or 0
    if verdict is None:
        result.crash = f"no verdict (exit code {exit_code})"
    elif errors := verdict.get("watch", {}).get("errors"):
        result.crash = f"error in the watcher: {errors[0]}"
    elif exit_code != expected_code:
        result.crash = f"exit code {exit_code}, unwatched {expected_code}"

    findings = (verdict or {}).get("findings") or [{}]
    place = findings[0].get("place")
    result.symptom = (verdict or {}).get("symptom")
    result.cause = findings[0].get("cause")
    result.line = (place or {}).get("line")
    result.overhead = (verdict or {}).get("watch", {}).get("overhead")
    result.steps = (verdict or {}).get("steps")
    if healthy:
        result.false_alarm = verdict is not None and result.symptom != "healthy"
    else:
        result.right_symptom = result.symptom in label["symptoms"]
        result.right_cause = result.cause in label["causes"]
        result.right_line = line_is_right(place, label)
        if replay:
            result.remedy = best_remedy(verdict)
            result.win = result.remedy is not None
            result.right_remedy = result.remedy in label["remedies"] if label.get("remedies") else None
    return result


def best_remedy(verdict: dict[str, Any] | None) -> str | None:
    """The kind of the best replayed remedy; of several together the first; None if there was no proven win."""
    told = (verdict or {}).get("replay") or {}
    best = told.get("best")
    return told["trials"][best]["changes"][0]["kind"] if best is not None else None


def tally(values: Iterable[bool | None]) -> dict[str, int]:
    """How many of those that apply are true."""
    applies = [value for value in values if value is not None]
    return {"right": sum(applies), "of": len(applies)}


def rate(count: dict[str, int]) -> str:
    """A tally as text: 37/39 (94.9 %)."""
    right, of = count["right"], count["of"]
    return f"{right}/{of} ({100 * right / of:.1f} %)" if of else "–"


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """The counts of a set of results."""
    overheads = [r.overhead for r in results if r.overhead is not None]
    return {
        "scripts": len(results),
        "symptom": tally(r.right_symptom for r in results),
        "cause": tally(r.right_cause for r in results),
        "line": tally(r.right_line for r in results),
        "remedy": tally(r.right_remedy for r in results),
        "win": tally(r.win for r in results),
        "false_alarms": tally(r.false_alarm for r in results),
        "crashes": sum(r.crash is not None for r in results),
        "seconds": sum(r.seconds or 0.0 for r in results),
        "seconds_plain": sum(r.seconds_plain or 0.0 for r in results),
        "overhead_median": statistics.median(overheads) if overheads else None,
    }


def by_cause(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """The counts per expected cause, healthy last."""
    names = sorted({r.expected for r in results}, key=lambda name: (name == "healthy", name))
    return {name: summarise([r for r in results if r.expected == name]) for name in names}


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def execute(
    command: Sequence[str], folder: Path, timeout: float, threads: int, env: Mapping[str, str] | None = None
) -> tuple[int | None, float, str]:
    """Run a command in a folder: exit code (None: ran out of time), seconds, the end of what it said."""
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8"} | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that its own workers end with it
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            code: int | None = process.returncode
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = None
    return code, time.perf_counter() - began, output[-2000:]


def watched(
    script: str,
    timeout: float,
    threads: int = 1,
    env: Mapping[str, str] | None = None,
    watch: Sequence[str] = WATCH,
    options: Sequence[str] = (),
) -> tuple[dict[str, Any] | None, int | None, float, str]:
    """Run one script watched, in an empty folder: its verdict (None: no readable one), and what `execute` returns."""
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        file = Path(folder) / "verdict.json"
        work = Path(folder) / "work"
        work.mkdir()
        out = str(Path(folder) / "out")
        command = [*watch, "run", "--quiet", *options, "--json", str(file), "--out", out, script]
        code, seconds, output = execute(command, work, timeout, threads, env)
        try:
            return json.loads(file.read_text(encoding="utf-8")), code, seconds, output
        except (OSError, ValueError):
            return None, code, seconds, output


def run_case(
    label: Label,
    cases: Path,
    timeout: float,
    threads: int = 1,
    plain: bool = True,
    watch: Sequence[str] = WATCH,
    replay: float | None = None,
) -> Result:
    """Run one script plainly and watched, each in an empty folder of its own, and judge the verdict.

    `replay` is the seconds its remedies may be replayed for; None: they are not, nor are those of a healthy script.
    """
    script = str((cases / label["file"]).resolve())
    env = label.get("env")
    plain_code, plain_seconds = None, None
    if plain:
        with tempfile.TemporaryDirectory(prefix="case-plain-") as folder:
            plain_code, plain_seconds, _ = execute([sys.executable, script], Path(folder), timeout, threads, env)
    again = ["--replay", "--replay-budget", str(replay)] if replay is not None and not label["healthy"] else []
    verdict, code, seconds, output = watched(script, timeout + (replay or 0.0), threads, env, watch, again)
    if code is None:
        result = score(label, None, -1)
        result.crash = f"not finished after {timeout:.0f} s"
    else:
        result = score(label, verdict, code, plain_code, replay is not None)
        if verdict is None and output.strip():
            result.crash = f"{result.crash}: {output.strip().splitlines()[-1]}"
    result.seconds, result.seconds_plain = seconds, plain_seconds
    return result


def choose(labels: list[Label], only: str | None) -> list[Label]:
    """The labels named in a comma-separated list, with or without .py; all of them if there is no list."""
    if not only:
        return labels
    wanted = [name.strip().removesuffix(".py").removesuffix("/train") for name in only.split(",") if name.strip()]
    known = {label["file"].removesuffix(".py").removesuffix("/train"): label for label in labels}
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"error: --only names {', '.join(unknown)}, not in labels.json")
    return [known[name] for name in wanted]


def figures(cases: Path) -> dict[str, float]:
    """The figures stated for a set of cases; none where it states none."""
    file = cases / "stated.json"
    stated: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return stated


def missed(counts: dict[str, Any], stated: dict[str, float]) -> list[str]:
    """Say in words which stated figures the counts of a set do not reach."""
    found = []
    for name, figure in stated.items():
        right, of = counts[name]["right"], counts[name]["of"]
        if name == "false_alarms" and right > figure:
            found.append(f"{right} false alarms; at most {figure:.0f} are stated")
        elif name != "false_alarms" and of and right < figure * of:
            found.append(f"{name} {rate(counts[name])}; {100 * figure:.1f} % are stated")
    return found


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_line(result: Result) -> str:
    """A result for the progress log."""
    if result.crash:
        said = f"CRASH {result.crash}"
    elif result.healthy:
        said = f"FALSE ALARM {result.symptom} · {result.cause}" if result.false_alarm else "healthy"
    else:
        marks = [("symptom", result.right_symptom), ("cause", result.right_cause), ("line", result.right_line)]
        wrong = [name for name, right in marks if right is False]
        said = f"{result.symptom} · {result.cause} · line {result.line}"
        said += f"   wrong {', '.join(wrong)}" if wrong else ""
        if result.win is not None:
            said += f"   best {result.remedy or '(no proven win)'}" + (" wrong" if result.right_remedy is False else "")
    return f"{result.file:<14} {result.seconds or 0:5.1f} s  {result.expected:<24} {said}"


def table(results: Sequence[Result]) -> str:
    """The counts per cause and in total, as text."""
    line = f"line ±{LINE_TOLERANCE}"
    tried = ["remedy", "win"] if any(r.win is not None for r in results) else []
    header = ["expected", "scripts", "symptom", "cause", line, *tried, "false alarms", "crashes", "overhead"]
    rows = [header]
    for name, counts in [*by_cause(results).items(), ("total", summarise(results))]:
        overhead = counts["overhead_median"]
        rows.append(
            [
                name,
                str(counts["scripts"]),
                *(rate(counts[key]) for key in ("symptom", "cause", "line", *tried, "false_alarms")),
                str(counts["crashes"]),
                "–" if overhead is None else f"{100 * overhead:.1f} %",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "─" * max(map(len, lines))
    total = summarise(results)
    notes = ["overhead: median of what the watcher measured of itself", f"{total['seconds']:.0f} s watched in all"]
    if total["seconds_plain"]:
        notes[-1] += f", {total['seconds_plain']:.0f} s plain (both with the start of Python and its imports)"
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], "", *notes])


def main(arguments: Sequence[str] | None = None, watch: Sequence[str] = WATCH) -> int:
    """Run the cases, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description="How often is the verdict right? Counts over labelled scripts.")
    parser.add_argument(
        "--cases",
        type=Path,
        default=CASES,
        metavar="DIR",
        help="folder with scripts and labels.json (default: benchmarks/cases)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts and every result here")
    parser.add_argument("--jobs", type=int, default=2, help="scripts at a time (default 2)")
    parser.add_argument("--only", metavar="NAMES", help="only these scripts: case_001,case_002")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per run (default 300)")
    parser.add_argument("--no-plain", action="store_true", help="do not run the scripts unwatched; expect exit code 0")
    parser.add_argument(
        "--replay", action="store_true", help="replay the remedies of faulty scripts, and count those too"
    )
    parser.add_argument("--replay-budget", type=float, default=120, help="seconds of replay per script (default 120)")
    options = parser.parse_args(arguments)
    replay = options.replay_budget if options.replay else None
    try:
        labels = json.loads((options.cases / "labels.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"--cases {options.cases}: no readable labels.json there ({error})")
    stated = {} if options.only else figures(options.cases)
    labels = choose(labels, options.only)

    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    results: list[Result] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [
            pool.submit(run_case, label, options.cases, options.timeout, threads, not options.no_plain, watch, replay)
            for label in labels
        ]
        try:
            for done in as_completed(waiting):
                results.append(done.result())
                print(f"[{len(results)}/{len(labels)}] {one_line(results[-1])}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    results.sort(key=lambda result: result.file)

    print(table(results))
    for result in results:
        if result.crash:
            print(f"crash: {result.file}: {result.crash}")
    if options.json:
        content = {
            "total": summarise(results),
            "by_cause": by_cause(results),
            "scripts": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    short = missed(summarise(results), stated)
    for told in short:
        print(f"not reached: {told}")
    return 1 if short or any(result.crash for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
