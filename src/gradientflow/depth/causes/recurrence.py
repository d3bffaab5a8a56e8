"""Recurrence: one weight applied again and again to its own output, judged over time.

What is judged is ∂L/∂h_t from the newest state back to the oldest (of the cell state, in an LSTM), so that a loss at every
step, which feeds gradient in everywhere, does not look like vanishing; and beside it what the recurrence alone carries back
of the newest state's gradient, so that a loss which enters late on the way does not look like growth. A product of Jacobians of spectral radius ρ shows as
ρ^T (Pascanu, Mikolov & Bengio 2013, eq. 5-6); ρ, the radius of the step's Jacobian and the leading Lyapunov exponent stand
beside what was measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import CALLS, CHAINED, REPEATS, Graph
from gradientflow.depth.causes.loops import loops, record
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS, STUCK
from gradientflow.limits import REACH, Limit, told
from gradientflow.ops import GATED
from gradientflow.records import Finding, Op, Place, Recurrence

EXPLODES = Limit("decades", 2.0, "chosen: a hundredfold over all time steps")
GROWS = Limit("slope", 0.01, "chosen: decades per time step; ρ = 1.02 in Pascanu, Mikolov & Bengio 2013, eq. 6")
CALM = Limit(
    "decades_while_learning", 3.0, "chosen: up to here forgiven to a script that has been learning for a while"
)
CALM_STEPS = Limit("losses_of_a_calm_run", 20, "chosen: that while")
CALM_RISE = Limit("rise_of_a_calm_run", 3, "chosen: four times the loss it began with; what explodes kicks it higher")
VANISHES = Limit("decades", -3.0, "chosen: a thousandth is left over all time steps")
GATED_VANISHES = Limit("decades", -6.0, "chosen: a half open gate takes 0.3 decades per step, and training opens it")
PATIENCE = Limit("steps_to_open_the_gates", 100, "chosen: for a gated cell; below, it has only begun")
UNDERFLOW = Limit(
    "decades_of_zero", -38.0, "the smallest normal float32, 1.2e-38: told where the gradient is exactly zero"
)
COURSE = Limit("time_steps", 4, "chosen: the fewest that show a slope")
LONG = Limit("time_steps", 8, "chosen: a shorter sequence loses nothing that is worth another cell")
LOOKED_AT = Limit("probes_looked_at", 3, "chosen: the first that show a recurrence")
AGREES = Limit("miss_of_the_radius", 0.05, "chosen: of the slope, between log ρ and what was measured")
ROUNDING = Limit("miss_of_the_radius_at_least", 0.004, "chosen: decades per time step, one percent")
# Passed on the way to a finding, or weighed in its confidence or its words.
_GATES = (
    GROWS, CALM, CALM_STEPS, CALM_RISE, PATIENCE, UNDERFLOW, REACH, LOOKED_AT, AGREES, ROUNDING, LEARNS, STUCK,
    CALLS, REPEATS, CHAINED,
)  # fmt: skip


@dataclass
class Course:
    """How the gradient changes on its way back through time.

    Attributes:
        decades: from the newest state that has a gradient to the oldest.
        slope: decades per time step.
        reach: steps back that are within two decades of the newest.
    """

    decades: float
    slope: float
    reach: int


def course(way: Sequence[float]) -> Course | None:
    """Return the course of gradient norms from the newest state to the oldest; None where there is no way to judge.

    Example:
        >>> found = course([1.0, 0.1, 0.01, 0.001])
        >>> round(found.decades, 6), round(found.slope, 6), found.reach
        (-3.0, -1.0, 2)
    """
    seen = [k for k, g in enumerate(way) if g > 0 and math.isfinite(g)]
    if len(seen) < 2:
        return None
    first, last = seen[0], seen[-1]
    decades = math.log10(way[last]) - math.log10(way[first])
    slope = decades / (last - first)
    if last < len(way) - 1:
        decades = min(decades, UNDERFLOW)
        slope = min(slope, decades / (last - first))
    near = itertools.takewhile(lambda k: way[k] >= REACH * way[first], range(first, len(way)))
    return Course(decades, slope, max(near) - first)


def of(graph: Graph) -> list[Recurrence]:
    """Return the recurrences of a probe: as they were measured; in a record without, what its operations show."""
    return graph.probe.recurrent or [record(graph, loop) for loop in loops(graph)]


def recurrence(case: Case) -> list[Finding]:
    """Judge every recurrence at the first probes that show one."""
    shown = [(graph, found) for graph in case.finite if (found := of(graph))]
    for graph, found in shown[: int(LOOKED_AT)]:
        worst: dict[int, Finding] = {}  # one finding for each operation, however many layers it has
        for one in found:
            finding = _judge(case, graph, one, shown[-1][1])
            if finding is not None and finding.confidence > worst.get(one.ops[0], _NONE).confidence:
                worst[one.ops[0]] = finding
        if worst:
            return sorted(worst.values(), key=lambda f: -f.confidence)
    return []


_NONE = Finding("", "", 0.0, None, "", {}, [])


def _judge(case: Case, graph: Graph, one: Recurrence, latest: Sequence[Recurrence]) -> Finding | None:
    how = course(one.way)
    alone = course(one.carried) if one.carried else how
    if how is None or alone is None or one.steps < COURSE:
        return None
    if how.decades >= EXPLODES:
        how = alone  # where the loss enters late on the way, what it adds there is no growth
    op = graph.probe.ops[one.ops[len(one.ops) // 2]]
    place = places.of_op(op, case.meta)
    evidence = _evidence(graph, one, how)
    trend = case.main
    learns = trend.measured and trend.progress > LEARNS
    if how.decades >= EXPLODES and how.slope > GROWS:
        calm = (
            learns
            and how.decades < CALM
            and len(trend.losses) >= CALM_STEPS
            and trend.spike < CALM_RISE
            and case.first_bad_step is None
        )
        return Finding(
            "exploding", "recurrence", 0.4 if calm else min(0.8 + 0.03 * how.decades, 0.97), place,
            _grows(one, op, place, how), evidence,
            remedies("orthogonal-recurrence", "clip-gradient", "gated-cell", "rescale-init", at=place)
            if one.cell not in GATED else remedies("clip-gradient", "rescale-init", "orthogonal-recurrence", at=place),
        )  # fmt: skip
    limit = GATED_VANISHES if one.cell in GATED else VANISHES
    if one.steps < LONG or max(how.decades, alone.decades) > limit:
        return None
    confidence = 0.4 if learns else min(0.75 + 0.02 * -how.decades, 0.95)
    if one.cell in GATED:
        sure = trend.stuck and len(trend.losses) >= PATIENCE and _still(one, latest)
        confidence = 0.6 if sure else 0.4
        evidence |= told(GATED_VANISHES)
    return Finding(
        "vanishing", "recurrence", confidence, place, _shrinks(one, op, place, how), evidence,
        remedies("orthogonal-recurrence", "gated-cell", "rescale-init", at=place)
        if one.cell not in GATED else remedies("open-gates", "orthogonal-recurrence", at=place),
    )  # fmt: skip


def _still(one: Recurrence, latest: Sequence[Recurrence]) -> bool:
    """Whether the same layer vanishes in the last probe too."""
    same = [
        r
        for r in latest
        if (r.cell, r.layer, r.backwards, r.weight) == (one.cell, one.layer, one.backwards, one.weight)
    ]
    found = [how for r in same if (how := course(r.way)) is not None]
    return any(how.decades <= GATED_VANISHES for how in found)


def _evidence(graph: Graph, one: Recurrence, how: Course) -> dict[str, object]:
    evidence: dict[str, object] = {
        "step": graph.probe.step, "time_steps": one.steps, "decades": rounded(how.decades),
        "gain_per_time_step": rounded(10**how.slope),
        "reach": how.reach if one.reach is None else one.reach,
        "spectral_radius": rounded(one.radius), "largest_singular_value": rounded(one.sigma),
        "step_jacobian_radius": rounded(one.step_radius),
        "lyapunov_exponent": rounded(one.lyapunov[0]) if one.lyapunov else None,
        "predicted_decades": rounded(_predicted(one)),
    } | (told(EXPLODES, COURSE, gates=_GATES) if how.decades > 0 else told(VANISHES, LONG, gates=_GATES))  # fmt: skip
    if len({(r.layer, r.backwards) for r in of(graph) if r.ops == one.ops}) > 1:
        evidence |= {"layer": one.layer, "direction": "backwards" if one.backwards else "forwards"}
    return evidence


def _predicted(one: Recurrence) -> float | None:
    """ρ^(T−1) in decades: what the recurrent weight alone would do, without the slope of the activation."""
    return (one.steps - 1) * math.log10(one.radius) if one.radius is not None and one.radius > 0 else None


def _name(one: Recurrence, op: Op, place: Place) -> str:
    which = f" (layer {one.layer}{', backwards' if one.backwards else ''})" if one.layer or one.backwards else ""
    return f"{op.name}{which} at {place.file}:{place.line}"


def _steps(one: Recurrence) -> str:
    return f"the last {one.steps} of {one.steps + one.skipped}" if one.skipped else str(one.steps)


def _grows(one: Recurrence, op: Op, place: Place, how: Course) -> str:
    return (
        f"The gradient grows by ×{10**how.slope:.3g} at each of {_steps(one)} time steps on its way back through "
        f"{_name(one, op, place)}: {how.decades:.1f} decades from the last time step to the first{_theory(one, how)}."
    )


def _shrinks(one: Recurrence, op: Op, place: Place, how: Course) -> str:
    reach = how.reach if one.reach is None else one.reach
    return (
        f"The gradient shrinks by ×{10**how.slope:.2g} at each of {_steps(one)} time steps on its way back through "
        f"{_name(one, op, place)}; what happened more than {reach} steps before the end cannot be learnt{_theory(one, how)}."
    )


def _theory(one: Recurrence, how: Course) -> str:
    """What the weights alone predict, in words; for a gated cell what the Jacobian of its step says."""
    gain = 10**how.slope
    if one.radius is not None and one.radius > 0:
        said = f". Its recurrent weight has spectral radius {one.radius:.3g}"
        if abs(math.log10(one.radius) - how.slope) <= AGREES * abs(how.slope) + ROUNDING:
            return f"{said}, which predicts ×{one.radius:.3g} per step: the weight"
        if gain < one.radius:
            return f"{said}; the rest is taken by the slope of the activation"
        return said
    if one.step_radius is not None and one.step_radius > 0:
        return f". The Jacobian of its step has spectral radius {one.step_radius:.3g}"
    return ""
