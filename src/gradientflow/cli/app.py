"""`gradientflow app`: the pictures, live, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from gradientflow import store
from gradientflow.cli import options
from gradientflow.cli.common import ended_by_signals, say, told_on
from gradientflow.cli.target import Target, load
from gradientflow.errors import RecordError, UsageError

HELP = """Open the two pictures, live, in the browser: River and Depth.

RUN is a folder that [bold]gradientflow run[/bold] wrote, finished or still being written: Depth opens with it. TARGET is what [bold]gradientflow flow[/bold] takes: the name of a field, or [bold]file.py:factory[/bold]; of more than two parameters a plane is shown. \
Without one the smallest deep net is opened, L = ½(w₁w₂ − 1)², and beside it the newest run under runs/.

[bold]run SCRIPT [ARGS][/bold] watches a script, as [bold]gradientflow run[/bold] does with all of its options, and opens Depth while it trains; what it prints stays in the terminal.

[bold]Examples[/bold]

  gradientflow app

  gradientflow app runs/train-20260101-120000

  gradientflow app himmelblau

  gradientflow app mine.py:make --port 9000 --no-open

  gradientflow app run train.py --epochs 3

It listens on this machine alone, and the printed link lets one browser in. Ctrl-C ends it."""


WATCH = "run"  # the word behind which stands what `gradientflow run` takes


class AppCommand(TyperCommand):
    """Behind the word `run` all options are those of `gradientflow run`, or the script's own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next(
            (k for k, arg in enumerate(args) if not arg.startswith("-") and args[k - 1 : k] != ["--port"]), None
        )
        ctx.allow_interspersed_args = first is None or args[first] != WATCH
        return super().parse_args(ctx, args)


def app_command(
    ctx: typer.Context,
    target: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN | TARGET | run SCRIPT [ARGS]]", help="A run's folder; a named field, or file.py:factory; or a script to watch.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole("--port", least=1, most=65535), help="Port to listen on. Default: 8765, or the next that is free.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser; the link is printed either way.")] = False,
) -> None:  # fmt: skip
    from gradientflow import app  # starlette and uvicorn, which no other command needs

    console = told_on()
    words = target or []
    script: list[str] = []
    run: Path | None
    if words[:1] == [WATCH]:
        run, script = _watched(ctx, words[1:])
    elif len(words) > 1:
        raise UsageError(
            f"one RUN or TARGET, got {' '.join(words):.200}. A script is watched by: gradientflow app run {words[0]:.80} …"
        )
    else:
        run = _run(words[0] if words else None)
    call = app.Call(
        _loaded, target=words[0] if words and run is None else None, run=run, script=script, port=port, browse=not no_open,
        say=lambda text: say(console, text),
    )  # fmt: skip
    if not script:
        app.start(call)
        return
    with ended_by_signals():
        raise SystemExit(app.start(call))


def _watched(ctx: typer.Context, words: list[str]) -> tuple[Path, list[str]]:
    """Where the record of a script goes, and the command that watches it.

    Args:
        ctx: of the command line.
        words: as `gradientflow run` takes them; what is wrong with them is told as it tells it.
    """
    assert ctx.parent is not None and isinstance(ctx.parent.command, TyperGroup)
    asked = ctx.parent.command.commands[WATCH].make_context(WATCH, list(words), parent=ctx.parent).params
    out = asked["out"]
    folder = out.absolute() if out is not None else store.fresh_folder(asked["target"][0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder, [WATCH, "--out", str(folder), *words]


def _run(target: str | None) -> Path | None:
    """The folder of a run, where the argument is one; None where it names a field."""
    path = Path(target) if target else None
    if path is None or not (path.is_dir() or path.name == store.FILE):
        return None
    folder = store.of_job(path) if path.is_dir() else path.parent
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
