"""`gradientflow flow`: the gradient flow of a model or of a field, solved, beside the optimizers one would use."""

from __future__ import annotations

import math
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gradientflow import report, river
from gradientflow.cli import optimizers, options
from gradientflow.cli.common import EXIT_BROKEN, EXIT_INTERRUPTED, EXIT_NOT_THERE, EXIT_USAGE, busy, say, told_on
from gradientflow.cli.options import NO_LIMIT
from gradientflow.cli.target import Target, load, own_lines, users
from gradientflow.errors import GradientflowError, OutputError, UsageError
from gradientflow.files import encoded, write
from gradientflow.records import Flow
from gradientflow.report import clean, shown

HELP = """Solve the gradient flow dθ/dt = −∇L(θ) of your model, beside the optimizers you would use.

TARGET is [bold]file.py:factory[/bold] or [bold]package.module:factory[/bold], a function without arguments that \
returns (model, loss, data), a loss function of one tensor, or a field; or the name of a field with known answers. \
Flow time is the clock of all: one gradient-descent step of learning rate η advances it by η.

[bold]Examples[/bold]

  gradientflow flow --list                       the fields that have a name

  gradientflow flow himmelblau --drops 200 --plot drops.png

  gradientflow flow w1w2 --compare sgd:lr=0.45,adam:lr=0.15 --plot w1w2.png

  gradientflow flow mine.py:make --time 1000     your own model

  gradientflow flow mine.py:make --time 1000 --compare sgd:lr=0.1:momentum=0.9

  gradientflow flow mine.py:make --time 1000 --plane pca --plot plane.png

  gradientflow flow mine.py:make --time 1000 --save path.npz

  gradientflow flow mine.py:make --time 1000 --save path.npz --resume

where mine.py has a function such as

  def make():

      return model, torch.nn.functional.cross_entropy, (inputs, targets)

With --save the state lies beside the file while it is solved, as FILE.ckpt: Ctrl-C loses nothing, a kill at most ten \
seconds, and the same command with --resume goes on from there, bit for bit. Every path is checked: the loss never \
rises, energy is balanced, what must be conserved is, the error is estimated. A check that fails is told as \
[bold]BROKEN[/bold].

[bold]Exit codes[/bold]

  0    solved, or ended early by --max-gradients or --max-seconds

  2    the command cannot be carried out; said before anything is solved

  4    a certificate is BROKEN: do not trust the path

  5    ended before --time because of the field: blow-up, not-lipschitz, …

  130  stopped by Ctrl-C; what there was is told"""


