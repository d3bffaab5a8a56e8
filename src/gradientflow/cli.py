"""The front door: parses a command, calls a wing's door, prints what it returns."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from gradientflow import __version__, depth, report, store
from gradientflow.errors import GradientflowError, OutputError, UsageError
from gradientflow.records import SYMPTOMS, Run, Verdict

EXIT_USAGE = 2
EXIT_FAILED_ON = 3
SICK = tuple(s for s in SYMPTOMS if s not in ("healthy", "not-measured"))

app = typer.Typer(
    name="gradientflow",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watches the gradient of a training script and says where it goes wrong: at which line, why, and what helps.",
    epilog="Begin with: [bold]gradientflow run train.py[/bold]   — your script runs as it is, no line of it changes.",
)

_RUN_HELP = """Run a training script under watch and end with a verdict.

The script runs exactly as [bold]python script.py …[/bold] would: same arguments, output, exit code, random numbers and \
results, to the bit. While it trains, gradientflow reads its gradient through PyTorch's own hooks. At the end it says \
what is wrong (vanishing, exploding, not finite, dead, disconnected, …), at which source line, why, and what to do, \
and writes a report you can open and share.

[bold]Examples[/bold]

  gradientflow run train.py --epochs 3                 options after the script are the script's own

  gradientflow run -m package.train lr=0.1             run a module, as python -m does

  gradientflow run --max-steps 200 train.py            look at the first 200 steps only

  gradientflow run --fail-on vanishing,not-finite t.py exit code 3 on these symptoms, for CI

Press Ctrl-C once to stop the script and get the verdict on what was seen so far."""


@app.command(
    help=_RUN_HELP,
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},
)
def run(
    target: Annotated[
        list[str], typer.Argument(metavar="SCRIPT [ARGS]", help="The script (or module, with -m), then its own arguments.")
    ],
    module: Annotated[bool, typer.Option("-m", "--module", help="SCRIPT is a module name, run as python -m does.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for run.db, report.html, verdict.json. Default: runs/<script>-<time>/"),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the verdict to FILE, as JSON.")] = None,
    probe_every: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Trace every N-th step op by op. Default: the first steps, then ever more "
                     "rarely, and at once when something looks wrong."),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop the script after N optimizer steps.")] = None,
    max_time: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Stop the script after so many seconds.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No live line and no verdict on the terminal; files only.")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="SYMPTOMS", help=f"Exit with code 3 when one of these is found: any, or a comma-separated list of "
                     f"{', '.join(SICK)}."),
    ] = None,
) -> None:  # fmt: skip
    wanted = _symptoms(fail_on)
    if json is not None:
        _writable(json)
    err = _console()
    live = None if quiet else report.LiveLine(sys.stderr)
    outcome = depth.run(
        target, module=module, out=out, probe_every=probe_every, max_steps=max_steps, max_time=max_time, live=live
    )
    problems = list(outcome.problems)
    page = _write(outcome.verdict, outcome.run, outcome.folder, json, problems)
    if not quiet:
        report.print_verdict(outcome.verdict, outcome.run, err, report=str(page) if page else None)
    for problem in problems:
        _say(err, problem)
    code = outcome.ending.code
    if wanted and code == 0 and (found := [f.symptom for f in outcome.verdict.findings if f.symptom in wanted]):
        _say(err, f"--fail-on: found {', '.join(dict.fromkeys(found))}")
        code = EXIT_FAILED_ON
    if wanted and code == 0 and outcome.verdict.symptom == "not-measured":
        code = EXIT_USAGE
    raise SystemExit(code)


@app.command(name="report", no_args_is_help=True)
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as printed by `gradientflow run`.")],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the verdict to FILE, as JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the files only.")] = False,
) -> None:
    """Judge a run again and render its report: also of a run that was killed, or that is still going on."""
    run_seen = store.read(folder)
    verdict = depth.judge(run_seen)
    problems: list[str] = []
    page = _write(verdict, run_seen, folder if folder.is_dir() else folder.parent, json, problems)
    err = _console()
    if not quiet:
        report.print_verdict(verdict, run_seen, err, report=str(page) if page else None)
    for problem in problems:
        _say(err, problem)
    raise SystemExit(EXIT_USAGE if problems else 0)


def _version(value: bool) -> None:
    if value:
        print(f"gradientflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _symptoms(fail_on: str | None) -> set[str]:
    if fail_on is None:
        return set()
    words = {w.strip() for w in fail_on.split(",") if w.strip()}
    unknown = words - {*SICK, "any"}
    if unknown or not words:
        raise UsageError(
            f"--fail-on: unknown symptom {', '.join(sorted(unknown)) or '(none given)'}. "
            f"Expected any, or a comma-separated list of {', '.join(SICK)}."
        )
    return set(SICK) if "any" in words else words


def _writable(file: Path) -> None:
    """Refuse a --json file that cannot be written before the script is run, not after."""
    try:
        with open(file, "a", encoding="utf-8"):
            pass
    except OSError as problem:
        raise OutputError(
            f"--json: cannot write {file}: {problem.strerror}. Expected a file in a folder that exists and can be written."
        ) from problem


def _write(verdict: Verdict, run_seen: Run, folder: Path, json: Path | None, problems: list[str]) -> Path | None:
    """Write verdict.json and report.html (and --json); what cannot be written becomes a problem to tell, not a crash."""
    text = msgspec.json.format(msgspec.json.encode(verdict), indent=2)
    for file in [folder / "verdict.json", *([json] if json is not None else [])]:
        try:
            file.write_bytes(text + b"\n")
        except OSError as problem:
            problems.append(
                f"the verdict could not be written to {file}: {problem.strerror}. Free some space or name another place."
            )
    page = folder / "report.html"
    try:
        report.write_html(verdict, run_seen, page)
    except OSError as problem:
        problems.append(
            f"the report could not be written to {page}: {problem.strerror}. Free some space, then: gradientflow report {folder}"
        )
        return None
    except Exception as problem:  # a fault of ours must not cost the script its exit code, nor the user the verdict
        problems.append(
            f"the report could not be made: {type(problem).__name__}: {problem}. The verdict is in {folder / 'verdict.json'}."
        )
        return None
    return Path(os.path.relpath(page)) if page.is_relative_to(Path.cwd()) else page


def _console() -> Console:
    """Return the console of the verdict: standard error, so that the script's own output stays what it is."""
    terminal = sys.stderr.isatty()
    file = sys.stderr  # as it is now: the script may put something else in its place
    return Console(file=file, soft_wrap=False, width=None if terminal else 100, no_color=None if terminal else True)


def _say(console: Console, text: str) -> None:
    console.print(f"gradientflow: {text}", markup=False, highlight=False, soft_wrap=True)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        app(args=argv, prog_name="gradientflow")
    except UsageError as problem:
        _say(_console(), str(problem))
        sys.exit(EXIT_USAGE)
    except GradientflowError as problem:
        _say(_console(), str(problem))
        sys.exit(EXIT_USAGE)
    sys.exit(0)
