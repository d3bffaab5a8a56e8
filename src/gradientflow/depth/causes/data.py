"""What goes in and what is asked: inputs and targets out of scale, a bad batch, a penalty that wins, an output that cannot answer."""

from __future__ import annotations

import itertools
import math
from statistics import median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import Trend
from gradientflow.records import Finding, Op, Operand, ValueStat

# Output ranges of bounded activations.
RANGES = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softsign": (-1.0, 1.0),
}
SATURATED = 0.8  # share of outputs at the end of their range
CUT = 0.15  # share of output units that a ReLU holds at zero for the whole batch
SHRUNK = 0.4  # weights left at the end
PULL = 0.3  # of the penalty, relative to the data
LARGE_INPUT = 20.0  # rms of what enters the first layer


def unscaled(case: Case) -> list[Finding]:
    """Inputs far from unit size, where the loss jumps, diverges or stands still."""
    graphs = case.finite
    trend = case.main
    if not graphs or trend.optimizer is None:
        return []
    troubled = trend.first_bad is not None or trend.spike > 2.0 or trend.stuck
    entering = case.inputs(graphs[0])
    if not troubled or not entering:
        return []
    op, operand, value = entering[0]
    rms, top = value.rms, value.absmax
    if rms < LARGE_INPUT:
        return []
    place = places.of_data(op, operand, case.meta)
    symptom = "diverging" if trend.first_bad is not None or trend.spike > 2.0 else "crawling"
    return [
        Finding(
            symptom, "unscaled-input", 0.72 if symptom == "diverging" else 0.6, place,
            f"The data (from {place.file}:{place.line}) enters {op.module or op.name} with a typical size of {rms:.3g} (up to {top:.3g}); the "
            f"gradient of the first layer and the curvature grow with its square, so no learning rate suits all layers.",
            {"input_rms": rounded(rms), "input_max": rounded(top), "threshold_input_rms": LARGE_INPUT, "rise_over_start": rounded(trend.spike)},
            remedies("scale-input", "lower-step", at=place),
        )
    ]  # fmt: skip


def bad_batch(case: Case) -> list[Finding]:
    """Single steps whose loss and gradient are far out of line while the weights had not moved unusually before."""
    trend = case.main
    steps = [s for s in trend.steps if s.loss is not None and s.grad is not None]
    hits = []
    for i in range(5, len(steps)):
        step, before = steps[i], steps[max(0, i - 20) : i]
        losses = [s.loss for s in before if s.loss is not None and math.isfinite(s.loss)]
        grads = [s.grad for s in before if s.grad is not None and math.isfinite(s.grad)]
        moves = [s.update for s in before if s.update is not None]
        if len(losses) < 5 or len(grads) < 5 or step.loss is None or step.grad is None or not math.isfinite(step.grad):
            continue
        loss, grad = median(losses), median(grads)
        losses_so_far = [s.loss for s in steps[:i] if s.loss is not None and math.isfinite(s.loss)]
        grads_so_far = [s.grad for s in steps[:i] if s.grad is not None and math.isfinite(s.grad)]
        calm = max(grads) < 10 * grad and (not moves or moves[-1] < 10 * median(moves))
        beyond = step.loss > max(losses_so_far) and step.grad > 3.0 * max(
            grads_so_far
        )  # not only beside a converged run
        if calm and beyond and grad > 0 and step.grad > 100 * grad and step.loss - loss > 20 * max(abs(loss), 1e-300):
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
            {"steps": [h[0] for h in hits[:8]], "times_usual_gradient": rounded(times), "threshold_times_usual_gradient": 100},
            remedies("drop-bad-batch", "clip-gradient", "scale-input", at=place),
        )
    ]  # fmt: skip


