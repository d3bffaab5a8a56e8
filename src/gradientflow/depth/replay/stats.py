"""Is a trial's loss lower than the baseline's? Paired differences, and their interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from gradientflow.limits import Limit

# Student's t, two-sided 95 %, for 1, 2, … degrees of freedom (Student 1908); beyond the list, that of the normal.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
      2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip
_BLOCKS = 8  # of one seed's differences: neighbouring steps are alike, the means of stretches much less so
SEEDS = Limit("seeds", 3, "chosen: the fewest whose spread says something; from here on it is what counts")


@dataclass(frozen=True)
class Difference:
    """Mean relative difference of the losses with a change and without, and its 95 % interval.

    Relative is (a − b) / (|a| + |b|), a with the change, b without: −1 nothing is left of the loss, 0 no difference, 1 the
    baseline was nothing beside it. For positive losses, a/b = (1 + d) / (1 − d).
    """

    mean: float
    low: float
    high: float


def t_value(freedom: int) -> float:
    """Return the two-sided 95 % value of Student's t."""
    return _T[freedom - 1] if 1 <= freedom <= len(_T) else 1.96


def compare(baseline: Sequence[Sequence[float]], changed: Sequence[Sequence[float]]) -> Difference | None:
    """Return the paired relative difference of the losses of a change and a baseline, over all seeds.

    mean ± t·s/√n, over the means of each seed where there are three or more, else over the means of eight stretches of
    each seed's differences, since neighbouring steps are alike (batch means: Conway 1963).

    Args:
        baseline: for each seed the losses of the last steps, in order; in the script's own unit.
        changed: the same with the change: the same steps on the same batches.

    Returns:
        The difference; None where there is nothing to pair, or something is not finite.

    Example:
        >>> compare([[2.0, 2.1, 2.0, 2.2]], [[1.0, 1.0, 1.1, 1.1]]).high < 0
        True
    """
    parts: list[list[float]] = []
    for base, other in zip(baseline, changed, strict=True):
        pairs = [_relative(b, a) for a, b in zip(base, other, strict=False)]
        if not pairs or not all(math.isfinite(d) for d in pairs):
            return None
        parts.append(pairs)
    if not parts:
        return None
    mean = fmean(fmean(p) for p in parts)
    sample = [fmean(p) for p in parts] if len(parts) >= SEEDS else [m for p in parts for m in _blocks(p)]
    if len(sample) < 2:
        return Difference(mean, -1.0, 1.0)
    half = t_value(len(sample) - 1) * stdev(sample) / math.sqrt(len(sample))
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half))


def fall(starts: Sequence[Sequence[float]], ends: Sequence[Sequence[float]]) -> Difference | None:
    """Return the relative difference of a run's losses at its end and at its own start, over all seeds.

    Two readings, of which the clearer one is told: the first stretch against the last (which averages noise away), and the
    very first loss, that of the weights as they were made, against the spread of single losses at the end (a run that
    learns within a few steps has little of its start left in a stretch).

    Args:
        starts: for each seed the losses of the first steps, in order.
        ends: for each seed as many of the last steps.

    Returns:
        The difference, below zero for a fall; None where there is nothing to compare, or something is not finite.

    Example:
        >>> fall([[2.0, 1.9, 1.8, 1.9]], [[1.0, 1.1, 1.0, 1.1]]).high < 0
        True
        >>> fall([[2.0, 1.0, 1.4, 1.6]], [[1.5, 2.0, 1.0, 1.5]]).high < 0
        False
    """
    stretches = compare(starts, ends)
    first = [[one[0]] * len(other) for one, other in zip(starts, ends, strict=True) if one]
    if stretches is None or len(first) != len(ends):
        return stretches
    single = compare(first, ends)
    if single is not None and len(first) < SEEDS:
        single = _spread([_relative(x, a[0]) for a, b in zip(first, ends, strict=True) for x in b])
    found = [d for d in (stretches, single) if d is not None]
    return min(found, key=lambda d: d.high)


def _spread(values: Sequence[float]) -> Difference | None:
    """Return the interval in which a single further value lies with 95 %: mean ± t·s·√(1 + 1/n)."""
    if len(values) < _BLOCKS // 2:  # fewer have no spread that could be trusted
        return None
    mean = fmean(values)
    half = t_value(len(values) - 1) * stdev(values) * math.sqrt(1 + 1 / len(values))
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half))


def _relative(a: float, b: float) -> float:
    size = abs(a) + abs(b)
    return (a - b) / size if size else 0.0


def _blocks(values: Sequence[float]) -> list[float]:
    count = min(_BLOCKS, len(values))
    edges = [round(k * len(values) / count) for k in range(count + 1)]
    return [fmean(values[a:b]) for a, b in itertools.pairwise(edges) if b > a]