def flow(
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="file.py:factory, module:factory, or a name from --list.", show_default=False)
    ] = None,
    time: Annotated[
        float | None, typer.Option("--time", "-t", metavar="T", parser=options.number("--time"), help="Flow time to solve for. Named fields bring their own.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="X,Y,…", help="Where the drop begins. Default: the model's present parameters, or the field's own start.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="SPECS", help="Optimizers of torch.optim beside the flow: sgd:lr=0.1:momentum=0.9,adam:lr=1e-3")
    ] = None,
    drops: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole("--drops"), help="Put N drops on the water instead of one. With --compare at most 9.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", parser=options.whole("--seed", least=0, most=options.SEEDS), help="Seed of the drops.")] = 0,
    rtol: Annotated[
        float | None, typer.Option(metavar="R", parser=options.number("--rtol", below=1), help="Relative error a step may make. Default 1e-3.")
    ] = None,
    atol: Annotated[
        float | None, typer.Option(metavar="A", parser=options.number("--atol"), help="Absolute error a step may make, per parameter. Default rtol/1000.")
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="auto, or a solver by name: rkc2, rkmc2, dp54, dp87, rk4, euler, …")
    ] = "auto",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=options.path("--plot"), help="Draw a figure: .png, .svg or .pdf. Needs matplotlib.")
    ] = None,
    plane: Annotated[
        str | None, typer.Option(metavar="WHICH", help="With --plot, of a network: draw the paths in a plane of its parameters: pca, sharpest, gradient or random.")
    ] = None,
    plane_seconds: Annotated[
        float | None, typer.Option(metavar="S", parser=options.seconds("--plane-seconds"), help="How long sampling the plane may take; longer is finer. Default 20.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", parser=options.path("--save"), help="Save the flow's path; a checkpoint lies beside it while it is solved.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside --save, bit for bit.")] = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=options.path("--json"), help="Write all that is told and drawn, as JSON.")
    ] = None,
    max_gradients: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole("--max-gradients"), help="End each path after N gradients, with what there is.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(metavar="S", parser=options.seconds("--max-seconds", NO_LIMIT), help="End each path after S seconds, with what there is.")
    ] = None,
    no_certify: Annotated[bool, typer.Option("--no-certify", help="Leave the checks out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table; broken certificates are still told.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the fields that have a name, and stop.")] = False,
) -> None:  # fmt: skip
    if list_:
        _list(target)
    if target is None:
        raise UsageError(
            "flow of what? Give a TARGET: gradientflow flow file.py:factory --time T, or a name from gradientflow flow --list."
        )
    first = _numbers(start)
    rivals = optimizers.read(compare) if compare is not None else []
    _check_files(plot, save, json, resume=resume)
    found = _loaded(target, first, quiet=quiet)
    job = river.Job(
        field=found.field, about=found.about, target=clean(target), t=_time(time, found, target), start=first, drops=drops,
        rivals=rivals, seed=seed, rtol=rtol, atol=atol, method=method, save=save, resume=resume, certify=not no_certify,
        max_gradients=max_gradients, max_seconds=max_seconds, drawn=plot is not None, plane=_plane(plane, plot, json), plane_seconds=plane_seconds,
    )  # fmt: skip
    solved = _solved(job, target, quiet=quiet)
    files, problems = _write(solved, plot, save, json)
    raise SystemExit(_tell(solved, files, problems, quiet=quiet))


def _loaded(target: str, start: list[float] | None, *, quiet: bool) -> Target:
    try:
        with busy(f"loading {shown(target)}", quiet=quiet):
            return load(target, start)
    except KeyboardInterrupt:
        say(told_on(), f"stopped while {shown(target)} was loaded; nothing was solved.")
        raise SystemExit(EXIT_INTERRUPTED) from None


def _solved(job: river.Job, target: str, *, quiet: bool) -> river.Solved:
    try:
        return river.solve(job, _Shown(quiet))
    except KeyboardInterrupt:
        say(told_on(), "stopped before there was anything to tell.")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except GradientflowError:
        raise
    except SystemExit as ended:
        raise UsageError(f"{shown(target)} ended the process (sys.exit) while it was solved.") from ended
    except Exception as problem:
        if not any(users(f.filename) for f in traceback.extract_tb(problem.__traceback__)):
            raise  # ours
        raise UsageError(f"{shown(target)} failed while it was solved:\n{own_lines(problem)}") from problem