def over_regularised(case: Case) -> list[Finding]:
    """The weights shrink under a penalty that pulls about as hard as the data."""
    trend = case.main
    weights = [s.weight for s in trend.steps if s.weight is not None and math.isfinite(s.weight)]
    if len(weights) < 20 or trend.optimizer is None or not case.finite:
        return []
    shrunk = weights[-1] / weights[0] if weights[0] > 0 else 1.0
    graph = case.finite[0]  # early: where a run has converged, any penalty balances the data
    penalties, pull = _penalty(graph)
    decay = float(trend.optimizer.options.get("weight_decay") or 0.0)
    if decay > 0 and not penalties:
        pull = _decay(trend, decay)
    if shrunk > SHRUNK or pull < PULL:
        return []
    place = places.of_op(penalties[0], case.meta) if penalties else places.of_optimizer(trend.optimizer, case.meta)
    name = "an explicit penalty" if penalties else f"weight decay {decay:g}"
    return [
        Finding(
            "crawling", "over-regularised", 0.85, place,
            f"The weights shrink to {shrunk:.1%} of their first size under {name}, which pulls at them {pull:.2g} times as hard "
            f"as the data at step {graph.probe.step}: the penalty decides, not the data.",
            {"weights_left": rounded(shrunk), "threshold_weights_left": SHRUNK, "penalty_over_data": rounded(pull),
             "threshold_penalty_over_data": PULL, "weight_decay": decay, "penalty_operations": len(penalties)},
            remedies("lower-regularisation", at=place),
        )
    ]  # fmt: skip


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


def output_activation(case: Case) -> list[Finding]:
    """The loss side passes almost nothing: an activation on the output that is saturated, or cuts scores off."""
    graphs = case.finite
    if not graphs or not case.main.measured or case.main.progress > 0.6:
        return []
    graph = graphs[-1]
    twice = _softmax_twice(graph)
    if twice is not None:
        place = places.of_op(twice, case.meta)
        floor = math.log(1 + (twice.value.shape[-1] - 1) / math.e)
        return [
            Finding(
                "crawling", "output-activation", 0.85, place,
                f"softmax at {place.file}:{place.line} goes into a loss that applies softmax again: over {twice.value.shape[-1]} "
                f"classes that loss cannot fall below {floor:.3g}, and its gradient is a fraction of what it should be.",
                {"classes": twice.value.shape[-1], "loss_floor": rounded(floor), "loss_end": rounded(case.main.end)},
                remedies("fix-output", at=place),
            )
        ]  # fmt: skip
    if case.main.progress > 0.3:
        return []
    target = _target(graph)
    for index in graph.head:
        op = graph.probe.ops[index]
        evidence: dict[str, float | int | None] = {"step": graph.probe.step, "progress": rounded(case.main.progress)}
        if op.name in RANGES and target is not None and _out_of_reach(op.name, target[2].mean):
            low, high = RANGES[op.name]
            text = f"The targets lie around {target[2].mean:.3g}, but {{}} can only answer between {low:g} and {high:g}"
            evidence |= {"target_mean": rounded(target[2].mean), "range_low": low, "range_high": high}
        elif op.name in RANGES and (op.value.saturated or 0.0) > SATURATED:
            text = f"{op.value.saturated:.0%} of the network's outputs are at the end of the range of {{}}, where no gradient passes"
            evidence |= {"saturated": rounded(op.value.saturated), "threshold_saturated": SATURATED}
        elif op.name == "relu" and CUT < (op.value.dead or 0.0) < 1.0:
            text = f"{op.value.dead:.0%} of the network's outputs are cut off to zero for the whole batch by {{}}, where no gradient passes"
            evidence |= {"cut_off": rounded(op.value.dead), "threshold_cut_off": CUT}
        else:
            continue
        place = places.of_op(op, case.meta)
        return [
            Finding(
                "crawling", "output-activation", 0.75, place,
                f"{text.format(f'{op.name} at {place.file}:{place.line}')}: the output layer cannot give what the loss asks for.",
                evidence, remedies("fix-output", "scale-target", at=place),
            )
        ]  # fmt: skip
    return []


def _softmax_twice(graph: Graph) -> Op | None:
    """Return a softmax on the output whose result goes straight into a loss, or a log, that applies softmax itself."""
    for index in graph.head:
        op = graph.probe.ops[index]
        if op.name in ("cross_entropy", "log_softmax"):
            made = [graph.probe.ops[o.op] for o in op.operands if o.op is not None]
            if made and made[0].name == "softmax" and made[0].value.shape[-1] > 1:
                return made[0]
    return None


def _out_of_reach(name: str, mean: float) -> bool:
    """Whether most targets lie more than a whole range away from what an activation can put out."""
    low, high = RANGES[name]
    return not low - (high - low) <= mean <= high + (high - low)


