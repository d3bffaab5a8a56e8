"""The loss over the steps, as SVG that needs no script: band and line, ✕ where not finite, ticks where probed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from gradientflow.records import Run, Step, Trained
from gradientflow.report import words
from gradientflow.report.ways import MOST, called

POINTS = 600  # of the curve at most


def domain(run: Run) -> tuple[int, int] | None:
    """First and last step seen."""
    seen = [s.step for s in run.steps] + [n.step for n in run.norms]
    return (min(seen), max(seen)) if seen else None


def column(step: int, ends: tuple[int, int], columns: int) -> int:
    """The column of a step when the axis is cut into `columns`."""
    return min(max((step - ends[0]) * columns // (ends[1] - ends[0] + 1), 0), columns - 1)


def loss_chart(run: Run, optimizers: Sequence[Trained] = ()) -> str:
    """The loss over the steps: line of means in a band from least to most, ✕ where not finite, ticks where probed.

    Args:
        run: what was seen.
        optimizers: what each did, where there are several: each has its own loss.
    """
    ends = domain(run)
    told = [s for s in run.steps if s.loss is not None]
    if ends is None or not told:
        return ""
    good = words.finite(s.loss for s in told)
    columns = min(ends[1] - ends[0] + 1, POINTS)
    log = bool(good) and min(good) > 0
    scales = []
    for name in ("linear", "log") if log else ("linear",):
        low, high = _range(good, name == "log")
        body = "".join(_curve(part, ends, columns, low, high, name == "log", k) for k, part in enumerate(_series(told)))
        scales.append(
            f'<svg class="curve {name}" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">'
            f"{body}</svg>"
            f'<span class="ylab top {name}">{escape(words.number(high))}</span>'
            f'<span class="ylab low {name}">{escape(words.number(low))}</span>'
        )
    use_log = log and max(good) > 30 * min(good)
    drawn = sorted({s.optimizer for s in told})
    own = [o for o in optimizers if o.index in drawn][:MOST]
    said = [f"{called(o)} {words.number(o.loss.first)} → {words.number(o.loss.last)}" for o in own]
    from_to = f"{words.number(told[0].loss)} → {words.number(told[-1].loss)}"
    legend = "".join(
        f'<span class="key"><i class="dash d{drawn.index(o.index) % 4}"></i>{escape(words_of)}</span>'
        for o, words_of in zip(own, said, strict=True)
    )
    heading = f"<small>{legend}</small>" if own else f"<small>{escape(from_to)}</small>"
    label = f"Loss: {'; '.join(said)}" if own else f"Loss from {from_to.replace(' → ', ' to ')}"
    return (
        f'<div class="lane loss{" is-log" if use_log else ""}" id="loss">'
        f'<div class="gutter"><b>{"losses" if own else "loss"}</b>{heading}'
        + ('<button type="button" id="log" class="js-only" aria-pressed="false">log scale</button>' if log else "")
        + f'</div><div class="plot" role="img" aria-label="{escape(label)}">'
        + "".join(scales)
        + _not_finite(told, ends)
        + '<i class="cross"></i></div></div>'
        + _probes(run, ends)
    )


def _range(good: Sequence[float], log: bool) -> tuple[float, float]:
    """The ends of the loss axis."""
    if not good:
        return 0.0, 1.0
    low, high = min(good), max(good)
    if low == high:
        return (low / 2, high * 2) if log else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
    return low, high


def _series(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps of each optimizer: two networks that train in turn have two curves."""
    ids = sorted({s.optimizer for s in steps})
    return [[s for s in steps if s.optimizer == k] for k in ids]


def _curve(
    steps: Sequence[Step], ends: tuple[int, int], columns: int, low: float, high: float, log: bool, k: int
) -> str:
    """One curve as a band and a line; it breaks where the loss is not finite."""
    bins: list[list[float]] = [[] for _ in range(columns)]
    for s in steps:
        if s.loss is not None and math.isfinite(s.loss):
            bins[column(s.step, ends, columns)].append(s.loss)
    broken = {column(s.step, ends, columns) for s in steps if s.loss is not None and not math.isfinite(s.loss)}
    a, b = (math.log(low), math.log(high)) if log else (low, high)

    def y(v: float) -> str:
        return f"{96 - 92 * ((math.log(v) if log else v) - a) / (b - a):.1f}"

    line, top, bottom = "", [], []
    pen = "M"
    for c, part in enumerate(bins):
        if not part:
            pen = "M" if c in broken else pen
            continue
        x = f"{1000 * (c + 0.5) / columns:.1f}"
        line += f"{pen}{x} {y(sum(part) / len(part))}"
        top.append(f"{x},{y(max(part))}")
        bottom.append(f"{x},{y(min(part))}")
        pen = "L"
    if line.count("M") == 1 and "L" not in line:
        line += "h3"
    band = ""
    if any(len(part) > 1 for part in bins) and not broken:
        band = f'<polygon class="band" points="{" ".join(top + bottom[::-1])}"/>'
    return f'{band}<path class="line d{k % 4}" d="{line}" vector-effect="non-scaling-stroke"/>'


def _not_finite(steps: Sequence[Step], ends: tuple[int, int]) -> str:
    """Bands over the steps whose loss is not finite, each with a ✕ at its start."""
    runs: list[list[int]] = []
    for s in steps:
        if s.loss is None or math.isfinite(s.loss):
            continue
        if runs and s.step <= runs[-1][1] + max(1, (ends[1] - ends[0]) // 200):
            runs[-1][1] = s.step
        else:
            runs.append([s.step, s.step])
    width = ends[1] - ends[0] + 1
    return "".join(
        f'<i class="nf" style="left:{100 * (a - ends[0]) / width:.2f}%;width:{100 * (b - a + 1) / width:.2f}%" '
        f'title="not finite from step {a} to {b}"><b>✕</b></i>'
        for a, b in runs
    )


def _probes(run: Run, ends: tuple[int, int]) -> str:
    """A tick at each probed step; trouble has the louder ink."""
    if not run.probes:
        return ""
    width = ends[1] - ends[0] + 1
    ticks = "".join(
        f'<i class="tick{" trouble" if p.reason.startswith("trouble") else ""}" '
        f'style="left:{100 * (p.step - ends[0] + 0.5) / width:.2f}%" '
        f'title="step {p.step}: {escape(words.one_line(p.reason))}"></i>'
        for p in run.probes
        if ends[0] <= p.step <= ends[1]
    )
    return (
        f'<div class="lane probes"><div class="gutter"><small>probed</small></div><div class="plot">{ticks}</div></div>'
    )
