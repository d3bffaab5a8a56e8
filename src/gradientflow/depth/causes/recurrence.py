"""Recurrence: one weight applied again and again to its own output, judged over time.

The gradient at time t is read at each call of the recurrent layer, so a loss at every step (which feeds gradient in
everywhere) does not look like vanishing, and a product of Jacobians with spectral radius ρ shows as ρ^T (Pascanu,
Mikolov & Bengio 2013, eq. 5-6).
"""

from __future__ import annotations

import math

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.records import Finding

EXPLODES = 2.0  # decades over all time steps
VANISHES = -3.0


def over_time(graph: Graph, calls: list[int]) -> list[float | None]:
    """Return log10 of the gradient norm at each call, in order of time; None where it is zero or not finite."""
    found: list[float | None] = []
    for index in calls:
        grad = graph.probe.ops[index].grad
        found.append(math.log10(grad.norm) if grad is not None and grad.norm > 0 and not grad.nonfinite else None)
    return found


def recurrence(case: Case) -> list[Finding]:
    """Judge every recurrence at the first probes that show one."""
    for graph in case.finite[:3]:
        found = [f for calls in graph.recurrences() or graph.repeats() if (f := _judge(case, graph, calls)) is not None]
        if found:
            return sorted(found, key=lambda f: -f.confidence)
    return []


def _judge(case: Case, graph: Graph, calls: list[int]) -> Finding | None:
    series = over_time(graph, calls)
    steps = len(calls)
    last = next((i for i in range(steps - 1, -1, -1) if series[i] is not None), None)
    if last is None or last == 0:
        return None
    reach = next(
        (i for i in range(last + 1) if series[i] is not None), last
    )  # below it the gradient underflows to zero
    newest, oldest = series[last], series[reach]
    if newest is None or oldest is None:
        return None
    decades = oldest - newest
    if reach > 0:
        decades = min(decades, -38.0)
    slope = decades / max(last - reach, 1)
    op = graph.probe.ops[calls[steps // 2]]
    place = places.of_op(op, case.meta)
    within = [i for i in range(last + 1) if (v := series[i]) is not None and v >= newest - 2.0]
    evidence = {
        "step": graph.probe.step, "time_steps": steps, "decades": rounded(decades), "gain_per_time_step": rounded(10**slope),
        "threshold_decades": EXPLODES if decades > 0 else VANISHES, "reach": last - min(within) + 1 if within else 0,
    }  # fmt: skip
    if decades >= EXPLODES and slope > 0.01:
        summary = (
            f"The gradient grows by ×{10**slope:.3g} at each of {steps} time steps on its way back through {op.name} at "
            f"{place.file}:{place.line}: {decades:.1f} decades from the last time step to the first."
        )
        return Finding(
            "exploding", "recurrence", min(0.8 + 0.03 * decades, 0.97), place, summary, evidence,
            remedies("orthogonal-recurrence", "clip-gradient", "gated-cell", "rescale-init", at=place),
        )  # fmt: skip
    if decades <= VANISHES and steps >= 8:
        learns = case.main.measured and case.main.progress > 0.3
        confidence = 0.4 if learns else min(0.75 + 0.02 * -decades, 0.95)
        summary = (
            f"The gradient shrinks by ×{10**slope:.2g} at each of {steps} time steps on its way back through {op.name} at "
            f"{place.file}:{place.line}; what happened more than {evidence['reach']} steps before the end cannot be learnt."
        )
        return Finding(
            "vanishing", "recurrence", confidence, place, summary, evidence,
            remedies("orthogonal-recurrence", "gated-cell", "rescale-init", at=place),
        )  # fmt: skip
    return None
