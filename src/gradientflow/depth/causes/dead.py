"""Dead: a gradient that is exactly zero, and the operation where it ends."""

from __future__ import annotations

import math
from typing import Any

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import LARGE_INPUT, Case, rounded
from gradientflow.depth.causes.flow import DECADES
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import SPIKE
from gradientflow.limits import Limit, told
from gradientflow.ops import STEPS
from gradientflow.records import Finding, Op, Place

DEAD_UNITS = Limit("dead_units", 0.9, "chosen: of a layer's units, that give zero for the whole batch")
LIVED = Limit("dead_units_first", 0.5, "chosen: of the units, at the first step; half of them at the most")
KNOCKED_OUT = Limit("dead_units", 0.8, "chosen: of the units, in the end; most of those that lived")
SAMPLES = Limit(
    "samples_that_show_dead_units", 8, "chosen: in fewer a unit that lives gives zero by chance (2⁻⁸ for a ReLU)"
)
RECENT = Limit("steps_before", 10, "chosen: a batch without any gradient among as many that give one is no end of it")
LARGE = Limit("relative_update", 0.3, "chosen: of the weights, in one of the first steps, beside units that died since")
REPLACED = Limit("relative_update", 0.5, "chosen: of the weights, in a step before the gradient ended altogether")


def dead(case: Case) -> list[Finding]:
    """Find where the gradient ends: at the first probes (it never lived), or later (it died in training)."""
    graphs = case.finite
    if not graphs:
        return []
    first, last = graphs[0], graphs[-1]
    ended = end(last)
    if ended is None:
        return _knocked_out(case, graphs)
    born_dead = end(first) is not None
    op, why = ended
    if op.index in last.head and _spared(case, last):
        return []
    weights = [w for i in last.layers for w in last.weights_of(last.probe.ops[i])]
    nought = next((w for w in weights if w in last.states and last.states[w].norm == 0.0), None)
    if nought is not None:
        place = places.of_init(last.params[nought], op)
        return [
            Finding(
                "dead", "symmetric-init", 0.92, place,
                f"The weights {last.params[nought].name} are all zero, at the start and still at step {last.probe.step}: no "
                f"gradient passes them, and what is before them stays at zero too.",
                {"step": last.probe.step, "weight_norm": 0.0, "threshold_weight_norm": 0.0},
                remedies("break-symmetry", "rescale-init", at=place),
            )
        ]  # fmt: skip
    place = places.of_op(op, case.meta)
    evidence = {
        "step": last.probe.step, "dead_at_first_probe": born_dead, "dead_units": rounded(op.value.dead),
        "zero_outputs": rounded(op.value.zeros), "saturated": rounded(op.value.saturated),
    } | told(DEAD_UNITS, gates=(SPIKE, RECENT))  # fmt: skip
    if op.span == 1 or op.kind == "derivative" or flat(op):
        return []  # told by `terms`, with why
    if (taken := _taken_by_a_hook(case, last, op, evidence)) is not None:
        return [taken]
    when = "from the first step" if born_dead else f"since about step {_since(graphs)}"
    confidence = 0.9
    if not born_dead:
        thrown = _thrown(case, _since(graphs))
        if thrown is not None:
            return [thrown]
        if case.main.spike > SPIKE:
            confidence = 0.55  # the blow-up before it is the cause; the step rule says so
    head = op.index in last.head or (last.last_layer is not None and op.index > last.last_layer)
    cause = "output-activation" if head else ("dead-units" if op.value.saturated is None else "saturating-activation")
    if born_dead and cause != "output-activation" and _fed(last, op):
        thrown = _overfed(case, op, why, confidence, evidence)
        if thrown is not None:
            return [thrown]
    summary = (
        f"The gradient ends at {op.name} at {place.file}:{place.line} {when}: {why}, so nothing before it can learn."
    )
    kinds = ("fix-output",) if cause == "output-activation" else ("rescale-init", "swap-activation", "lower-step")
    return [Finding("dead", cause, confidence, place, summary, evidence, remedies(*kinds, at=place))]


def _taken_by_a_hook(case: Case, graph: Graph, op: Op, evidence: dict[str, Any]) -> Finding | None:
    """The gradient ends where the script has put a hook on what an operation is given."""
    given = {o.op for o in op.operands if o.op is not None}
    hook = next((h for h in graph.probe.hooks if h.op in given and h.file is not None), None)
    if hook is None or (op.value.saturated or 0.0) >= DEAD_UNITS or (op.value.dead or 0.0) >= DEAD_UNITS:
        return None
    place = Place(hook.file, hook.line, None, hook.name)
    return Finding(
        "dead", "gradient-altered", 0.85, place,
        f"The gradient ends between {op.name} at {op.file}:{op.line} and what is before it, where the script has put a hook "
        f"({hook.file}:{hook.line}): what arrives is exactly zero, and nothing before it can learn.",
        evidence, remedies("keep-gradient", at=place),
    )  # fmt: skip


def _spared(case: Case, last: Graph) -> bool:
    """Whether the whole network got no gradient from this one batch only: a reward of zero, a margin that every sample keeps."""
    before = [s.grad for s in case.main.steps if s.step < last.probe.step and s.grad is not None][-int(RECENT) :]
    return last.probe.loss == 0.0 or any(g > 0 for g in before)


