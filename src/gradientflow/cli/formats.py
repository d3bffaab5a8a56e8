"""`--format` and `--output`: the verdict in the formats of other tools, on standard output or in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gradientflow import __version__
from gradientflow.cli import options
from gradientflow.errors import UsageError
from gradientflow.files import clean, reason, write
from gradientflow.records import Run, Verdict
from gradientflow.report import FORMATS, check_file, render

_STDOUT = Path("-")

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="text (the verdict on the terminal); or besides it, on standard output at the end: brief (the verdict in some lines, for "
        "logs and assistants) or github (annotations); or sarif or json (with --output).",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="FILE", parser=options.path("--output"), help="Where --format goes; - for standard output."
    ),
]


def check(format: str, output: Path | None, *, mixed: bool) -> Path | None:
    """Refuse what cannot be done before the work is begun; return the file as it is meant now.

    Args:
        format: of the option.
        output: of the option.
        mixed: whether a script's own output goes to standard output, too.

    Raises:
        UsageError: an unknown format; a file without a format; a document that would be mixed with the script's output.
        OutputError: the file cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(f"--format: unknown format {format!r}. Expected one of {', '.join(FORMATS)}.")
    if output is not None and format == "text":
        raise UsageError(
            "--output goes with --format brief, json, github or sarif. (The page and verdict.json are in the run's folder.)"
        )
    if output is None and mixed and format in ("json", "sarif"):
        raise UsageError(
            f"--format {format} would be mixed with the script's own output. Name a file: --output verdict.{format}; or - for "
            f"standard output all the same."
        )
    if output is None or output == _STDOUT:
        return output
    return check_file("--output", output)


def emit(
    format: str, output: Path | None, verdict: Verdict, run: Run, problems: list[str], folder: Path | None = None
) -> None:
    """Write the verdict; what cannot be written becomes a problem to tell."""
    if format == "text":
        return
    try:
        text = clean(render(format, verdict, run, __version__, folder=folder))
        if output is not None and output != _STDOUT:
            write(output, text)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()
    except Exception as problem:  # a full disk, a broken pipe, a stream that the script has closed
        said = reason(problem) if isinstance(problem, OSError) else str(problem)
        problems.append(f"--format {format} could not be written to {output or 'standard output'}: {said}.")
