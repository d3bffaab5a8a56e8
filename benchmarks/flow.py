"""What does solving a gradient flow cost? Ours beside gradient descent and ordinary ODE solvers, at equal error.

    python benchmarks/flow.py [--problem A,B,C,D] [--t 1000] [--methods 'auto,gd,scipy*'] [--full] [--cache DIR] [--json FILE]

Problems A to D are in benchmarks/problems.py, the rivals in benchmarks/flow_rivals.py. Cost is counted, not timed: gradients,
plus two for each Hessian-vector product, plus a third for each evaluation of the loss alone. All count through the same
kind of call, `torch.autograd.grad`; ours are counted here, outside the solver, and compared with what the path says of
itself. CPU seconds are told as multiples of our default run's on the same problem, in the same process, one thread.

error is ‖θ − θ_ref‖ / ‖θ_ref − θ₀‖ at the end of the flow. θ_ref is DOP853 at tight tolerance; our own tight run is the
second opinion, and how far the two are apart is printed. Both are kept in --cache.

Comparisons are made at equal or better error: for each of our runs, the cheapest rival setting that errs no more.
Ours carry certificates; what those cost is in the column "checks" and left out of the comparisons, for no rival has them.
It is in the seconds, though.

Without --full, runs that would take more than 12 000 gradients are left out: on problem A that is all but gradient
descent, and A runs to t = 1000 only. That takes about five minutes; a first run adds two to five for the references.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a plain script

import gradientflow as gf
from benchmarks.flow_rivals import Gradient, OverBudget, rivals
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.reference import build, distance, references
from benchmarks.rows import Aim, Row, aims, compared, content, table

DEFAULT = "rtol 1e-03"
FINE = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7)
OURS = {  # method → rtols
    "A": {"auto": FINE[:5], "rkc2": (1e-3,)},
    "B": {"auto": FINE[:9], "rkc2": (1e-3, 1e-4), "rkmc2": (1e-3, 1e-4), "tsrkc3": (1e-4, 1e-5)},
    "C": {"auto": FINE, "dp54": (1e-4, 1e-6), "rkc2": (1e-3,)},
    "D": {"auto": FINE[:5:2], "rkc2": (1e-3,)},
}
OURS_TOO = {"A": {"auto": FINE[5:7], "rkc2": (1e-4,), "rkmc2": (1e-3, 1e-4), "tsrkc3": (1e-3, 1e-4)}}  # with --full
TIMED = ("gd η = 1.9*", "torchdiffeq dopri5 rtol 1e-04", "scipy * rtol 1e-04")  # on D, whose question is seconds
AGREE = 1e-5  # how far the two may be apart
PAIRS = 60


# ── ours, counted from outside ───────────────────────────────────────────────────────────────────────────────────────


class Tally:
    """Counts and times what a field is asked for, whoever asks."""

    def __init__(self, field: Any) -> None:
        self.evaluations, self.graphs, self.hvps, self.losses, self.inside = 0, 0, 0, 0, 0.0
        evaluate, linearize, value = field.evaluate, field.linearize, field.value

        def counted_evaluate(theta: Tensor) -> Any:
            self.evaluations += theta.shape[0]
            return self._timed(evaluate, theta)

        def counted_linearize(theta: Tensor) -> Callable[[Tensor], Tensor]:
            product = self._timed(linearize, theta)
            self.graphs += theta.shape[0]

            def counted(v: Tensor) -> Tensor:
                self.hvps += v.shape[0]
                out: Tensor = self._timed(product, v)
                return out

            return counted

        def counted_value(theta: Tensor) -> Any:
            self.losses += theta.shape[0]
            return self._timed(value, theta)

        field.evaluate, field.linearize, field.value = counted_evaluate, counted_linearize, counted_value

    @property
    def gradients(self) -> int:
        """Evaluations, and as in flow_rivals.py the gradients whose graphs products go through."""
        return self.evaluations + self.graphs

    def _timed(self, call: Callable[[Any], Any], argument: Any) -> Any:
        began = time.process_time()
        try:
            return call(argument)
        finally:
            self.inside += time.process_time() - began


def run_ours(problem: Problem, method: str, rtol: float, reference: Tensor) -> Row:
    """Solve with gf.flow, as a user would, certificates and all."""
    model, loss, data, t_end = problem
    field = gf.LossField(model, loss, data)
    tally = Tally(field)
    began = time.process_time()
    path = gf.flow(field, t_end, method=method, rtol=rtol)
    seconds = time.process_time() - began
    row = Row(method, f"rtol {rtol:.0e}", True, tally.gradients, tally.hvps, tally.losses, path.cost.checking)
    row.seconds, row.outside = seconds, 1 - tally.inside / seconds
    judge = Gradient(problem)
    row.loss = judge.value(path.final)
    seen = path.sharpness[~path.sharpness.isnan()]
    row.sharpness = float(seen.max()) if len(seen) else None
    notes = [] if method != "auto" or path.method == method else [path.method]
    if path.status.ok:
        row.error = distance(path.final, reference, judge.start)
    else:
        notes.append(str(path.status))
    notes += [f"certificate broken: {c.name}" for c in path.certificates.broken]
    told = path.cost
    agrees = tally.evaluations <= told.gradients <= tally.gradients and (told.hvps, told.losses) == (
        tally.hvps,
        tally.losses,
    )
    if not agrees:
        notes.append(f"the path counts {told.gradients} gradients, {told.hvps} HVPs, {told.losses} losses")
    row.note = "; ".join(notes)
    return row


# ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run_rival(problem: Problem, rival: Any, reference: Tensor, limit: float) -> Row:
    """Solve with one rival."""
    gradient = Gradient(problem, limit=limit, label=f"{rival.name} {rival.setting}")
    row = Row(rival.name, rival.setting)
    began = time.process_time()
    try:
        final = rival.solve(gradient, gradient.start, problem[3])
    except (OverBudget, RuntimeError, AssertionError, ArithmeticError) as trouble:  # as the libraries say it
        said = " ".join(str(trouble).split())[:80] or type(trouble).__name__
        row.note = f"stopped at {limit:.0f} gradients" if gradient.equivalents >= limit else f"gave up: {said}"
    else:
        row.error, row.loss = distance(final, reference, gradient.start), gradient.value(final)
        if not math.isfinite(row.error):
            row.error, row.note = None, "not finite at the end"
    row.seconds = time.process_time() - began
    row.gradients, row.hvps, row.sharpness = gradient.gradients, gradient.hvps, gradient.sharpest
    row.outside = 1 - gradient.inside / row.seconds
    return row


# ── seconds, on problem D ────────────────────────────────────────────────────────────────────────────────────────────


def gradient_cost(problem: Problem, pairs: int = PAIRS) -> list[float]:
    """Time of one gradient of gf.LossField over one bare torch.autograd.grad of the same model, pair by pair."""
    model, loss, (x, y), _ = problem
    parameters = list(model.parameters())
    field = gf.LossField(model, loss, (x, y))
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])[None]

    def bare() -> None:
        torch.autograd.grad(loss(model(x), y), parameters)

    def ours() -> None:
        field.evaluate(theta)

    def seconds(call: Callable[[], None]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    for _ in range(5):
        bare()
        ours()
    ratios = []
    for pair in range(pairs):
        if pair % 2:
            below = seconds(bare)
            ratios.append(seconds(ours) / below)
        else:
            above = seconds(ours)
            ratios.append(above / seconds(bare))
    return ratios


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────────


def wanted(name: str, patterns: str | None) -> bool:
    """Whether a method is asked for: names or shell patterns, separated by commas."""
    return not patterns or any(fnmatch.fnmatchcase(name.lower(), p.strip().lower()) for p in patterns.split(","))


def measure(
    name: str, problem: Problem, known: dict[str, dict[str, Any]], options: argparse.Namespace
) -> Iterator[Row]:
    """Run everything on one problem, row by row."""
    limit = 250_000 if options.full else 12_000
    reference = known["DOP853"]["theta"]
    seen = [0.0]
    settings = [*OURS[name].items(), *(OURS_TOO.get(name, {}).items() if options.full else ())]
    for method, rtols in settings:
        for rtol in rtols:
            if wanted(method, options.methods):
                row = run_ours(problem, method, rtol, reference)
                seen.append(row.sharpness or 0.0)
                yield row
    judge = Gradient(problem)
    start = judge.start
    sharpness, first = judge.sharpness(reference.to(start))[0], judge.sharpness(start)[0]
    if sharpness < first:  # it fell; a rate made from the end would be far too long on the way there
        sharpness = max(first, *seen)
    left_out: set[tuple[str, str]] = set()
    for rival in rivals(start.numel(), sharpness, start.dtype):
        if not wanted(rival.name, options.methods):
            continue
        said = f"{rival.name} {rival.setting}"
        if name == "D" and not options.full and ("LSODA" in said or not wanted(said, ",".join(TIMED))):
            continue
        about = rival.cost(sharpness, problem[3])
        why = rival.missing or (f"left out, about {about:.0f} gradients: --full" if about > limit else "")
        if why:
            if (rival.name, why) not in left_out:  # once for all settings
                yield Row(rival.name, rival.setting if rival.name == "gd" else "", note=why)
            left_out.add((rival.name, why))
        else:
            yield run_rival(problem, rival, reference, limit)
    if wanted("scipy DOP853", options.methods):
        told = known["DOP853"]
        row = Row(
            "scipy DOP853",
            f"rtol {told['rtol']:.0e}",
            gradients=int(told["count"]),
            note="the reference itself",
            judge=True,
        )
        row.error = distance(known["ours"]["theta"], reference, start)
        row.seconds, row.outside = told["seconds"], told["outside"]
        yield row


def one_problem(name: str, t: float, known: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Measure one problem, print its table, and return it as plain data."""
    problem = build(name, t)
    start = Gradient(problem).start
    apart = distance(known["ours"]["theta"], known["DOP853"]["theta"], start)
    rows: list[Row] = []
    for row in measure(name, problem, known, options):
        rows.append(row)
        said = row.note if row.error is None else f"{row.total:.0f} gradient equivalents, error {row.error:.1e}"
        print(f"[{name} {len(rows)}] {row.name}: {said}", file=sys.stderr, flush=True)
    found: list[Aim] = aims(name, t, rows, default=DEFAULT)
    unit = next((row.seconds for row in rows if row.ours and row.method == "auto" and row.setting == DEFAULT), None)
    extra: dict[str, Any] = {}
    if name == "D":
        ratios = gradient_cost(problem)
        extra["gradient_cost"] = ratios
        said = f"median of {len(ratios)} pairs, quartiles {', '.join(f'{q:.3f}' for q in statistics.quantiles(ratios)[::2])}"
        found.append(
            Aim("one gradient of the field over a bare torch.autograd.grad", 1.05, statistics.median(ratios), said)
        )
        share = next(
            (row.outside for row in rows if row.ours and row.method == "auto" and row.setting == DEFAULT), None
        )
        found.append(Aim("share of time outside gradients and HVPs", 0.05, share, f"auto, {DEFAULT}"))

    print(f"\nproblem {name}, t = {t:g}: {start.numel()} parameters, {str(start.dtype).removeprefix('torch.')}")
    verdict = "" if apart <= AGREE else f": MORE than {AGREE:.0e}, errors below that mean nothing"
    print(
        f"reference: DOP853 and our own tight run ({known['ours']['count']:.0f} equivalents) are {apart:.1e} apart{verdict}\n"
    )
    print(table(rows, unit))
    if text := compared(rows):
        print(f"\nat equal or better error\n{text}")
    print("".join(f"\n{aim}" for aim in found), flush=True)
    return {"problem": name, "t": t, "parameters": start.numel(), "agreement": apart, **content(rows, found), **extra}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description="What does solving a gradient flow cost, beside other ways to do it?")
    parser.add_argument(
        "--problem", default="B,C,D,A", metavar="NAMES", help="of A, B, C, D, separated by commas (default all)"
    )
    parser.add_argument("--t", type=float, help="end time instead of the problem's own")
    parser.add_argument("--methods", metavar="NAMES", help="only these, shell patterns allowed: 'auto,gd,torchdiffeq*'")
    parser.add_argument(
        "--full", action="store_true", help="also the runs of more than 12 000 gradients, and A to t = 3000"
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "gradientflow-benchmark",
                        metavar="DIR", help="where references are kept (default: a folder for temporary files)")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, help="processes for the references (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row, comparison and aim here")
    options = parser.parse_args(arguments)
    names = [name.strip().upper() for name in options.problem.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PROBLEMS]:
        parser.error(f"--problem {', '.join(unknown)}: there are {', '.join(PROBLEMS)}")
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder")
    torch.set_num_threads(1)

    chosen = [(name, options.t or build(name, None)[3]) for name in names]
    if options.full and options.t is None and "A" in names:
        chosen.append(("A", 3000.0))
    known = references(chosen, options.cache, options.jobs)
    results = [
        one_problem(name, t, {by: known[name, t, by] for by in ("DOP853", "ours")}, options) for name, t in chosen
    ]
    if options.json:
        whole = {"torch": torch.__version__, "threads": 1, "full": options.full, "results": results}
        options.json.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