def _overfed(case: Case, op: Op, why: str, confidence: float, evidence: dict[str, Any]) -> Finding | None:
    """The data that enters the layer before the end is far larger than what that layer is made for."""
    entering = case.inputs(case.finite[0])
    if not entering or entering[0][2].rms < LARGE_INPUT:
        return None
    layer, operand, value = entering[0]
    place, data = places.of_op(op, case.meta), places.of_data(layer, operand, case.meta)
    return Finding(
        "dead", "unscaled-input", confidence, data,
        f"The gradient ends at {op.name} at {place.file}:{place.line} from the first step: {why}. The data (from "
        f"{data.file}:{data.line}) enters the layer before it with a typical size of {value.rms:.3g}, far outside the range "
        f"in which {op.name} has a slope.",
        evidence | {"input_rms": rounded(value.rms)} | told(LARGE_INPUT), remedies("scale-input", "add-norm", at=data),
    )  # fmt: skip


def _fed(graph: Graph, op: Op) -> bool:
    """Whether the first layer feeds an operation directly."""
    return bool(graph.layers) and any(o.op == graph.layers[0] for o in op.operands)


def _knocked_out(case: Case, graphs: list[Graph]) -> list[Finding]:
    """Most units of a layer lived at the first step and give zero for whole batches since a step that was too large."""
    first, last = graphs[0], graphs[-1]
    trend = case.main
    lived = {(op.line, op.module, n): op.value.dead for n, op in enumerate(_mortal(first))}
    fallen = [
        (op, before) for n, op in enumerate(_mortal(last))
        if (before := lived.get((op.line, op.module, n))) is not None and before < LIVED and (op.value.dead or 0.0) > KNOCKED_OUT
    ]  # fmt: skip
    batch = first.probe.batch
    if not fallen or trend.optimizer is None or (batch is not None and batch < SAMPLES):
        return []
    op, before = max(fallen, key=lambda pair: pair[0].value.dead or 0.0)
    moves = [(s.update / s.weight, s) for s in trend.steps[:50] if s.update and s.weight and math.isfinite(s.update)]
    size, step = max(moves, key=lambda pair: pair[0], default=(0.0, None))
    if step is None or size < LARGE:
        return []
    place = places.of_option(trend.optimizer, case.meta, "lr")
    return [
        Finding(
            "dead", "step-too-large", 0.8, place,
            f"Step {step.step} changes the weights by {size:.0%} of their own size, and {op.value.dead:.0%} of the units of "
            f"{op.name} at {op.file}:{op.line} give zero for whole batches at step {last.probe.step} ({before:.0%} at the start).",
            {"step": last.probe.step, "dead_units": rounded(op.value.dead), "dead_units_first": rounded(before),
             "relative_update": rounded(size), "learning_rate": step.lr} | told(KNOCKED_OUT, LIVED, LARGE, gates=(SAMPLES,)),
            remedies("lower-step", "warmup", "clip-gradient", at=place),
        )
    ]  # fmt: skip


def _mortal(graph: Graph) -> list[Op]:
    return [op for i in graph.reached if (op := graph.probe.ops[i]).value.dead is not None and op.kind == "activation"]


def _thrown(case: Case, since: int) -> Finding | None:
    """The units died right after a step that replaced the weights: the step is the cause."""
    trend = case.main
    moves = [(s.update / s.weight, s) for s in trend.steps if s.step < since and s.update and s.weight]
    if not moves or trend.optimizer is None:
        return None
    size, step = max(moves, key=lambda pair: pair[0])
    if not size > REPLACED:
        return None
    place = places.of_option(trend.optimizer, case.meta, "lr")
    return Finding(
        "dead", "step-too-large", 0.85, place,
        f"Step {step.step} changes the weights by {size:.0%} of their own size with learning rate {step.lr:g}, and since "
        f"step {since} no gradient comes through: the update threw the units to where they give zero for all data.",
        {"step": since, "relative_update": rounded(size), "learning_rate": step.lr} | told(REPLACED),
        remedies("lower-step", "warmup", "clip-gradient", at=place),
    )  # fmt: skip


def _since(graphs: list[Graph]) -> int:
    return next((g.probe.step for g in graphs if end(g) is not None), graphs[-1].probe.step)


def flat(op: Op) -> bool:
    """Whether an operation has no slope by its nature, or by what the script wrote as its backward."""
    return op.name in STEPS or op.custom is not None


def _learns(graph: Graph, op: Op) -> bool:
    """Whether the weights of a layer get a gradient all the same, past its output: of a derivative that the loss holds, say."""
    states = [graph.states[w] for w in graph.weights_of(op) if w in graph.states]
    return any(s.grad is not None and s.grad.norm > 0 for s in states)


def end(graph: Graph) -> tuple[Op, str] | None:
    """Return the operation at which the gradient ends on the way to the first layer, and why; None if it gets through."""
    ops = graph.probe.ops
    if not graph.layers or not graph.path:
        return None
    first = ops[graph.layers[0]].grad
    if first is None or first.norm > 0 or _learns(graph, ops[graph.layers[0]]):
        return None
    if graph.underflow is not None and (graph.body_decades or 0.0) < -DECADES:
        return None  # lost on the way, bit by bit, and rounded to zero in the end: depth
    for index, following in zip(graph.path, graph.path[1:], strict=False):
        op, target = ops[index], ops[following]
        if op.grad is not None and op.grad.norm > 0 and target.grad is not None and target.grad.norm == 0:
            if (
                op.kind in ("reduce", "pool", "shape", "linear", "conv")
                and target.value.dead is not None
                and target.value.dead >= DEAD_UNITS
            ):
                op = target
            if op.value.dead is not None:
                return op, f"{op.value.dead:.0%} of its units give zero for the whole batch"
            return op, f"a gradient of norm {op.grad.norm if op.grad else 0:.3g} comes in and exactly zero goes out"
    return None
