"""Vanishing and exploding over depth: how many decades the body of the network takes, which kind of operation takes
them, and whether that is the initialisation, the activation, the normalisation, or depth itself.

Theory used: a linear layer with weights W sends ‖Wᵀδ‖ ≈ ‖W‖_F/√n_out · ‖δ‖ back; a ReLU halves ‖δ‖² (He et al. 2015,
eq. 14), so √2 keeps the gradient; a sigmoid passes at most 1/4 (Schoenholz et al. 2017); batch norm with ReLU makes
‖δ‖ grow by √(π/(π−1)) ≈ 1.21 a layer (Yang et al. 2019).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from gradientflow.depth.causes import places, theory
from gradientflow.depth.causes.case import IGNORANT, Case, rounded
from gradientflow.depth.causes.graph import CALLS, CHAINED, NEARLY, Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import STUCK
from gradientflow.limits import Limit, told
from gradientflow.ops import HALVING, HALVING_GAIN, SATURATING
from gradientflow.records import Finding, Op, Place

DECADES = Limit("decades", 2.0, "chosen: a hundredfold between the first and the last layer, either way")
DEEP = Limit(
    "layers", 15, "chosen: from here on chance products over depth (Pennington et al. 2017) are a reason of their own"
)
EARLY = Limit("step_of_a_first_probe", 3, "chosen: the first steps show how the weights were made")
MOVED = Limit("moved", 0.3, "chosen: of the weights' size, all updates before a probe together")
ONE_PLACE = Limit("share_of_one_operation", 0.75, "chosen: of the decades; depth spreads them over the layers")
LOOPED = Limit("share_of_a_recurrence", 0.125, "chosen: of the body; more of it is judged over time")
RIVAL = Limit("share_of_a_rival", 0.25, "chosen: of the decades; less (half a decade at least) is no reason of its own")
FORETOLD = Limit("miss_of_theory", 0.25, "chosen: of the decades, between what theory predicts and what was measured")
BY_INIT = Limit("share_of_init", 0.5, "chosen: of the decades; the larger part")
NORMED = Limit("batch_norms", 4, "chosen: the fewest that make a deep stack (Yang et al. 2019 judge depth)")
FORWARD = Limit("forward_decades", 1.5, "chosen: values that grow thirtyfold from the first layer to the last")
INIT = Limit("decades_by_init", 1.5, "chosen: as the values, so that the weights explain them")
OVER_CHANCE = Limit("loss_over_chance", 10, "chosen: ten times ln K, the loss of knowing nothing")
LEARNT = Limit("progress_of_learning_most", 0.8, "chosen: a ninth of the loss it began with is left")
# Passed on the way to every finding of depth, or weighed in its confidence.
_GATES = (
    EARLY, MOVED, ONE_PLACE, LOOPED, CALLS, CHAINED, NEARLY, DEEP, RIVAL, IGNORANT, STUCK, LEARNT,
)  # fmt: skip


@dataclass
class Account:
    """Decades of the body by reason (negative: taken)."""

    activations: float = 0.0  # saturating activations
    init: float = 0.0  # linear layers against the gain that would keep the gradient's size
    norm: float = 0.0
    branch: float = 0.0
    rest: float = 0.0
    layers: list[Op] = field(default_factory=list)
    activation_ops: list[tuple[float, Op]] = field(default_factory=list)
    norm_ops: list[Op] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)  # of linear layers, from their weights
    critical: float = 1.0
    predicted: float = 0.0  # what theory gives for the whole, from the weights and the activations' inputs


def account(graph: Graph) -> Account:
    """Split the body's decades by reason."""
    found = Account()
    ops = graph.probe.ops
    body = graph.body
    names = [ops[i].name for i in body]
    halving, saturating = sum(n in HALVING for n in names), sum(n in SATURATING for n in names)
    found.critical = HALVING_GAIN if halving > saturating else 1.0
    layers = set(graph.layers)
    for index, following in itertools.pairwise(body):
        op = ops[index]
        gain = graph.gain(index, following)
        if gain is None or gain <= 0:
            continue
        decades = math.log10(gain)
        theirs = _predicted(graph, op) if op.kind == "activation" else None
        found.predicted += math.log10(theirs) if theirs else (0.0 if index in layers else decades)
        if index in layers and op.kind in ("linear", "conv"):
            found.layers.append(op)
            expected = _weight_gain(graph, op)
            if expected is None:
                expected = gain
            found.gains.append(expected)
            found.init += math.log10(expected / found.critical)
            found.predicted += math.log10(expected)
            found.rest += decades - math.log10(expected)
        elif index in layers:
            found.predicted += decades
            found.rest += decades
        elif op.name in SATURATING:
            found.activations += decades
            found.activation_ops.append((decades, op))
        elif op.name in HALVING:
            found.rest += decades + math.log10(found.critical)  # √2 in the weights makes up for the half it passes
        elif op.kind == "norm":
            found.norm += decades
            found.norm_ops.append(op)
        else:
            found.rest += decades
        arrived = ops[following].grad
        share = graph.share(index, following)
        if arrived is not None and share and arrived.norm > 0:
            found.branch += math.log10(arrived.norm / share)
            found.predicted += math.log10(arrived.norm / share)
    # a halving activation belongs to the layer below it: layers without one need no √2
    surplus = len(found.layers) - halving
    if found.critical > 1.0 and surplus > 0:
        found.init += surplus * math.log10(found.critical)
    return found


