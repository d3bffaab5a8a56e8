"""What goes in and what is asked: inputs and targets out of scale, a bad batch, a penalty that wins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate
from statistics import median

from gradientflow.depth.causes import losses, places
from gradientflow.depth.causes.case import IGNORANT, LARGE_INPUT, MASKING, Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.steps import edge
from gradientflow.depth.causes.trend import LEARNS, LEARNS_WELL, SPIKE, STUCK, Trend
from gradientflow.limits import Limit, told
from gradientflow.ops import RANGES
from gradientflow.records import Finding, Op

BEFORE = Limit("steps_before", 5, "chosen: the fewest that show what is usual")
CALM = Limit("calm", 10, "chosen: times the usual gradient, or update, in any of the steps before")
BEYOND = Limit("times_largest_gradient", 3.0, "chosen: so that it does not only stand beside a run that has converged")
USUAL = Limit("times_usual_gradient", 100, "chosen: a hundred times the median of the twenty steps before")
LOSS = Limit("times_usual_loss", 20, "chosen: over the median of the twenty steps before, in units of it")
REPLACED = Limit("relative_update_before", 0.3, "chosen: of the weights; a loss behind such a step is the step's doing")
STEPS = Limit("steps_of_shrinking", 20, "chosen: fewer do not show where the weights go")
SHRUNK = Limit("weights_left", 0.4, "chosen: of their first size, at the end")
ERASED = Limit("decay_per_step", 0.1, "chosen: a tenth of every weight, at each step; what is usual takes 1e-6 to 1e-3")
PULL = Limit("penalty_over_data", 0.3, "chosen: of the data's pull; where the two balance it is 1")
TARGET = Limit("target_over_output", 30, "chosen: a last layer made for unit size must grow as many times")


def unscaled(case: Case) -> list[Finding]:
    """Inputs far from unit size, where the loss jumps, diverges or stands still."""
    graphs = case.finite
    trend = case.main
    if not graphs or trend.optimizer is None:
        return []
    jumped = (
        trend.spike > SPIKE and trend.progress < LEARNS_WELL
    )  # (else: a spike that a run that learns well got over)
    troubled = trend.first_bad is not None or jumped or trend.stuck or case.ignorant
    entering = case.inputs(graphs[0])
    if not troubled or not entering:
        return []
    op, operand, value = entering[0]
    rms, top = value.rms, value.absmax
    if rms < LARGE_INPUT:
        return []
    place = places.of_data(op, operand, case.meta)
    risen = trend.first_bad is not None or (jumped and trend.ends_above)
    symptom = "diverging" if risen else "oscillating" if jumped else "crawling"
    over = edge(case, trend)[0] or 0.0
    alone = over > 1.0 >= over / rms**2  # at unit size the same step would be stable
    return [
        Finding(
            symptom, "unscaled-input", 0.85 if alone else 0.6 if symptom == "crawling" else 0.72, place,
            f"The data (from {place.file}:{place.line}) enters {op.module or op.name} with a typical size of {rms:.3g} (up to {top:.3g}); the "
            f"gradient of the first layer and the curvature grow with its square, so no learning rate suits all layers{_times(over, rms) if alone else ''}.",
            {"input_rms": rounded(rms), "input_max": rounded(top), "rise_over_start": rounded(trend.spike), "times_too_large": rounded(over) or None}
            | told(LARGE_INPUT, SPIKE, gates=(STUCK, IGNORANT, LEARNS_WELL, MASKING)),
            remedies("scale-input", "lower-step", at=place),
        )
    ]  # fmt: skip


def _times(over: float, rms: float) -> str:
    return f": it is {over:.2g} times what is stable, and would be {over / rms**2:.2g} times at unit size"


def bad_batch(case: Case) -> list[Finding]:
    """Single steps whose loss and gradient are far out of line while the weights had not moved unusually before."""
    trend = case.main
    steps = [s for s in trend.steps if s.loss is not None and s.grad is not None]
    hits = []
    highest = [_so_far(s.loss for s in steps), _so_far(s.grad for s in steps)]  # ahead of each step
    for i in range(int(BEFORE), len(steps)):
        step, before = steps[i], steps[max(0, i - 20) : i]
        losses = [s.loss for s in before if s.loss is not None and math.isfinite(s.loss)]
        grads = [s.grad for s in before if s.grad is not None and math.isfinite(s.grad)]
        moves = [s.update for s in before if s.update is not None]
        if (
            len(losses) < BEFORE
            or len(grads) < BEFORE
            or step.loss is None
            or step.grad is None
            or not math.isfinite(step.grad)
        ):
            continue
        loss, grad = median(losses), median(grads)
        calm = max(grads) < CALM * grad and (not moves or moves[-1] < CALM * median(moves))
        calm = calm and not (before[-1].weight and (before[-1].update or 0.0) > REPLACED * before[-1].weight)
        beyond = step.loss > highest[0][i] and step.grad > BEYOND * highest[1][i]  # not only beside a converged run
        rise = (step.loss - loss) / max(abs(loss), 1e-300)
        if calm and beyond and grad > 0 and step.grad > USUAL * grad and rise > LOSS:
            hits.append((step.step, step.grad / grad, step.loss))
    if not hits:
        return []
    entering = case.inputs(case.finite[0]) if case.finite else []
    place = places.of_data(entering[0][0], entering[0][1], case.meta) if entering else None
    first, times, loss = hits[0]
    return [
        Finding(
            "exploding", "bad-batch", 0.85, place,
            f"At step {first} one batch gives a gradient {times:.0f} times the usual and a loss of {loss:.3g}, out of nowhere: "
            f"the steps before it were ordinary, so it is the data of that batch.",
            {"steps": [h[0] for h in hits[:8]], "times_usual_gradient": rounded(times)}
            | told(USUAL, gates=(BEFORE, CALM, BEYOND, LOSS, REPLACED)),
            remedies("drop-bad-batch", "clip-gradient", "scale-input", at=place),
        )
    ]  # fmt: skip


def _so_far(values: Iterable[float | None]) -> list[float]:
    """The largest finite value ahead of each place."""
    finite = (v if v is not None and math.isfinite(v) else -math.inf for v in values)
    return list(accumulate(finite, max, initial=-math.inf))


def over_regularised(case: Case) -> list[Finding]:
    """The weights shrink under a penalty that pulls about as hard as the data."""
    trend = case.main
    weights = [s.weight for s in trend.steps if s.weight is not None and math.isfinite(s.weight)]
    if len(weights) < STEPS or trend.optimizer is None or not case.finite:
        return []
    shrunk = weights[-1] / weights[0] if weights[0] > 0 else 1.0
    graph = case.finite[0]  # early: where a run has converged, any penalty balances the data
    penalties, pull = _penalty(graph)
    decay = float(trend.optimizer.options.get("weight_decay") or 0.0)
    if decay > 0 and not penalties:
        pull = _decay(trend, decay)
    if not penalties and (taken := _per_step(trend, decay)) > ERASED and trend.progress < LEARNS:
        return [_erased(case, trend, decay, taken)]
    if not penalties and _bounded(case, trend, decay):
        return [_held_down(case, trend, decay, shrunk)]
    if shrunk > SHRUNK or pull < PULL:
        return []
    place = (
        places.of_op(penalties[0], case.meta)
        if penalties
        else places.of_option(trend.optimizer, case.meta, "weight_decay")
    )
    name = "an explicit penalty" if penalties else f"weight decay {decay:g}"
    return [
        Finding(
            "crawling", "over-regularised", 0.85, place,
            f"The weights shrink to {shrunk:.1%} of their first size under {name}, which pulls at them {pull:.2g} times as hard "
            f"as the data at step {graph.probe.step}: the penalty decides, not the data.",
            {"weights_left": rounded(shrunk), "penalty_over_data": rounded(pull),
             "weight_decay": decay, "penalty_operations": len(penalties)} | told(SHRUNK, PULL, gates=(STEPS,)),
            remedies("lower-regularisation", at=place),
        )
    ]  # fmt: skip


def _bounded(case: Case, trend: Trend, decay: float) -> bool:
    """Whether decoupled decay holds the weights below the size they began with, and nothing is learnt: a sign-like update of
    one learning rate per weight balances the decay at |w| = 1/decay.
    """
    size = _size(case, trend)
    return _decoupled(trend) and decay > 0 and size is not None and 1.0 / decay < size and trend.progress < LEARNS


def _per_step(trend: Trend, decay: float) -> float:
    """Return the share of every weight that decay takes in one step; 0 where an adaptive rule rescales it."""
    rates = [s.lr for s in trend.steps if s.lr is not None and math.isfinite(s.lr)]
    return decay * median(rates) if rates and (_decoupled(trend) or not trend.adaptive) else 0.0


def _erased(case: Case, trend: Trend, decay: float, taken: float) -> Finding:
    place = places.of_option(trend.optimizer, case.meta, "weight_decay")
    return Finding(
        "crawling", "over-regularised", 0.9, place,
        f"Weight decay {decay:g} takes {taken:.0%} of every weight at each step (decay × learning rate), whatever the data say, and the loss "
        f"stays at {trend.end:.4g}.",
        {"weight_decay": decay, "decay_per_step": rounded(taken), "progress": rounded(trend.progress)}
        | told(ERASED, gates=(STEPS, LEARNS)),
        remedies("lower-regularisation", at=place),
    )  # fmt: skip


def _size(case: Case, trend: Trend) -> float | None:
    """Return the root mean square of an optimizer's weights at its first step."""
    entries = sum(math.prod(case.meta.params[i].shape) for i in (trend.optimizer.params if trend.optimizer else []))
    first = next((s.weight for s in trend.steps if s.weight), None)
    return first / math.sqrt(entries) if first is not None and entries else None


