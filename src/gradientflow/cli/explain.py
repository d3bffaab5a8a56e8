"""`gradientflow explain`: the evidence of a run's findings, in words, on standard output."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gradientflow import depth, store
from gradientflow.cli import options
from gradientflow.cli.common import say, told_on
from gradientflow.cli.report import replayed
from gradientflow.errors import UsageError
from gradientflow.report import clean, explain

HELP = """Say in words what a run's findings rest on: every number, the threshold it is held against, the source lines, and what \
was proven.

Reads the record; nothing is run and nothing is written.

[bold]Examples[/bold]

  gradientflow explain runs/train-20260101-120000          all findings

  gradientflow explain runs/train-20260101-120000 2        the second one only"""


def explain_command(
    folder: options.RunFolder,
    finding: Annotated[
        int | None,
        typer.Argument(
            metavar="[FINDING]", parser=options.whole("FINDING"), help="Its number, from 1. Default: all of them."
        ),
    ] = None,
) -> None:
    """Tell the findings of a run."""
    seen = store.read(folder)
    for note in store.beside(folder, seen.meta):
        say(told_on(), note.text)
    verdict = depth.attach(depth.judge(seen), replayed(folder, seen))
    try:
        text = explain(verdict, seen, finding, str(folder))
    except ValueError as problem:
        raise UsageError(f"{problem}. Leave the number away to see all: gradientflow explain {folder}") from None
    sys.stdout.write(clean(text))
    sys.stdout.flush()
