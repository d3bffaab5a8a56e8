"""All that a rule may look at: the run, its probes as graphs, its trends; worked out once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from statistics import median

from gradientflow.depth.causes import losses as output
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.joined import joined
from gradientflow.depth.causes.trend import Trend, trends
from gradientflow.limits import Limit
from gradientflow.records import Finding, Meta, Op, Operand, Run, ValueStat

MASKING = Limit("masked_out", -1e3, "chosen: what is added to scores to rule them out; exp(−1000) is 0 in every format")
LARGE_INPUT = Limit(
    "input_rms", 20.0, "chosen: twenty times the unit size that initialisations are made for (He et al. 2015, eq. 7)"
)
IGNORANT = Limit(
    "loss_over_ignorance", 0.9, "chosen: at least a tenth better than the best answer that ignores the data"
)


class Case:
    """One run, prepared for the rules.

    Args:
        run: everything seen.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.remade = joined(run)  # (index of an optimizer: as how many it was made)
        self.meta: Meta = self.run.meta

    @cached_property
    def graphs(self) -> list[Graph]:
        """Every probe whose backward pass was traced, in order."""
        return [g for g in (Graph(p, self.meta) for p in self.run.probes if p.root is not None) if g.reached]

    @cached_property
    def traced(self) -> list[Graph]:
        """Every probe with its operations, also where backward was called on a loss that none of them leads to."""
        return [Graph(p, self.meta) for p in self.run.probes if p.ops]

    @cached_property
    def finite(self) -> list[Graph]:
        """Probes before anything stopped being finite."""
        bad = self.first_bad_step
        return [g for g in self.graphs if g.finite and (bad is None or g.probe.step <= bad)]

    @cached_property
    def trends(self) -> list[Trend]:
        return trends(self.run)

    @property
    def main(self) -> Trend:
        """The trend of the optimizer that steps most."""
        return max(self.trends, key=lambda t: len(t.steps))

    @cached_property
    def first_bad_step(self) -> int | None:
        """The first step at which a loss or gradient was not finite."""
        bad = [t.first_bad.step for t in self.trends if t.first_bad is not None]
        bad += [g.probe.step for g in self.graphs if not g.finite]
        return min(bad) if bad else None

    @cached_property
    def stuck(self) -> bool:
        """Whether no loss made headway."""
        measured = [t for t in self.trends if t.measured]
        return bool(measured) and all(t.stuck for t in measured)

    @cached_property
    def ignorant(self) -> bool:
        """Whether the loss ends no better than an answer that ignores the data: the variance of the targets for a squared error,
        ln K for a cross-entropy over K classes. What was learnt until then is the last layer's bias.
        """
        if not self.finite or not self.main.measured:
            return False
        level = [b for g in self.finite if (b := output.ignorance(g)) is not None]
        return bool(level) and self.main.end > IGNORANT * median(level)

    @cached_property
    def chases(self) -> bool:
        """Whether the loss is held against what the network itself made (a target network, a bootstrapped or sampled answer): then
        it has no level of its own, and where it goes up or jumps says nothing by itself.
        """
        return any(output.of_its_own(g) for g in self.finite)

    def inputs(self, graph: Graph) -> list[tuple[Op, Operand, ValueStat]]:
        """Return (layer, operand, its value) of the data that enters layers from outside, first layers first."""
        found = []
        for index in graph.layers:
            op = graph.probe.ops[index]
            for operand in op.operands:
                if (
                    operand.op is None
                    and operand.param is None
                    and operand.value is not None
                    and operand.value.numel > 1
                    and not operand.mask
                    and not rules_out(operand.value)
                ):
                    found.append((op, operand, operand.value))
        return found


def rules_out(value: ValueStat) -> bool:
    """Whether data is a mask that is added to scores: 0 where to look, and one large negative number (or −∞) everywhere else."""
    if value.nan or value.max != 0.0:
        return False
    finite = value.numel - value.inf
    nonzero = (1.0 - value.zeros) * value.numel - value.inf  # (of the finite ones)
    if value.inf and nonzero < 1.0:
        return True
    if value.min > MASKING or finite <= 0:
        return False
    return math.isclose(value.mean, value.min * nonzero / finite, rel_tol=1e-4)  # all that are not 0 are the least


Rule = Callable[[Case], list[Finding]]


def counted(n: int, word: str) -> str:
    """Return a number with its word: `1 step`, `2 steps`."""
    return f"{n} {word}" + ("" if n == 1 else "s")


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Round to significant digits, for evidence that people read; None and non-finite values stay as they are."""
    if value is None or not math.isfinite(value) or value == 0:
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))
