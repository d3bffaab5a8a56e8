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


def network_of(graph: Graph) -> set[int]:
    """Return the operations between the network's input and its output: a layer that can learn consumes what they give, on
    whatever way. What comes after the last such layer of its way is the loss side, also where that has a derivative of the
    network in it. Without layers, it is what repeats itself; where nothing does, it cannot be told.
    """
    ops = graph.probe.ops
    learning = [i for i in graph.joints if any(graph.params[w].requires_grad for w in graph.weights_of(ops[i]))]
    if not graph.joints:
        learning = [calls[-1] for calls in graph.repeats()]
    found = set(learning)
    todo = list(learning)
    while todo:
        for operand in ops[todo.pop()].operands:
            if operand.op is not None and operand.op not in found:
                found.add(operand.op)
                todo.append(operand.op)
    return found


def body_of(graph: Graph) -> list[Op]:
    """Return the operations between the last and the first layer; without layers, those that repeat themselves."""
    within = network_of(graph)
    return [graph.probe.ops[i] for i in graph.body or graph.reached if i in within]


def within_network(plan: Planner, graph: Graph, found: Iterable[Place]) -> list[Place]:
    """Return the places that no operation of the loss side shares: a change there would change what is minimised."""
    within = network_of(graph)
    outside = {plan.place(graph.probe.ops[i]) for i in graph.reached if i not in within}
    return [p for p in found if p not in outside]


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
