"""`gradientflow flow`: the gradient flow of a model or of a field, solved, beside the optimizers one would use."""

from __future__ import annotations

import re
import traceback
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gradientflow import report
from gradientflow.cli import optimizers
from gradientflow.cli.common import EXIT_BROKEN, EXIT_INTERRUPTED, EXIT_NOT_THERE, busy, say, told_on
from gradientflow.cli.solving import Request, Solved, solve
from gradientflow.cli.target import Target, load, own_lines, users
from gradientflow.errors import GradientflowError, OutputError, UsageError
from gradientflow.files import encoded, write
from gradientflow.records import Flow

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
        float | None, typer.Option("--time", "-t", metavar="T", help="Flow time to solve for. Named fields bring their own.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="X,Y,…", help="Where the drop begins. Default: the model's present parameters, or the field's own start.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="SPECS", help="Optimizers of torch.optim beside the flow: sgd:lr=0.1:momentum=0.9,adam:lr=1e-3")
    ] = None,
    drops: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Put N drops on the water instead of one. With --compare at most 9.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of the drops.")] = 0,
    rtol: Annotated[float | None, typer.Option(metavar="R", help="Relative error a step may make. Default 1e-3.")] = None,
    atol: Annotated[float | None, typer.Option(metavar="A", help="Absolute error a step may make, per parameter. Default rtol/1000.")] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="auto, or a solver by name: rkc2, rkmc2, dp54, dp87, rk4, euler, …")
    ] = "auto",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a figure: .png, .svg or .pdf. Needs matplotlib.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Save the flow's path; a checkpoint lies beside it while it is solved.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside --save, bit for bit.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all that is told and drawn, as JSON.")] = None,
    max_gradients: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End each path after N gradients, with what there is.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="End each path after S seconds, with what there is.")
    ] = None,
    no_certify: Annotated[bool, typer.Option("--no-certify", help="Leave the checks out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table; broken certificates are still told.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the fields that have a name, and stop.")] = False,
) -> None:  # fmt: skip
    if list_:
        _list()
        raise SystemExit(0)
    if target is None:
        raise UsageError(
            "flow of what? Give a TARGET: gradientflow flow file.py:factory --time T, or a name from gradientflow flow --list."
        )
    request = Request(
        target=target, start=_numbers(start), optimizers=optimizers.read(compare) if compare is not None else [],
        drops=drops, seed=seed, rtol=_positive("--rtol", rtol), atol=_positive("--atol", atol), method=method, save=save,
        resume=resume, max_gradients=max_gradients, max_seconds=max_seconds, certify=not no_certify, quiet=quiet,
    )  # fmt: skip
    _check_files(request, plot, json)
    with busy(f"loading {target}", quiet=quiet):
        found = load(target, request.start)
    request.time = _time(time, found, target)
    request.check(found)
    err = told_on()
    try:
        solved = solve(request, found, drawn=plot is not None)
        files, problems = _write(solved, request, plot, json)
    except KeyboardInterrupt:
        say(err, "stopped before there was anything to tell.")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except GradientflowError:
        raise
    except Exception as problem:
        if not any(users(f.filename) for f in traceback.extract_tb(problem.__traceback__)):
            raise  # ours
        raise UsageError(f"{target} failed while it was solved:\n{own_lines(problem)}") from problem
    if not quiet:
        report.print_flow(solved.told, err, files=files)
    elif solved.told.broken:
        say(err, "certificate BROKEN: " + "; ".join(f"{who}, {c.name}: {c.text}" for who, c in solved.told.broken))
    for failed in problems:
        say(err, failed)
    raise SystemExit(2 if problems else _code(solved.told))


def _code(told: Flow) -> int:
    endings = [t.ending.reason for s in told.stories for t in (s.flow, *s.descents)]
    if told.broken:
        return EXIT_BROKEN
    reasons = {*endings, *(told.drops.reasons if told.drops else ())}
    if "cancelled" in reasons:
        return EXIT_INTERRUPTED
    flows = {s.flow.ending.reason for s in told.stories} | set(told.drops.reasons if told.drops else ())
    return EXIT_NOT_THERE if flows - {"reached", "event", "budget", "cancelled"} else 0


# ── before ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(x) for x in re.split(r"[,\s]+", text.strip().strip("()[]")) if x]
    except ValueError:
        raise UsageError(f"--start {text!r}: expected numbers divided by commas, as in --start 1.9,-1.2.") from None


def _positive(option: str, x: float | None) -> float | None:
    if x is not None and not 0 < x < float("inf"):
        raise UsageError(f"{option} {x:g}: expected a number above 0.")
    return x


def _time(time: float | None, found: Target, target: str) -> float:
    time = found.time if time is None else time
    if time is None:
        raise UsageError(
            f"--time is missing: how long shall {target} flow? One gradient-descent step of learning rate η takes η of flow "
            "time, so 1000 steps of 0.1 are --time 100."
        )
    return _positive("--time", time) or time


def _check_files(request: Request, plot: Path | None, json: Path | None) -> None:
    """Refuse what cannot be written, before there is anything to write."""
    if plot is not None:
        report.check_figure(plot)
    if json is not None:
        report.check_folder("--json", json)
    if request.resume and request.save is None:
        raise UsageError(
            "--resume goes on from the checkpoint beside --save: name that file, --save path.npz --resume."
        )
    if request.save is None:
        return
    if request.save.suffix != ".npz":
        raise UsageError(
            f"--save {request.save}: expected a file that ends in .npz, as in {request.save.with_suffix('.npz')}."
        )
    report.check_folder("--save", request.save)
    if request.checkpoint is not None and request.checkpoint.exists() and not request.resume:
        raise UsageError(
            f"{request.checkpoint} is the checkpoint of a path that was not finished. Add --resume to go on with it, or delete "
            "it to begin anew."
        )


def _list() -> None:
    """The fields of the zoo, one line each, on standard output."""
    from gradientflow import river

    wide = max(map(len, river.zoo.NAMES))
    for name in river.zoo.NAMES:
        member = river.zoo.named(name)
        print(f"{name:<{wide}}  {member.text}")


# ── after ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(
    solved: Solved, request: Request, plot: Path | None, json: Path | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Write the files; what cannot be written becomes a problem to tell, not a crash."""
    files, problems = [], []
    for what, file, make in (
        ("saved", request.save, solved.save),
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
