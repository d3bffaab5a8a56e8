"""`gradientflow report`: judges a run on disk again; and the files that every verdict is written to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console

from gradientflow import depth, files, store
from gradientflow.cli import formats, options
from gradientflow.cli.common import EXIT_USAGE, say, told_on
from gradientflow.errors import RecordError
from gradientflow.files import encoded, reason, settled, shown
from gradientflow.records import Note, Replay, Run, Verdict
from gradientflow.report import check_file, print_verdict, write_html


def report_command(
    folder: options.RunFolder,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", parser=options.path("--json"), help="Also write the verdict to FILE, as JSON."
        ),
    ] = None,
    format: formats.Format = "text",
    output: formats.Output = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the files only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="All of the evidence, not only the numbers that decide.")
    ] = False,
) -> None:
    """Judge a run again and render its report: also of a run that was killed, or that is still going on."""
    json = check_file("--json", json) if json is not None else None
    output = formats.check(format, output, mixed=False)
    run_seen = store.read(folder)
    run_seen.notes += store.beside(folder, run_seen.meta)
    replay = replayed(folder, run_seen)
    verdict = depth.attach(depth.judge(run_seen), replay)
    problems: list[str] = []
    page = write(verdict, run_seen, folder if folder.is_dir() else folder.parent, json, problems)
    err = told_on()
    if not quiet:
        show(verdict, run_seen, page, err, problems, verbose=verbose)
    formats.emit(format, output, verdict, run_seen, problems, folder)
    for problem in problems:
        say(err, problem)
    raise SystemExit(EXIT_USAGE if problems else 0)


def replayed(folder: Path, run_seen: Run) -> Replay | None:
    """What was replayed; where that cannot be read, a note of the run says so, and the rest is told without it."""
    try:
        return store.read_replay(folder)
    except RecordError as problem:
        run_seen.notes.append(Note("replay", str(problem)))
        return None


def write(verdict: Verdict, run_seen: Run, folder: Path, json: Path | None, problems: list[str]) -> Path | None:
    """Write verdict.json and report.html (and --json); what cannot be written becomes a problem to tell, not a crash."""
    folder = settled(folder)
    try:
        text = msgspec.json.format(encoded(verdict), indent=2) + b"\n"
    except Exception as problem:
        problems.append(f"the verdict could not be written as JSON: {type(problem).__name__}: {problem}.")
        text = b""
    for file in [folder / "verdict.json", *([json] if json is not None else [])]:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            files.write(file, text)
        except OSError as problem:
            problems.append(
                f"the verdict could not be written to {file}: {reason(problem)}. Free some space or name another place."
            )
    page = folder / "report.html"
    try:
        state: Literal["ended", "silent"] = "ended" if run_seen.meta.ended is not None else "silent"
        moment = depth.moment(run_seen, verdict, state=state)
        write_html(moment, page, str(shown(folder)))
    except OSError as problem:
        problems.append(
            f"the report could not be written to {page}: {reason(problem)}. Free some space, then: gradientflow report {folder}"
        )
        return None
    except Exception as problem:  # a fault of ours must not cost the script its exit code, nor the user the verdict
        problems.append(
            f"the report could not be made: {type(problem).__name__}: {problem}. The verdict is in {folder / 'verdict.json'}."
        )
        return None
    return shown(page)


def show(
    verdict: Verdict, run_seen: Run, page: Path | None, console: Console, problems: list[str], *, verbose: bool = False
) -> None:
    """Print the verdict; where that fails, its summary, and the failure becomes a problem to tell."""
    try:
        print_verdict(verdict, run_seen, console, report=str(page) if page else None, verbose=verbose)
    except Exception as problem:
        say(console, f"{verdict.symptom}: {verdict.summary}")
        problems.append(f"the verdict could not be shown whole: {type(problem).__name__}: {problem}.")
