"""A run over training, thinned to what a screen can show: curves, the map of gradients, one parameter at one step."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence

from gradientflow.errors import UsageError
from gradientflow.records import ABSENT, Cell, Curves, HeatMap, InlinedMap, Line, LineName, ParamNorms, Run, Step
from gradientflow.report import words
from gradientflow.report.heat import MAX_CELLS, Heat, domain
from gradientflow.report.view.moment import Moment
from gradientflow.report.view.ways import users

MOST = 2000  # points of a curve
BROKEN = 200  # steps with a loss or gradient that is not finite, of which each is told
Points = list[tuple[int, float]]


def curves(moment: Moment, points: int) -> tuple[Curves, list[list[float]]]:
    """Return the curves of a run, and for each line its steps (less the first) and its values.

    Raises:
        UsageError: too many points, or too few.
    """
    if not 16 <= points <= MOST:
        raise UsageError(f"points of a curve: expected 16 to {MOST}, got {points}.")
    run = moment.run
    ends = domain(run) or (0, 0)
    lines: list[Line] = []
    arrays: list[list[float]] = []
    for name, optimizer, found, log in _lines(run):
        kept = thinned(found, points)
        lines.append(Line(name, len(kept), optimizer, log))
        arrays += [[step - ends[0] for step, _ in kept], [value for _, value in kept]]
    broken = list(_broken(run.steps))
    return Curves(ends[0], ends[1], lines, broken[:BROKEN], max(0, len(broken) - BROKEN)), arrays


def thinned(found: Points, points: int) -> Points:
    """Return no more points than that: of each piece of the curve the least and the largest value, one that is not finite first.

    Example:
        >>> thinned([(0, 1.0), (1, 5.0), (2, 0.5), (3, 1.0), (4, 1.0), (5, 1.0)], 4)
        [(1, 5.0), (2, 0.5), (3, 1.0), (5, 1.0)]
    """
    if len(found) <= points:
        return found
    pieces = points // 2
    kept: Points = []
    for k in range(pieces):
        part = found[k * len(found) // pieces : (k + 1) * len(found) // pieces]
        low = min(range(len(part)), key=lambda i: (not math.isfinite(part[i][1]), part[i][1]))
        high = max(range(len(part)), key=lambda i: (not math.isfinite(part[i][1]), part[i][1], i))
        kept += [part[i] for i in sorted({low, high})]
    kept[-1] = found[-1] if math.isfinite(kept[-1][1]) else kept[-1]
    return kept


def _lines(run: Run) -> Iterable[tuple[LineName, int, Points, bool]]:
    """Each curve: its name, the optimizer's number, its points, and whether it is drawn on a log scale."""
    for optimizer in sorted({s.optimizer for s in run.steps})[:4]:
        steps = [s for s in run.steps if s.optimizer == optimizer]
        yield from _of("loss", optimizer, [(s.step, s.loss) for s in steps])
        yield from _of("learning rate", optimizer, [(s.step, s.lr) for s in steps])
        ratio = [(s.step, s.update / s.weight if s.update is not None and s.weight else None) for s in steps]
        yield from _of("update/weight", optimizer, ratio)
        yield from _of("gradient", optimizer, [(s.step, s.grad) for s in steps])
    sharp = [(p.step, p.sharpness.value) for p in run.probes if p.sharpness is not None]
    if sharp:
        yield from _of("sharpness", 0, sharp)
        yield from _of("2/η", 0, [(s.step, 2 / s.lr if s.lr else None) for s in run.steps])


def _of(
    name: LineName, optimizer: int, found: Sequence[tuple[int, float | None]]
) -> Iterable[tuple[LineName, int, Points, bool]]:
    points = [(step, value) for step, value in found if value is not None]
    good = [v for _, v in points if math.isfinite(v)]
    if points:
        yield (
            name,
            optimizer,
            points,
            bool(good) and min(good) > 0 and (max(good) > 30 * min(good) or name == "gradient"),
        )


def _broken(steps: Sequence[Step]) -> Iterable[tuple[int, str]]:
    for s in steps:
        if s.loss is not None and not math.isfinite(s.loss):
            yield s.step, f"loss {words.number(s.loss)}"
        elif s.nonfinite or (s.grad is not None and not math.isfinite(s.grad)):
            yield s.step, f"gradient of {words.count(s.nonfinite or 1, 'parameter')} not finite"


def heat(moment: Moment, biases: bool) -> HeatMap:
    """Return the map of gradients of the weights, or of the rest: biases and scales, which have one dimension."""
    return moment.once(f"heat {biases}", lambda: mapped(moment.run, biases=biases).map)


def mapped(run: Run, *, biases: bool, cells: int = MAX_CELLS) -> InlinedMap:
    """Return the same map, of no more cells than that, with the largest norm of each column."""
    thin = {p.index for p in run.meta.params if len(p.shape) <= 1}
    told = {i for n in run.norms for i in n.params}
    chosen = told & thin if biases else told - thin
    made = Heat(run, chosen, cells)
    flat = base64.b64encode(b"".join(made.codes)).decode("ascii")
    drawn = HeatMap(
        names=made.names if made.codes else [], params=made.params, steps=made.steps, low=made.low, codes=flat,
        left_out=made.left_out, kind="biases" if biases else "weights", others=len(told - chosen),
    )  # fmt: skip
    return InlinedMap(drawn, made.largest)


def cell(moment: Moment, param: int, step: int) -> Cell:
    """Return one parameter at the recorded step nearest to one.

    Raises:
        UsageError: no such parameter, or nothing was recorded of it.
    """
    run = moment.run
    if not 0 <= param < len(run.meta.params):
        raise UsageError(f"parameter {param}: this run has {len(run.meta.params)} of them, counted from 0.")
    found = min((n for n in run.norms if param in n.params), key=lambda n: abs(n.step - step), default=None)
    if found is None:
        raise UsageError(f"parameter {param}: no norms were recorded of it.")
    about = run.meta.params[param]
    at = found.params.index(param)
    grad, weight, update = found.grad[at], found.weight[at], found.update[at]
    facts = [("‖gradient‖", _spelt(grad)), ("‖weight‖", _spelt(weight)), ("‖update‖", _spelt(update))]
    if weight > 0 and update >= 0 and math.isfinite(update):
        facts.append(("update/weight", words.number(update / weight)))
    facts.append(("of the largest in this step", words.gain(_share(found, grad))))
    facts += [("shape", "×".join(map(str, about.shape)) or "one number")]
    facts += [("initialised by", words.one_line(about.init))] if about.init else []
    marks = ["not-finite"] if not math.isfinite(grad) else ["dead"] if grad == 0 else []
    probe = min(range(len(run.probes)), key=lambda i: abs(run.probes[i].step - found.step), default=None)
    row = users(moment, probe).get(param) if probe is not None else None
    return Cell(param, words.one_line(about.name), found.step, facts, marks, row, probe)


def _spelt(x: float) -> str:
    return "none came" if x == ABSENT else words.number(x)


def _share(found: ParamNorms, grad: float) -> float | None:
    largest = max((g for g in found.grad if math.isfinite(g)), default=0.0)
    return grad / largest if largest > 0 and grad >= 0 and math.isfinite(grad) else None