def _decoupled(trend: Trend) -> bool:
    options = trend.optimizer.options if trend.optimizer is not None else {}
    return trend.adaptive and bool(
        options.get("decoupled_weight_decay") or (trend.optimizer and trend.optimizer.name == "AdamW")
    )


def _held_down(case: Case, trend: Trend, decay: float, shrunk: float) -> Finding:
    place, size = places.of_option(trend.optimizer, case.meta, "weight_decay"), _size(case, trend)
    return Finding(
        "crawling", "over-regularised", 0.8, place,
        f"Decoupled weight decay {decay:g} balances an adaptive update where a weight is {1 / decay:.3g}; the weights began at a "
        f"typical {size or 0.0:.3g}, and the loss stays at {trend.end:.4g}: the penalty decides, not the data.",
        {"weight_decay": decay, "weights_first": rounded(size), "threshold_weights_first": rounded(1 / decay), "weights_left": rounded(shrunk),
         "progress": rounded(trend.progress)} | told(gates=(STEPS, LEARNS)),
        remedies("lower-regularisation", at=place),
    )  # fmt: skip


def _penalty(graph: Graph) -> tuple[list[Op], float]:
    """Return the operations of an explicit penalty, and its pull on the weights over that of the data."""
    penalties: list[Op] = []
    mine: list[float] = []
    datas: list[float] = []
    direct = _consumed_by_layers(graph)
    for index in graph.reached:
        op = graph.probe.ops[index]
        for operand in op.operands:
            if operand.param not in graph.weights or operand.grad is None:
                continue
            if index in graph.weights_only and index not in direct:
                penalties.append(op)
                mine.append(operand.grad.norm)
            else:
                datas.append(operand.grad.norm)
    pull = math.hypot(*mine) / max(math.hypot(*datas), 1e-300) if mine and datas else 0.0
    return penalties, pull


