"""`gradientflow replay`: the remedies of a verdict, tried on the script it is about."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gradientflow import depth, store
from gradientflow.cli import options
from gradientflow.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    SignalledError,
    ended_by_signals,
    say,
    told_on,
)
from gradientflow.cli.report import show, write
from gradientflow.errors import UsageError
from gradientflow.records import REMEDIES, Run, Verdict
from gradientflow.report import ReplayLive, check_file

HELP = """Try the remedies of a run's verdict on its script, and measure them.

The script is run again from the same seeds, once as it is and once with each remedy in place: as an intervention on the \
running script, not an edit of it. Losses are compared step by step on the same batches; what is not clearly better is \
told as "no proven win". The best remedy is then written as a small diff, and the edited script is run as a last check.

The script does again what it does: files that it writes are written again. Each trial leaves a run of its own under \
RUN/replay/, which `gradientflow report` opens.

[bold]Examples[/bold]

  gradientflow replay runs/train-20260101-120000

  gradientflow replay --budget 60 --remedy lower-step,clip-gradient RUN

  gradientflow run --replay train.py                   watch and replay in one go"""


def replay(
    folder: options.RunFolder,
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", parser=options.seconds("--budget", least=1.0), help="How long all trials together may take.")
    ] = depth.REPLAY_BUDGET,
    seeds: Annotated[
        int, typer.Option(metavar="N", parser=options.whole("--seeds"), help="Draws of the random numbers the best remedies are tried on, time allowing.")
    ] = depth.REPLAY_SEEDS,
    remedy: Annotated[
        str | None, typer.Option(metavar="KINDS", help="Try only these remedies, a comma-separated list.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep what earlier replays of this run found of other remedies.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", parser=options.path("--json"), help="Also write the verdict to FILE, as JSON.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no verdict on the terminal; files only.")] = False,
) -> None:  # fmt: skip
    only = kinds(remedy)
    json = check_file("--json", json) if json is not None else None
    run_seen = store.read(folder)
    place = folder if folder.is_dir() else folder.parent
    verdict = depth.judge(run_seen)
    stopped = tried(verdict, run_seen, place, budget=budget, seeds=seeds, only=only, add=add, quiet=quiet)
    problems: list[str] = []
    page = write(verdict, run_seen, place, json, problems)
    err = told_on()
    if not quiet:
        show(verdict, run_seen, page, err, problems)
    for problem in problems:
        say(err, problem)
    raise SystemExit(stopped or (EXIT_USAGE if problems else 0))


def kinds(text: str | None) -> Sequence[str]:
    """Return the remedies of a comma-separated list; refuse a word that is none."""
    found = [w.strip() for w in text.split(",") if w.strip()] if text is not None else []
    unknown = [w for w in found if w not in REMEDIES]
    if unknown or (text is not None and not found):
        raise UsageError(
            f"--remedy: unknown remedy {', '.join(unknown) or '(none given)'}. Expected a comma-separated list of "
            f"{', '.join(REMEDIES)}."
        )
    return found


def tried(
    verdict: Verdict,
    run_seen: Run,
    folder: Path,
    *,
    budget: float,
    seeds: int,
    only: Sequence[str] = (),
    add: bool = False,
    quiet: bool,
) -> int:
    """Replay the remedies of a verdict and put what came of them into it; return the exit code where a signal ended it
    early, else 0.
    """
    earlier = store.read_replay(folder) if add else None
    with ended_by_signals(), ReplayLive(sys.stderr, quiet=quiet) as live:
        try:
            found = depth.try_remedies(
                run_seen, verdict, folder / store.TRIALS, budget=budget, seeds=seeds, only=only, progress=live,
                save=lambda so_far: store.keep_replay(folder, depth.added(earlier, so_far)),
            )  # fmt: skip
        except KeyboardInterrupt as stop:
            depth.attach(verdict, store.read_replay(folder))
            return stop.code if isinstance(stop, SignalledError) else EXIT_INTERRUPTED
    found = depth.added(earlier, found)
    store.keep_replay(folder, found)
    depth.attach(verdict, found)
    return 0
