"""Recurrences that a script writes as a loop: which operation holds the state h_t after each time step."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from gradientflow.depth.causes.graph import Graph
from gradientflow.limits import Limit
from gradientflow.records import Op, Recurrence

TOLD = Limit("loops_told", 8, "chosen: more loops of one step are read by nobody")


@dataclass
class Loop:
    """One recurrence, time step by time step.

    Attributes:
        calls: the operation that applies the recurrent weight, at each step.
        states: the operation whose result the next step's call reads, after each step.
        weight: the recurrent weight, where there is one.
    """

    calls: list[int]
    states: list[int]
    weight: int | None


def loops(graph: Graph) -> list[Loop]:
    """Return the loops of a step, in order of their first call; opaque kernels that were run again are no loops."""
    told = {op for r in graph.probe.recurrent for op in r.ops}
    found: list[Loop] = []
    for calls in graph.recurrences() or graph.repeats():
        if told.issuperset(calls):
            continue
        loop = Loop(calls, _states(graph, calls), _weight(graph, calls))
        if len(loop.states) >= 2 and all(loop.states != other.states for other in found):
            found.append(loop)
    return found[: int(TOLD)]


def _states(graph: Graph, calls: list[int]) -> list[int]:
    ops = graph.probe.ops
    latest, _ = graph.latest(calls)
    states: list[int] = []
    for before, call in itertools.pairwise(calls):
        at: int | None = call
        while at is not None and (at == call or ops[at].kind == "shape"):
            at = next((o.op for o in ops[at].operands if o.op is not None and latest.get(o.op) == before), None)
        states.append(before if at is None else at)
    last = calls[-1]
    if states and states[-1] != calls[-2]:
        site = _site(ops[states[-1]])
        last = next(
            (i for i in graph.reached if i > last and latest.get(i) == calls[-1] and _site(ops[i]) == site), last
        )
    return [*states, last]


def _site(op: Op) -> tuple[str | None, int | None, str]:
    return op.file, op.line, op.name


def _weight(graph: Graph, calls: list[int]) -> int | None:
    weights = graph.weights_of(graph.probe.ops[calls[0]])
    if graph.probe.ops[calls[0]].name.endswith("_cell") and len(weights) > 1:
        return weights[1]  # after that of the input
    return weights[0] if weights else None


def record(graph: Graph, loop: Loop) -> Recurrence:
    """Return the gradient over time of one loop."""
    norms = []
    for index in loop.states:
        grad = graph.probe.ops[index].grad
        norms.append(0.0 if grad is None else math.inf if grad.nonfinite else grad.norm)
    batch = graph.probe.batch or 0
    return Recurrence(
        ops=loop.calls, cell=graph.probe.ops[loop.calls[0]].name, steps=len(norms), norms=norms, rows=batch, batch=batch,
        weight=loop.weight,
    )  # fmt: skip