def _predicted(graph: Graph, op: Op) -> float | None:
    """Return the gain that theory gives an activation for the mean and spread of what goes into it."""
    before = next((graph.probe.ops[o.op].value for o in op.operands if o.op is not None), None)
    if before is None:
        return None
    return theory.slope(op.name, before.mean, before.std, op.scalars[0] if op.scalars else None)


def _weight_gain(graph: Graph, op: Op) -> float | None:
    weights = graph.weights_of(op)
    if len(weights) != 1 or weights[0] not in graph.states:
        return None
    state, shape = graph.states[weights[0]], graph.params[weights[0]].shape
    outputs = op.value.shape[1] if op.kind == "conv" and len(op.value.shape) > 1 else op.value.shape[-1]
    if not shape or not outputs or state.norm <= 0:
        return None
    return state.norm / math.sqrt(outputs)


def depth(case: Case) -> list[Finding]:
    """Judge the decades between the last and the first layer, at the first probes."""
    early = [
        g for g in case.finite if g.probe.step <= EARLY and g.body_decades is not None and not _moved(case, g)
    ] or [g for g in case.finite if g.body_decades is not None][:1]
    findings: list[Finding] = []
    for graph in early:
        decades = graph.body_decades
        if decades is None or not math.isfinite(decades):
            continue
        decades -= _from_zero(case, graph)
        if abs(decades) < DECADES:
            findings += _signal(case, graph)
            continue
        if _in_one_place(graph, decades):
            continue
        if any(len(set(calls) & set(graph.body)) > LOOPED * len(graph.body) for calls in graph.recurrences()):
            continue  # a recurrence: judged over time
        findings += _vanishing(case, graph, decades) if decades < 0 else _exploding(case, graph, decades)
        if findings:
            break
    return findings


def _moved(case: Case, graph: Graph) -> bool:
    """Whether steps before a probe have made the weights anew: then it does not show how they were initialised."""
    moves = [s.update / s.weight for s in case.run.steps if s.step < graph.probe.step and s.update and s.weight]
    return graph.probe.step > 1 and not math.fsum(moves) < MOVED


def _from_zero(case: Case, graph: Graph) -> float:
    """Return the decades of layers whose weights began at exactly zero (an adapter, an output layer): by design, and not for long."""
    begun = case.graphs[0]
    zero = {w for w, state in begun.states.items() if state.norm == 0.0 and begun.probe.step <= EARLY}
    gains = [
        graph.gain(index, following)
        for index, following in itertools.pairwise(graph.body)
        if not zero.isdisjoint(graph.weights_of(graph.probe.ops[index]))
    ]
    return math.fsum(math.log10(g) for g in gains if g)


