"""`gradientflow app`: the pictures, live, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradientflow import store
from gradientflow.cli import options
from gradientflow.cli.common import say, told_on
from gradientflow.cli.target import Target, load
from gradientflow.errors import RecordError

HELP = """Open the two pictures, live, in the browser: River and Depth.

RUN is a folder that [bold]gradientflow run[/bold] wrote, finished or still being written: Depth opens with it. TARGET is what [bold]gradientflow flow[/bold] takes: the name of a field, or [bold]file.py:factory[/bold]; of more than two parameters a plane is shown. \
Without one the smallest deep net is opened, L = ½(w₁w₂ − 1)², and beside it the newest run under runs/.

[bold]Examples[/bold]

  gradientflow app

  gradientflow app runs/train-20260101-120000

  gradientflow app himmelblau

  gradientflow app mine.py:make --port 9000 --no-open

It listens on this machine alone, and the printed link lets one browser in. Ctrl-C ends it."""


def app_command(
    target: Annotated[str | None, typer.Argument(metavar="RUN | TARGET", help="A run's folder; or a named field, or file.py:factory.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole("--port", least=1, most=65535), help="Port to listen on. Default: 8765, or the next that is free.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser; the link is printed either way.")] = False,
) -> None:  # fmt: skip
    from gradientflow import app  # starlette and uvicorn, which no other command needs

    console = told_on()
    run = _run(target)
    app.start(
        app.Call(
            _loaded, target=None if run is not None else target, run=run, port=port, browse=not no_open, say=lambda text: say(console, text)
        )
    )  # fmt: skip


def _run(target: str | None) -> Path | None:
    """The folder of a run, where the argument is one; None where it names a field."""
    path = Path(target) if target else None
    if path is None or not (path.is_dir() or path.name == store.FILE):
        return None
    folder = path if path.is_dir() else path.parent
    if not (folder / store.FILE).is_file():
        from gradientflow.app import SHOWN

        if target in SHOWN:  # a field, beside which there happens to be a folder by its name
            return None
        raise RecordError(
            f"{target} holds no run: expected a file {store.FILE} in it. Pass the folder that `gradientflow run` printed, for "
            "example runs/train-20260101-120000."
        )
    return folder.resolve()


def _loaded(target: str) -> Target:
    return load(target, None)