class _Shown:
    """How a job goes, on standard error."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    @contextmanager
    def path(self, label: str) -> Iterator[report.FlowLive | None]:
        if self._quiet:
            yield None
            return
        with report.FlowLive(sys.stderr, label) as live:
            yield live

    def busy(self, text: str) -> AbstractContextManager[None]:
        return busy(text, quiet=self._quiet)

    @contextmanager
    def count(self, label: str) -> Iterator[report.CountLive | None]:
        if self._quiet:
            yield None
            return
        with report.CountLive(sys.stderr, label) as live:
            yield live

    def say(self, text: str) -> None:
        if not self._quiet:
            say(told_on(), text)


# ── before ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _list(target: str | None) -> NoReturn:
    """The fields of the zoo, one line each, on standard output."""
    if target is not None:
        raise UsageError(
            f"--list lists the named fields and takes no TARGET, got {shown(target)}. To solve it, leave --list out: "
            f"gradientflow flow {shown(target)}"
        )
    wide = max(map(len, river.zoo.NAMES))
    for name in river.zoo.NAMES:
        print(f"{name:<{wide}}  {river.zoo.named(name).text}")
    raise SystemExit(0)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(x) for x in re.split(r"[,\s]+", text.strip().strip("()[]")) if x]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise UsageError(
            f"--start {shown(repr(text))}: expected finite numbers divided by commas, as in --start 1.9,-1.2."
        )
    return numbers


def _time(time: float | None, found: Target, target: str) -> float:
    time = found.time if time is None else time
    if time is None:
        raise UsageError(
            f"--time is missing: how long shall {shown(target)} flow? One gradient-descent step of learning rate η takes η of flow "
            "time, so 1000 steps of 0.1 are --time 100."
        )
    return time


def _plane(plane: str | None, plot: Path | None, json: Path | None) -> str | None:
    if plane is not None and plot is None and json is None:
        raise UsageError(f"--plane {shown(plane)} is drawn by --plot FILE, or written by --json FILE: add one of them.")
    return plane


def _check_files(plot: Path | None, save: Path | None, json: Path | None, *, resume: bool) -> None:
    """Refuse what cannot be written, or resumed, before there is anything to write."""
    if plot is not None:
        report.check_figure(plot)
    if json is not None:
        report.check_file("--json", json)
    if save is None:
        if resume:
            raise UsageError(
                "--resume goes on from the checkpoint beside --save: name that file, --save path.npz --resume."
            )
        return
    if save.suffix != ".npz":
        raise UsageError(f"--save {save}: expected a file that ends in .npz, as in {save.with_suffix('.npz')}.")
    report.check_file("--save", save)
    checkpoint = river.beside(save)
    options.path("--save")(checkpoint)  # its name is longer than that of the file
    if checkpoint.exists() and not resume:
        raise UsageError(
            f"{checkpoint} is the checkpoint of a path that was not finished. Add --resume to go on with it, or delete "
            "it to begin anew."
        )
    if resume and not checkpoint.exists():
        done = f" {save} is there: that path was solved to its end." if save.exists() else ""
        raise UsageError(
            f"--resume: there is no checkpoint {checkpoint} to go on from.{done} Leave --resume out to begin anew."
        )


# ── after ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(
    solved: river.Solved, plot: Path | None, save: Path | None, json: Path | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Write the files; what cannot be written becomes a problem to tell, not a crash."""
    files, problems = [], []
    for what, file, make in (
        ("saved", save, solved.save),
        ("data", json, partial(_data, solved.told)),
        ("figure", plot, partial(report.write_figure, solved.told, solved.portrait)),
    ):
        if file is None:
            continue
        try:
            make(file)
            files.append((what, str(file)))
        except (OutputError, OSError) as problem:
            problems.append(str(problem))
    return files, problems


def _data(told: Flow, file: Path) -> None:
    write(file, encoded(told) + b"\n")


def _print(told: Flow, files: list[tuple[str, str]]) -> None:
    """Print what came out on standard output; who reads it may have gone."""
    try:
        report.print_flow(told, told_on(sys.stdout), files=files)
        sys.stdout.flush()
    except (
        BrokenPipeError,
        SystemExit,
    ):  # as with `| head`; rich ends the process over that, and the exit code is ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(solved: river.Solved, files: list[tuple[str, str]], problems: list[str], *, quiet: bool) -> int:
    """Tell what came out; return the exit code."""
    err = told_on()
    told = solved.told
    if not quiet:
        _print(told, files)
    elif told.broken:
        say(err, "certificate BROKEN: " + "; ".join(f"{who}, {c.name}: {c.text}" for who, c in told.broken))
    for failed in problems:
        say(err, failed)
    if problems:
        return EXIT_USAGE
    if told.broken:
        return EXIT_BROKEN
    flows, descents = solved.reasons
    if solved.stopped or "cancelled" in flows | descents:
        return EXIT_INTERRUPTED
    return EXIT_NOT_THERE if flows - {"reached", "event", "budget", "cancelled"} else 0
