"""`gradientflow run`: a training script, under watch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gradientflow import depth, store
from gradientflow.cli import formats, launcher, options
from gradientflow.cli.common import EXIT_FAILED_ON, EXIT_USAGE, say, told_on
from gradientflow.cli.options import NO_LIMIT
from gradientflow.cli.replay import tried
from gradientflow.cli.report import show, write
from gradientflow.errors import GradientflowError, UsageError
from gradientflow.files import shown
from gradientflow.records import SYMPTOMS
from gradientflow.report import LiveLine, check_file

SICK = tuple(s for s in SYMPTOMS if s not in ("healthy", "not-measured"))

HELP = """Run a training script under watch and end with a verdict.

The script runs exactly as [bold]python script.py …[/bold] would: same arguments, output, exit code, random numbers and \
results, to the bit. While it trains, gradientflow reads its gradient through PyTorch's own hooks. At the end it says \
what is wrong (vanishing, exploding, not finite, dead, disconnected, …), at which source line, why, and what to do, \
and writes a report you can open and share.

[bold]Examples[/bold]

  gradientflow run train.py --epochs 3                 options after the script are the script's own

  gradientflow run -m package.train lr=0.1             run a module, as python -m does

  gradientflow run torchrun --nproc-per-node 2 t.py    each process of a job is watched

  gradientflow run --max-steps 200 train.py            look at the first 200 steps only

  gradientflow run --fail-on vanishing,not-finite t.py exit code 3 on these symptoms, for CI

  gradientflow run --replay train.py                   then try the remedies on the script, and measure them

Press Ctrl-C once to stop the script and get the verdict on what was seen so far."""


def run(
    target: Annotated[
        list[str], typer.Argument(metavar="SCRIPT [ARGS]", help="The script (or module, with -m), then its own arguments.")
    ],
    module: Annotated[bool, typer.Option("-m", "--module", help="SCRIPT is a module name, run as python -m does.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", parser=options.path("--out", "a folder"), help="Folder for run.db, report.html, verdict.json. Default: runs/<script>-<time>/"),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", parser=options.path("--json"), help="Also write the verdict to FILE, as JSON.")] = None,
    probe_every: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.whole("--probe-every"), help="Trace every N-th step op by op. Default: the first steps, then ever more "
                     "rarely, and at once when something looks wrong."),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole("--max-steps"), help="Stop the script after N optimizer steps.")
    ] = None,
    max_time: Annotated[
        float | None, typer.Option(metavar="SECONDS", parser=options.seconds("--max-time", NO_LIMIT), help="Stop the script after so many seconds.")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Then run the script again with the verdict's remedies, each beside a baseline, "
                           "and measure them.")
    ] = False,
    replay_budget: Annotated[
        float, typer.Option(metavar="SECONDS", parser=options.seconds("--replay-budget", least=1.0), help="How long all trials of --replay together may take.")
    ] = depth.REPLAY_BUDGET,
    format: formats.Format = "text",
    output: formats.Output = None,
    jacobian: Annotated[
        bool, typer.Option("--jacobian", help="Also measure the singular values of the Jacobians, layer to layer and end to end.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No live line and no verdict on the terminal; files only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All of the evidence, not only the numbers that decide.")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="SYMPTOMS", help=f"Exit with code 3 when one of these is found: any, or a comma-separated list of "
                     f"{', '.join(SICK)}."),
    ] = None,
) -> None:  # fmt: skip
    wanted = _symptoms(fail_on)
    launcher.started(
        target, module,
        {
            "out": out, "json": json, "probe_every": probe_every, "max_steps": max_steps, "max_time": max_time, "replay": replay,
            "replay_budget": replay_budget, "format": format, "output": output, "jacobian": jacobian, "quiet": quiet,
            "verbose": verbose, "fail_on": fail_on,
        },
    )  # fmt: skip
    place = store.place()  # among the processes of a job
    if place is not None and place.rank:  # the first one speaks for all
        json, output, format, quiet, replay, wanted = None, None, "text", True, False, set()
    if place is not None:
        out = store.rank_folder(target[0], out, place)
    json = check_file("--json", json) if json is not None else None
    output = formats.check(format, output, mixed=True)
    err = told_on()
    live = None if quiet else LiveLine(sys.stderr)
    outcome = depth.run(
        target,
        module=module,
        out=out,
        probe_every=probe_every,
        max_steps=max_steps,
        max_time=max_time,
        jacobian=jacobian,
        live=live,
        place=place,
    )
    outcome.run.notes += store.beside(outcome.folder, outcome.run.meta)
    problems = [*outcome.problems, *([] if place is not None and place.rank else misplaced(target, module))]
    page = write(outcome.verdict, outcome.run, outcome.folder, json, problems)
    stopped = 0
    if replay and outcome.verdict.findings:
        try:
            stopped = tried(
                outcome.verdict,
                outcome.run,
                outcome.folder,
                budget=replay_budget,
                seeds=depth.REPLAY_SEEDS,
                quiet=quiet,
            )
            page = write(outcome.verdict, outcome.run, outcome.folder, json, problems)
        except GradientflowError as failed:  # the verdict stands without it
            problems.append(f"--replay: {failed}")
    if not quiet:
        show(outcome.verdict, outcome.run, page, err, problems, verbose=verbose)
    formats.emit(format, output, outcome.verdict, outcome.run, problems, outcome.folder)
    if (
        place is not None and place.rank and outcome.ending.how == "exception"
    ):  # the others may be ended before they say a word
        problems.append(f"it ended with an error: gradientflow report {shown(outcome.folder)}")
    for problem in problems:
        say(err, problem if place is None else f"rank {place.rank}: {problem}")
    code = outcome.ending.code
    if stopped and code == 0:
        code = stopped
    if wanted and code == 0 and (found := [f.symptom for f in outcome.verdict.findings if f.symptom in wanted]):
        say(err, f"--fail-on: found {', '.join(dict.fromkeys(found))}")
        code = EXIT_FAILED_ON
    if wanted and code == 0 and outcome.verdict.symptom == "not-measured":
        code = EXIT_USAGE
    raise SystemExit(code)


# Options that a script rarely has itself.
_OURS = ("--fail-on", "--jacobian", "--max-steps", "--max-time", "--probe-every", "--replay", "--replay-budget")


def misplaced(target: Sequence[str], module: bool) -> list[str]:
    """Say which options of ours stand behind the script's name, where they are the script's, and where they belong; nothing of
    those that the script's own text names.

    Args:
        target: the script (or module), then its own arguments.
        module: it is a module.
    """
    given = [arg.partition("=")[0] for arg in target[1:]]
    found = list(dict.fromkeys(word for word in given if word in _OURS))
    try:
        text = "" if module else Path(target[0]).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = [word for word in found if word not in text and word[2:].replace("-", "_") not in text]
    if not found:
        return []
    many = len(found) > 1
    return [
        f"{', '.join(found)} stand{'' if many else 's'} behind {target[0]}, so the script was given {'them' if many else 'it'}. For "
        f"gradientflow, put {'them' if many else 'it'} in front: gradientflow run {found[0]} … {'-m ' * module}{target[0]}"
    ]


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
