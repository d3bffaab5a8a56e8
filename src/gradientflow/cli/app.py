"""`gradientflow app`: the pictures, live, in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from gradientflow.cli import options
from gradientflow.cli.common import say, told_on
from gradientflow.cli.target import Target, load

HELP = """Open the two pictures, live, in the browser: River now; Depth follows.

TARGET is what [bold]gradientflow flow[/bold] takes, with two parameters: the name of a field, or [bold]file.py:factory[/bold]. \
Without one the smallest deep net is opened, L = ½(w₁w₂ − 1)².

[bold]Examples[/bold]

  gradientflow app

  gradientflow app himmelblau

  gradientflow app mine.py:make --port 9000 --no-open

It listens on this machine alone, and the printed link lets one browser in. Ctrl-C ends it."""


def app_command(
    target: Annotated[str | None, typer.Argument(metavar="TARGET", help="A named field, or file.py:factory.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole("--port", least=1, most=65535), help="Port to listen on. Default: 8765, or the next that is free.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser; the link is printed either way.")] = False,
) -> None:  # fmt: skip
    from gradientflow import app  # starlette and uvicorn, which no other command needs

    console = told_on()
    app.start(
        app.Call(_loaded, target=target, port=port, browse=not no_open, say=lambda text: say(console, text))
    )  # fmt: skip


def _loaded(target: str) -> Target:
    return load(target, None)