def _in_one_place(graph: Graph, decades: float) -> bool:
    """Whether one operation takes (or adds) nearly all of it: a layer that starts at zero, say, and not depth."""
    steps = []
    for index, following in itertools.pairwise(graph.body):
        before, after = graph.probe.ops[index].grad, graph.probe.ops[following].grad
        if before is not None and after is not None and before.norm > 0 and after.norm > 0:
            steps.append(math.log10(after.norm / before.norm))
    return bool(steps) and max(steps, key=lambda s: s / decades) / decades > ONE_PLACE


def _vanishing(case: Case, graph: Graph, decades: float) -> list[Finding]:
    a = account(graph)
    layers = len(a.layers) + 1
    parts = {"saturating-activation": a.activations, "init-too-small": a.init, "depth-without-skip": a.rest + a.branch}
    if layers < DEEP:
        del parts["depth-without-skip"]  # a few layers that happen to take much: not one of the reasons told here
    if not a.activation_ops:
        del parts["saturating-activation"]
    order = sorted(parts, key=lambda k: parts[k])
    tell = {"saturating-activation": _saturating, "init-too-small": _too_small, "depth-without-skip": _plain_depth}
    found = [tell[order[0]](case, graph, decades, a)]
    if layers < DEEP and a.rest + a.branch < min(parts.values()):
        return []
    for cause in order[1:]:
        if parts[cause] < -RIVAL * abs(decades):
            rival = tell[cause](case, graph, decades, a)
            rival.confidence = round(min(found[0].confidence - 0.05, 0.5 + 0.4 * parts[cause] / decades), 2)
            rival.reason = (
                f"it takes {-parts[cause]:.1f} of the {-decades:.1f} decades, {order[0]} takes {-parts[order[0]]:.1f}"
            )
            found.append(rival)
    if graph.underflow is not None:
        _rounded_away(graph, graph.underflow, found)
    return found


def _rounded_away(graph: Graph, last: int, found: list[Finding]) -> None:
    """Say that the decades are those down to where the gradient underflows, and how many layers lie behind."""
    op, behind = graph.probe.ops[last], sum(i < last for i in graph.layers)
    for finding in found:
        finding.summary += f" Behind these layers ({behind} of {len(graph.layers)} are left) it is too small for {op.value.dtype} and rounded to zero."
        finding.evidence |= {"layers_behind_underflow": behind}


def _saturating(case: Case, graph: Graph, decades: float, a: Account) -> Finding:
    layers = len(a.layers) + 1
    _, op = min(a.activation_ops, key=lambda pair: pair[0])
    place = places.of_op(op, case.meta)
    typical = 10 ** (a.activations / len(a.activation_ops))
    predicted = [p for _, o in a.activation_ops if (p := _predicted(graph, o))]
    expected = 10 ** (math.fsum(math.log10(p) for p in predicted) / len(predicted)) if predicted else None
    ceiling = " (its slope is at most 0.25)" if op.name == "sigmoid" else ""
    theirs = f"; theory gives ×{expected:.3g} for what goes into them" if expected is not None else ""
    summary = (
        f"The gradient loses {-decades:.1f} decades on the way from the last to the first of {layers} layers; "
        f"{len(a.activation_ops)} {op.name} operations take {-a.activations:.1f} of them, ×{typical:.3g} each{ceiling}{theirs}."
    )
    evidence = _evidence(graph, decades, a) | {
        "activation": op.name, "activation_gain": rounded(typical), "theory_activation_gain": rounded(expected),
        "saturated_share": rounded(op.value.saturated),
    }  # fmt: skip
    return Finding(
        "vanishing", "saturating-activation", _confidence(case, decades), place, summary, evidence,
        remedies("swap-activation", "add-skip", "add-norm", "rescale-init", at=place),
    )  # fmt: skip