def unscaled_target(case: Case) -> list[Finding]:
    """Targets far larger than anything the network puts out, and a loss that does not move."""
    if not case.finite or not case.stuck:
        return []
    graph = case.finite[0]
    found = _target(graph)
    if found is None or any(graph.probe.ops[i].name in RANGES for i in graph.head):
        return []  # an output of limited range cannot grow: that is told as such
    op, target, wanted, answer = found
    ratio = wanted.rms / max(answer.rms, 1e-12)
    if ratio < 30 or answer.absmax == 0.0:  # (an output of exactly zero has another reason)
        return []
    place = places.of_data(op, target, case.meta)
    return [
        Finding(
            "crawling", "unscaled-target", 0.8, place,
            f"The targets (from {place.file}:{place.line}) have a typical size of {wanted.rms:.3g}, the network answers "
            f"with {answer.rms:.3g}: the output layer must grow {ratio:.3g} times by small steps before anything is learnt.",
            {"target_rms": rounded(wanted.rms), "output_rms": rounded(answer.rms), "target_over_output": rounded(ratio),
             "threshold_target_over_output": 30},
            remedies("scale-target", "raise-step", at=place),
        )
    ]  # fmt: skip


def _target(graph: Graph) -> tuple[Op, Operand, ValueStat, ValueStat] | None:
    """Return (operation, target, its value, the network's answer) where a loss compares an answer with data."""
    for index in graph.head:
        op = graph.probe.ops[index]
        if op.name not in ("sub", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            continue
        answer = next((graph.probe.ops[o.op].value for o in op.operands if o.op is not None), None)
        for operand in op.operands:
            if operand.op is None and operand.param is None and operand.value and operand.value.numel > 1 and answer:
                return op, operand, operand.value, answer
    return None


def attention(case: Case) -> list[Finding]:
    """A softmax inside the network that is one-hot from the start: queries and keys get no gradient."""
    graphs = case.finite
    if not graphs:
        return []
    graph = graphs[0]
    limit = 0.7 if not case.main.measured or case.main.progress < 0.4 else 0.9  # a run that learns must show more
    inner = [
        op for i in graph.reached
        if (op := graph.probe.ops[i]).name == "softmax" and graph.last_layer is not None and i < graph.last_layer
        and op.value.shape and op.value.shape[-1] > 1
    ]  # fmt: skip
    for op in inner:
        if op.value.saturated is not None and op.value.saturated > limit:
            place = places.of_op(op, case.meta)
            return [
                Finding(
                    "vanishing", "attention-saturation", 0.9 if limit < 0.9 else 0.7, place,
                    f"{op.value.saturated:.0%} of the rows of softmax at {place.file}:{place.line} are one-hot at step "
                    f"{graph.probe.step}: what goes into it gets almost no gradient. Its scores are too large.",
                    {"step": graph.probe.step, "one_hot_rows": rounded(op.value.saturated), "threshold_one_hot_rows": limit},
                    remedies("rescale-init", "add-norm", "scale-input", at=place),
                )
            ]  # fmt: skip
    return []


def noisy(case: Case) -> list[Finding]:
    """Tiny batches whose loss jumps about a level that no longer falls."""
    trend = case.main
    batches = [g.probe.batch for g in case.finite if g.probe.batch is not None]
    if not batches or median(batches) > 2 or len(trend.losses) < 100 or trend.progress > 0.3:
        return []
    half = trend.losses[len(trend.losses) // 2 :]
    level = median(abs(x) for x in half)
    swing = median(abs(b - a) for a, b in itertools.pairwise(half))
    if level <= 0 or swing < 0.7 * level:
        return []
    place = places.of_optimizer(trend.optimizer, case.meta)
    return [
        Finding(
            "noisy", "small-batch-noise", 0.75, place,
            f"Each step sees {int(median(batches))} sample(s), and the loss jumps by its own size from step to step "
            f"({swing:.3g} around {level:.3g}) without falling any more: noise drowns the gradient.",
            {"batch": int(median(batches)), "swing_over_level": rounded(swing / level), "threshold_swing_over_level": 0.7, "progress": rounded(trend.progress)},
            remedies("larger-batch", "lower-step", at=place),
        )
    ]  # fmt: skip
