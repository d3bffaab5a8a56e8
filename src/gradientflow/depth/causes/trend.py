"""How training went, from the losses and norms of every step. Nothing here depends on the unit of the loss."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean, median

from gradientflow.limits import Limit
from gradientflow.records import Optimizer, Run, Step

LOSSES = Limit("losses", 3, "chosen: the fewest that have a start, an end and something between")
STUCK = Limit("progress", 0.12, "chosen: (1 − 0.12)/(1 + 0.12) = 0.79 of the loss it began with is left")
LEARNS = Limit("progress_of_learning", 0.3, "chosen: 0.54 of the loss it began with is left")
LEARNS_WELL = Limit("progress_of_learning_well", 0.6, "chosen: a quarter of the loss it began with is left")
SPIKE = Limit("rise_over_start", 2.0, "chosen: three times the loss it began with; noise of a small batch stays below")
ALIVE = Limit("gradient_over_first", 0.05, "chosen: of the first gradients; less is a gradient that died")


@dataclass
class Trend:
    """One optimizer's run in numbers.

    Attributes:
        losses: finite losses in order.
        start, end: typical loss of the first and the last stretch.
        best: lowest typical loss of any stretch; `best_step` its place in `losses`; `relapse` the largest loss after it.
        spread: size of a small (lower quartile) change between neighbouring losses in the first stretch.
        top: the largest loss.
        progress: (start − end) / (|start| + |end|): 1 all of it, 0 none, negative is worse than the start.
        first_bad: first step whose loss or gradient is not finite; None if there is none.
        zigzag: share of neighbouring changes that turn around; 1 up-down-up-down, 1/2..2/3 noise, 0 monotone.
    """

    optimizer: Optimizer | None
    steps: list[Step] = field(repr=False)
    losses: list[float] = field(repr=False)
    start: float = math.nan
    end: float = math.nan
    best: float = math.nan
    spread: float = 0.0
    top: float = math.nan
    best_step: int = 0
    relapse: float = math.nan
    progress: float = 0.0
    first_bad: Step | None = None
    zigzag: float = 0.0

    @property
    def measured(self) -> bool:
        return len(self.losses) >= LOSSES

    @property
    def spike(self) -> float:
        """How many times its typical size (or its starting level, if larger) the loss rose above its start."""
        if not self.measured:
            return 0.0
        scale = max(abs(self.start), self.spread, 1e-300)
        return (self.top - self.start) / scale

    @property
    def ends_above(self) -> bool:
        """Whether the loss ends above where it began, or not finite."""
        return self.first_bad is not None or (self.measured and self.end > self.start)

    @property
    def lost(self) -> float:
        """Share of the best progress that was lost again by the end: 0 none, 1 all of it (or there never was any)."""
        gained = self.start - self.best
        return (self.end - self.best) / gained if gained > 0 else 0.0

    @property
    def stuck(self) -> bool:
        """Whether the loss has hardly moved below where it began."""
        return self.measured and self.progress < STUCK

    def momentum_factor(self) -> float:
        """Return c in the stability limit sharpness < c / lr of plain or momentum descent: 2, or 2(1+β) (Cohen et al. 2021)."""
        options = self.optimizer.options if self.optimizer else {}
        beta = options.get("momentum", 0.0) or 0.0
        if options.get("nesterov"):
            return 2 * (1 + beta) / (1 + 2 * beta)
        return 2 * (1 + beta)

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer rescales each coordinate, so that plain sharpness says nothing of its stability."""
        return self.optimizer is not None and self.optimizer.adaptive


def trends(run: Run) -> list[Trend]:
    """Return the trend of every optimizer (of the whole run, where there is none), in order."""
    optimizers: list[Optimizer | None] = list(run.meta.optimizers) or [None]
    steps: dict[int, list[Step]] = defaultdict(list)
    for step in run.steps:
        steps[step.optimizer].append(step)
    return [_trend(o, steps[o.index if o is not None else 0]) for o in optimizers]


def _trend(optimizer: Optimizer | None, steps: list[Step]) -> Trend:
    losses = [s.loss for s in steps if s.loss is not None and math.isfinite(s.loss)]
    trend = Trend(optimizer, steps, losses)
    trend.first_bad = next(
        (s for s in steps if s.nonfinite or (s.loss is not None and not math.isfinite(s.loss))), None
    )
    if not trend.measured:
        return trend
    stretch = max(1, min(len(losses) // 10, 50))
    first, last = losses[: max(1, min(stretch, 5))], losses[-stretch:]
    trend.start, trend.end = median(first), mean(last)
    levels = [median(losses[i : i + stretch]) for i in range(0, len(losses), stretch)]
    trend.best = min(levels)
    trend.best_step = losses.index(min(losses[levels.index(trend.best) * stretch :][:stretch]))
    trend.relapse = max(losses[trend.best_step :])
    changes = [b - a for a, b in itertools.pairwise(losses)]
    trend.spread = sorted(abs(c) for c in changes[: max(10, stretch)])[min(max(10, stretch), len(changes)) // 4]
    trend.top = max(losses)
    scale = abs(trend.start) + abs(trend.end)
    trend.progress = (trend.start - trend.end) / scale if scale > 0 else 0.0
    moving = [c for c in changes if c != 0.0]
    turns = sum(a * b < 0 for a, b in itertools.pairwise(moving))
    trend.zigzag = turns / max(len(moving) - 1, 1)
    return trend


def alive(trend: Trend) -> bool:
    """Whether the gradient of the second half is one that a step could use."""
    grads = [s.grad for s in trend.steps if s.grad is not None and math.isfinite(s.grad)]
    first, second = grads[: max(1, len(grads) // 10)], grads[len(grads) // 2 :]
    return bool(grads) and median(second) > ALIVE * median(first)


def mean(values: list[float]) -> float:
    """Return the mean, also of numbers whose sum no float holds."""
    try:
        return fmean(values)
    except OverflowError:
        return math.fsum(v / len(values) for v in values)


def smoothed(losses: list[float], window: int) -> list[float]:
    """Return the median of each stretch of `window` losses (fewer where there are fewer)."""
    window = min(window, len(losses))
    return [median(losses[i : i + window]) for i in range(len(losses) - window + 1)]