def _too_small(case: Case, graph: Graph, decades: float, a: Account) -> Finding:
    layers = len(a.layers) + 1
    per_layer = 10 ** (decades / max(layers - 1, 1))
    place = init_place(case, graph, a) or places.of_op(graph.probe.ops[graph.body[-1]], case.meta)
    mean = median(a.gains) if a.gains else per_layer
    summary = (
        f"The gradient shrinks by ×{per_layer:.2g} per layer, {-decades:.1f} decades over {layers} layers; the weights "
        f"pass on ×{mean:.2g} where ×{a.critical:.2g} would keep its size: they start too small. From the weights and "
        f"activations as they are, theory predicts {_said(a.predicted)} decades"
        + (
            ", so it is the initialisation and not chance."
            if abs(a.predicted - decades) < FORETOLD * -decades and a.init < BY_INIT * decades
            else "."
        )
    )
    evidence = _evidence(graph, decades, a, FORETOLD, BY_INIT) | {
        "weight_gain": rounded(mean), "critical_gain": rounded(a.critical),
    }  # fmt: skip
    return Finding(
        "vanishing", "init-too-small", _confidence(case, decades), place, summary, evidence,
        remedies("rescale-init", "add-skip", "add-norm", at=place),
    )  # fmt: skip


def _plain_depth(case: Case, graph: Graph, decades: float, a: Account) -> Finding:
    layers = len(a.layers) + 1
    per_layer = 10 ** (decades / max(layers - 1, 1))
    op = a.layers[len(a.layers) // 2] if a.layers else graph.probe.ops[graph.body[-1]]
    place = places.of_op(op, case.meta)
    summary = (
        f"The gradient loses {-decades:.1f} decades over {layers} plain layers although each weight starts at the right "
        f"size (×{per_layer:.2g} per layer; theory, which averages over chance, gives {_said(a.predicted)} decades in all): so "
        f"deep and narrow a stack without a skip path loses it to chance products."
    )
    return Finding(
        "vanishing", "depth-without-skip", _confidence(case, decades) * 0.9, place, summary, _evidence(graph, decades, a),
        remedies("add-skip", "add-norm", at=place),
    )  # fmt: skip


def _exploding(case: Case, graph: Graph, decades: float) -> list[Finding]:
    a = account(graph)
    layers = len(a.layers) + 1
    per_layer = 10 ** (decades / max(layers - 1, 1))
    evidence = _evidence(graph, decades, a)
    confidence = _confidence(case, decades)
    batch_norms = [op for op in a.norm_ops if op.name in ("batch_norm", "instance_norm")]
    if len(batch_norms) >= max(NORMED, layers // 2):
        op = batch_norms[len(batch_norms) // 2]
        place = places.of_op(op, case.meta)
        summary = (
            f"The gradient grows by ×{per_layer:.2f} per layer, {decades:.1f} decades over {layers} layers with batch "
            f"normalisation and no skip path (theory for batch norm with ReLU: ×1.21)."
        )
        evidence |= {"batch_norms": len(batch_norms), "theory_gain": 1.211} | told(NORMED)
        return [
            Finding(
                "exploding", "batchnorm-depth", confidence, place, summary, evidence,
                remedies("add-skip", "remove-norm", at=place),
            )
        ]  # fmt: skip
    place = init_place(case, graph, a) or places.of_op(graph.probe.ops[graph.body[-1]], case.meta)
    mean = median(a.gains) if a.gains else per_layer
    summary = (
        f"The gradient grows by ×{per_layer:.2g} per layer, {decades:.1f} decades over {layers} layers; the weights pass on "
        f"×{mean:.3g} where ×{a.critical:.2g} would keep its size: they start too large (theory, from the weights and "
        f"activations as they are: {_said(a.predicted)} decades)."
    )
    evidence |= {"weight_gain": rounded(mean), "critical_gain": rounded(a.critical)}
    return [
        Finding(
            "exploding", "init-too-large", confidence, place, summary, evidence,
            remedies("rescale-init", "add-norm", "clip-gradient", at=place),
        )
    ]  # fmt: skip


def _signal(case: Case, graph: Graph) -> list[Finding]:
    """The values grow by decades from layer to layer because the weights start too large, and the loss starts absurdly high,
    although the gradient (averaged away in a pool, or cut by saturation) does not show it.
    """
    a = account(graph)
    first, last = graph.probe.ops[graph.body[-1]], graph.probe.ops[graph.body[0]]
    loss = graph.probe.ops[graph.probe.root].value.mean if graph.probe.root is not None else 0.0
    entropy = next(
        (graph.probe.ops[i] for i in graph.head if graph.probe.ops[i].name in ("cross_entropy", "log_softmax")), None
    )
    if entropy is None or len(a.layers) < 2 or first.value.rms <= 0 or last.value.rms <= 0:
        return []
    nothing = theory.chance(last.value.shape[-1])
    forward, init = math.log10(last.value.rms / first.value.rms), a.init
    if forward < FORWARD or init < INIT or loss < OVER_CHANCE * nothing:
        return []
    place = init_place(case, graph, a) or places.of_op(first, case.meta)
    mean = median(a.gains)
    learns = case.main.measured and case.main.end < nothing
    return [
        Finding(
            "exploding", "init-too-large", 0.55 if learns else 0.8, place,
            f"The values grow by {forward:.1f} decades from the first layer to the last, and the loss starts at {loss:.3g} where "
            f"knowing nothing costs {nothing:.2g}: the weights pass on ×{mean:.3g} where ×{a.critical:.2g} would keep the size.",
            {"step": graph.probe.step, "forward_decades": rounded(forward),
             "loss_over_chance": rounded(loss / nothing), "weight_gain": rounded(mean),
             "critical_gain": rounded(a.critical), "decades_by_init": rounded(init)}
            | told(FORWARD, OVER_CHANCE, INIT, gates=(EARLY, MOVED, DECADES)),
            remedies("rescale-init", "add-norm", at=place),
        )
    ]  # fmt: skip


def _said(decades: float) -> str:
    return f"{decades:+.1f}".replace("-", "−")


def _evidence(graph: Graph, decades: float, a: Account, *gates: Limit) -> dict[str, object]:
    return {
        "step": graph.probe.step,
        "decades": rounded(decades),
        "theory_decades": rounded(a.predicted),
        "gain_per_layer": rounded(10 ** (decades / max(len(a.layers), 1))),
        "theory_gain_per_layer": rounded(10 ** (a.predicted / max(len(a.layers), 1))),
        "layers": len(a.layers) + 1,
        "decades_by_activations": rounded(a.activations),
        "decades_by_init": rounded(a.init),
        "decades_by_norm": rounded(a.norm),
        "decades_by_other": rounded(a.rest + a.branch),
    } | told(DECADES, gates=(*_GATES, *gates))


def _confidence(case: Case, decades: float) -> float:
    """More decades and a loss that does not move make it surer; a loss that falls well makes it less so."""
    base = 0.75 + 0.05 * min(abs(decades) - DECADES, 3.0)
    last = case.finite[-1].body_decades
    if case.ignorant:  # (a loss that only the last bias brought down is no progress of the network)
        return round(min(base + 0.08, 0.99), 2)
    if decades < 0 and last is not None and abs(last) < DECADES / 2 and len(case.finite[0].layers) < DEEP:
        base -= 0.35  # the network trains itself out of it
    # A run that learns well is not held up by it; less is said by that where the first layers stay cut off to the end, as what
    # learns then is what lies near the output.
    still = decades < 0 and last is not None and last < -2 * DECADES
    if decades < 0 and case.main.measured:
        base -= (0.3 if still else 0.6) * max(0.0, case.main.progress - 0.5)
    if case.main.measured:
        base += 0.08 if case.stuck else ((-0.12 if still else -0.25) if case.main.progress > LEARNT else 0.0)
    return round(min(base, 0.99), 2)


def init_place(case: Case, graph: Graph, a: Account) -> Place | None:
    """Return the line that initialised most of the layers' weights."""
    lines: Counter[Place] = Counter()
    for op in a.layers:
        for weight in graph.weights_of(op)[:1]:
            place = places.of_init(graph.params[weight], op)
            lines[Place(place.file, place.line, None, place.op)] += 1
    return lines.most_common(1)[0][0] if lines else None
