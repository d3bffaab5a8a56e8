"""The front door: parses a command, calls a wing's door, prints what it returns. One file per command."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from gradientflow import __version__
from gradientflow.cli import app as app_
from gradientflow.cli import explain, flow, replay, report, run
from gradientflow.cli.common import (
    EXIT_BROKEN,
    EXIT_FAILED_ON,
    EXIT_INTERRUPTED,
    EXIT_NOT_THERE,
    EXIT_USAGE,
    say,
    told_on,
)
from gradientflow.errors import GradientflowError

__all__ = [
    "EXIT_BROKEN",
    "EXIT_FAILED_ON",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_THERE",
    "EXIT_USAGE",
    "app",
    "main",
    "report",
]

app = typer.Typer(
    name="gradientflow",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watches the gradient of a training script and says where it goes wrong: at which line, why, and what helps. "
    "And solves the gradient flow of a model, beside the optimizers you would use.",
    epilog="Begin with: [bold]gradientflow run train.py[/bold]   — your script runs as it is, no line of it changes.",
)
app.command(name="run", help=run.HELP, no_args_is_help=True, context_settings={"allow_interspersed_args": False})(
    run.run
)
app.command(name="flow", help=flow.HELP, no_args_is_help=True)(flow.flow)
app.command(name="app", help=app_.HELP, cls=app_.AppCommand)(app_.app_command)
app.command(name="replay", help=replay.HELP, no_args_is_help=True)(replay.replay)
app.command(name="report", no_args_is_help=True)(report.report_command)
app.command(name="explain", help=explain.HELP, no_args_is_help=True)(explain.explain_command)


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


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        app(args=argv, prog_name="gradientflow")
    except GradientflowError as problem:
        say(told_on(), str(problem))
        sys.exit(EXIT_USAGE)
    sys.exit(0)