def _consumed_by_layers(graph: Graph) -> set[int]:
    """Operations on weights alone whose result a layer uses (normalised or masked weights): no penalty."""
    found: set[int] = set()
    todo = [o.op for i in graph.reached if i not in graph.weights_only and graph.probe.ops[i].value.shape
            for o in graph.probe.ops[i].operands if o.op in graph.weights_only]  # fmt: skip
    while todo:
        index = todo.pop()
        if index is not None and index not in found:
            found.add(index)
            todo += [o.op for o in graph.probe.ops[index].operands if o.op is not None]
    return found


def _decay(trend: Trend, decay: float) -> float:
    """Return the pull of weight decay over that of the data, early in the run: both per step where it is decoupled."""
    early = [s for s in trend.steps if s.weight and s.grad and s.update and math.isfinite(s.grad)]
    early = early[: max(5, len(early) // 4)]
    if not early or trend.optimizer is None:
        return 0.0
    if trend.optimizer.options.get("decoupled_weight_decay") or trend.optimizer.name == "AdamW":
        return median((s.lr or 0.0) * decay * (s.weight or 0.0) / max(s.update or 0.0, 1e-300) for s in early)
    return median(decay * (s.weight or 0.0) / max(s.grad or 0.0, 1e-300) for s in early)


def unscaled_target(case: Case) -> list[Finding]:
    """Targets far larger than anything the network puts out, and a loss that does not move, or runs away at once."""
    diverges = case.main.first_bad is not None or (case.main.spike > SPIKE and not case.stuck)
    if not case.finite or not (case.stuck or diverges):
        return []
    graph = case.finite[0]
    found = losses.target(graph)
    if found is None or any(graph.probe.ops[i].name in RANGES for i in graph.head):
        return []  # an output of limited range cannot grow: that is told as such
    op, target, wanted, answer = found
    ratio = wanted.rms / max(answer.rms, 1e-12)
    if ratio < TARGET or answer.absmax == 0.0:  # (an output of exactly zero has another reason)
        return []
    place = places.of_data(op, target, case.meta)
    return [
        Finding(
            "diverging" if diverges else "crawling", "unscaled-target", 0.8, place,
            f"The targets (from {place.file}:{place.line}) have a typical size of {wanted.rms:.3g}, the network answers "
            f"with {answer.rms:.3g}: the output layer must grow {ratio:.3g} times before anything is learnt.",
            {"target_rms": rounded(wanted.rms), "output_rms": rounded(answer.rms), "target_over_output": rounded(ratio)}
            | told(TARGET, gates=(SPIKE, STUCK)),
            remedies("scale-target", "lower-step" if diverges else "raise-step", at=place),
        )
    ]  # fmt: skip
