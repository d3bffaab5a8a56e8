"""What every plan of a remedy reads: the case, the probe a finding looked at, and the places of its operations."""

from __future__ import annotations

from collections.abc import Iterable

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.graph import Graph
from gradientflow.records import Finding, Op, Optimizer, Place, Run, Verdict


class Planner:
    """The record of one run, as plans read it.

    Args:
        run: everything seen.
        verdict: what was found.
    """

    def __init__(self, run: Run, verdict: Verdict) -> None:
        self.case = Case(run)
        self.meta = run.meta
        self.verdict = verdict

    def graph(self, finding: Finding) -> Graph | None:
        """Return the probe that a finding looked at: the one of its step, else the first that is whole."""
        graphs = self.case.finite or self.case.graphs
        step = finding.evidence.get("step")
        found = next((g for g in self.case.graphs if g.probe.step == step and g.path), None)
        return found or next((g for g in graphs if g.path), graphs[0] if graphs else None)

    def place(self, op: Op) -> Place:
        """Return an operation's place, without its module: a line acts for every module that runs it."""
        at = places.of_op(op, self.meta)
        return Place(at.file, at.line, None, op.name)

    def at(self, graph: Graph, place: Place | None) -> list[Op]:
        """Return the operations of a probe that stand at a place."""
        if place is None:
            return []
        here = [op for op in graph.probe.ops if (at := self.place(op)).file == place.file and at.line == place.line]
        return [op for op in here if op.name == place.op]

    def scores(self, graph: Graph, finding: Finding) -> tuple[Op, Op] | None:
        """Return (what enters the softmax, the product of queries and keys behind it)."""
        ops = graph.probe.ops
        for op in self.at(graph, finding.place):
            entered = next((ops[o.op] for o in op.operands if o.op is not None), None)
            product = entered
            while product is not None and product.kind != "linear":
                product = next((ops[o.op] for o in product.operands if o.op is not None), None)
            if entered is not None and product is not None:
                return entered, product
        return None

    def optimizer(self, finding: Finding) -> Optimizer | None:
        """Return the optimizer a finding is about; the one that steps most, where it names none."""
        at = finding.place
        for o in self.meta.optimizers:
            if at is not None and (o.made_file, o.made_line) == (at.file, at.line):
                return o
        return self.case.main.optimizer


def body_of(graph: Graph) -> list[Op]:
    """Return the operations between the last and the first layer; all that the loss depends on, where there are no layers."""
    return [graph.probe.ops[i] for i in graph.body or graph.reached]


def unique(found: Iterable[Place]) -> list[Place]:
    """Return places with a file, each once, in order."""
    return list(dict.fromkeys(p for p in found if p.file is not None))


def named(found: list[Place]) -> str:
    """Say in words which lines these are.

    Example:
        >>> named([Place("net.py", 3), Place("net.py", 5), Place("net.py", 7)])
        'net.py:3, net.py:5 and 1 more line'
    """
    lines = list(dict.fromkeys(f"{p.file}:{p.line}" for p in found))
    more = len(lines) - 2
    return ", ".join(lines[:2]) + (f" and {more} more line{'s' * (more > 1)}" if more > 0 else "")
