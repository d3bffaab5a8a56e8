"""A code that carries nothing: what is drawn around it drowns what differs from sample to sample (posterior collapse).

A variational autoencoder draws its code as mean + scale · noise, with noise of a standard normal distribution, and a term of its loss
holds mean and scale at those of the noise alone. Where that term pulls harder than the code helps (its weight is too large, the
reconstruction is averaged over entries that it is summed over, the decoder does without the code), samples end up with one mean.
Measured by what the means of different samples differ by, over the noise: a code with this ratio at 0.1 tells 0.005 nats an entry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.pulled import PROBES, nearest, outside
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.samples import body
from gradientflow.depth.causes.stalled import ENOUGH
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Op, Operand, Place

DROWNED = Limit("difference_over_noise", 0.1, "chosen: 0.005 nats an entry; a code that works has 0.3 and more")
FELL = Limit(
    "difference_over_noise_over_first",
    0.5,
    "chosen: a code that has yet to begin stays at what it began with, or dips to 0.7",
)
RISEN = Limit("difference_over_noise_risen", 1.5, "chosen: of the first; a code that has begun to tell samples apart")
LATE = Limit("last_probe", 100, "chosen: steps; a code that works has begun within fifty")
NORMAL = Limit(
    "standard_errors", 4.0, "chosen: of mean and deviation of standard normal numbers; chance passes them once in 10⁴"
)


@dataclass
class Code:
    """Where a code is drawn around what the data says of it."""

    op: Op  # mean + noise · scale
    layers: list[Op]  # that give the mean
    noise: float  # root mean square of what is added to the mean
    used: bool  # the loss depends on what is drawn

    @property
    def told(self) -> float:
        """What the means of different samples differ by, over the noise."""
        return max(a.value.spread or 0.0 for a in self.layers) / max(self.noise, 1e-300)


def drowned(case: Case) -> list[Finding]:
    """The code of every sample has become the same but for its noise."""
    main = case.main.optimizer
    graphs = [g for g in case.finite if main is not None and g.probe.optimizer in (None, main.index)]
    if len(graphs) < PROBES or len(case.main.losses) < ENOUGH:
        return []
    seen = [code(graphs[i]) for i in (0, -2, -1)]
    first, before, last = seen
    if first is None or before is None or last is None:
        return []
    graph = graphs[-1]
    fell = all(c.told <= DROWNED and c.told <= FELL * first.told for c in (before, last))
    never = graph.probe.step >= LATE and all(c.told <= DROWNED and c.told <= RISEN * first.told for c in (before, last))
    if not fell and not never:
        return []
    drawn = places.of_op(last.op, case.meta)
    place = _pulls(case, graph) if last.used else drawn
    why = (
        "what holds the code at the noise pulls harder than the code helps"
        if last.used
        else "nothing is computed from it, and the term that holds it at the noise has it for itself"
    )
    return [
        Finding(
            ("crawling" if case.stuck else "vanishing") if fell else "stalled", "collapse", 0.8 if fell else 0.6, place,
            f"The code drawn at {drawn.file}:{drawn.line} carries nothing: at step {graph.probe.step} the codes of different samples "
            f"differ by {last.told:.2g} of the noise that is added to them ({first.told:.2g} at step {graphs[0].probe.step}), so that every "
            f"sample is decoded from noise alone: {why}. The loss ends at {case.main.end:.4g}.",
            {"step": graph.probe.step, "difference_over_noise": rounded(last.told), "difference_over_noise_first": rounded(first.told),
             "nats_an_entry": rounded(0.5 * last.told**2), "code_is_used": last.used}
            | told(DROWNED, FELL, gates=(RISEN, LATE, NORMAL, PROBES, ENOUGH)),
            remedies("free-code", at=place),
        )
    ]  # fmt: skip


def unproven(case: Case) -> str | None:
    """Say what keeps a fall of the loss from showing that a code is learnt: as yet it tells samples apart no more than at the start."""
    seen = [c for i in (0, -1) if case.finite and (c := code(case.finite[i])) is not None]
    if len(seen) != 2 or seen[1].told > DROWNED:
        return None
    return (
        f"samples differ in the code drawn at line {seen[1].op.line} by {seen[1].told:.2g} of its noise ({seen[0].told:.2g} at the start), "
        "so that what is learnt is learnt without it"
    )


def _pulls(case: Case, graph: Graph) -> Place | None:
    """Return where the loss is put together."""
    root = graph.probe.root
    return places.of_op(graph.probe.ops[root], case.meta) if root is not None else None


def code(graph: Graph) -> Code | None:
    """Return where a code is drawn in a network whose loss has targets, and a term on the code itself."""
    inside = body(graph)
    outer = [graph.probe.ops[i] for i in graph.reached if i not in inside]
    if not any(outside(o) for op in outer for o in op.operands):
        return None
    near: list[frozenset[int]] = []
    for op in graph.probe.ops:
        parts = _drawn(graph, op)
        if parts is None:
            continue
        mean, noise = parts
        near = near or nearest(graph)
        layers = [graph.probe.ops[i] for i in sorted(near[mean])]
        if not layers or not {a.index for a in layers} <= _without(graph, op.index):
            continue
        used = op.index in graph.reached
        if not used or _decoded(graph, op.index):
            return Code(op, layers, noise, used)
    return None


def _decoded(graph: Graph, index: int) -> bool:
    """Whether a layer is computed from an operation."""
    from_it = {index}
    for at in graph.reached:
        if at > index and any(o.op in from_it for o in graph.probe.ops[at].operands):
            from_it.add(at)
    return not from_it.isdisjoint(graph.joints)


def _without(graph: Graph, index: int) -> set[int]:
    """Return what the loss depends on by ways that leave out an operation."""
    seen: set[int] = set()
    todo = [graph.probe.root] if graph.probe.root is not None and graph.probe.root != index else []
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += [o.op for o in graph.probe.ops[at].operands if o.op is not None and o.op != index]
    return seen


def _drawn(graph: Graph, op: Op) -> tuple[int, float] | None:
    """Return the operation that gives the mean, and the size of the noise, where an operation is mean + scale · noise."""
    made = [o.op for o in op.operands if o.op is not None]
    if op.name == "addcmul" and len(made) > 1 and any(_is_noise(o) for o in op.operands):
        return made[0], graph.probe.ops[made[-1]].value.rms
    if op.name != "add" or len(made) != 2:
        return None
    for mean, scaled in (made, made[::-1]):
        product = graph.probe.ops[scaled]
        if product.name == "mul" and any(_is_noise(o) for o in product.operands):
            return mean, product.value.rms
    return None


def _is_noise(operand: Operand) -> bool:
    """Whether data has mean and deviation of so many standard normal numbers."""
    value = operand.value
    if operand.op is not None or operand.param is not None or value is None or value.numel < NORMAL**2:
        return False
    error = NORMAL / math.sqrt(value.numel)
    return (
        abs(value.mean) <= error and abs(value.std - 1.0) <= error / math.sqrt(2.0) and value.min < -1 < 1 < value.max
    )
