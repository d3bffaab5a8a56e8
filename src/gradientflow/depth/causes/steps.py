"""The step: too large (the loss jumps, diverges or zigzags), too small (it crawls), or along the wrong direction.

Descent on a quadratic with sharpness λ is stable for η < 2/λ, with momentum β for η < 2(1+β)/λ (Cohen et al. 2021,
App. B). Networks hover near that edge without harm, so sharpness alone is no finding: the loss must show it too.
"""

from __future__ import annotations

import itertools
import math
from statistics import median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import Trend, smoothed
from gradientflow.records import Finding, Place

SPIKE = 2.0  # rise over the start, in units of the start
UPDATE = 0.2  # relative size of one update
HALF_REPLACED = (
    0.5  # an update that replaces half of the weights: with a loss that rises and never falls below its start
)
RISE = 0.3  # of the start
REGAINED = 4.0  # loss of the last stretch over the best, where it had fallen before
RELAPSED = 25.0  # the same, where it is so much that it need not turn at each step
SCHEDULED = 3.0  # learning rate over the one the run began with


def step_size(case: Case) -> list[Finding]:
    """Judge the step of every optimizer by what the loss did."""
    found = []
    several = len([t for t in case.trends if t.measured]) > 1
    for trend in case.trends:
        finding = (
            _too_large(case, trend, several) or (None if several else _late(case, trend)) or _too_small(case, trend)
        )
        if finding is not None:
            found.append(finding)
    return found


def _too_large(case: Case, trend: Trend, several: bool) -> Finding | None:
    if len(trend.losses) < 2:
        return None
    ratio, sharp_step, sharp = _edge(case, trend)
    update = max(
        (s.update / s.weight for s in trend.steps[:20] if s.update and s.weight and math.isfinite(s.update)),
        default=0.0,
    )
    tiny = [g.probe.batch for g in case.finite if g.probe.batch is not None][:1]
    noisy = bool(tiny) and tiny[0] <= 4  # a loss over a few samples jumps by itself: only what lasts counts
    series = smoothed(trend.losses, 25 if noisy else 1)
    start = trend.start if trend.measured and not noisy else series[0]
    scale = max(abs(start), trend.spread, 1e-300)
    floating = min(series) < 0 < max(series)
    if floating:  # a loss without a zero of its own (a policy gradient): held against its usual swing
        scale = max(scale, 4.0 * median(abs(b - a) for a, b in itertools.pairwise(series)))
    top = max(series)
    spike = (top - start) / scale
    ended = trend.first_bad is not None
    worse = trend.measured and trend.end - start > 1.0 * scale
    limit = SPIKE * (20.0 if several else 1.0)
    beyond = ratio is not None and ratio > 1.0
    relapsed = (
        trend.measured and trend.lost > 0.7 and trend.relapse - trend.best > 1.5 * max(abs(trend.best), trend.spread)
    )
    symptom = None
    if (
        (ended and spike > 10.0)
        or (worse and spike > limit)
        or spike > 100.0 * (10.0 if several else 1.0)
        or (spike > limit and trend.progress < 0.6 and (beyond or update > UPDATE))
        or (not several and not noisy and not floating and trend.stuck and relapsed)
        or (not several and not noisy and update > HALF_REPLACED and _thrown(trend))
    ):
        # single samples: a loss that has risen to a level and stays there rattles about, it does not run away
        level = max(series[: max(1, len(series) // 2)])
        settled = noisy and not ended and series[-1] < 1.5 * level
        symptom = "oscillating" if settled else "diverging"
    elif beyond and trend.stuck and trend.zigzag > 0.75 and len(trend.losses) >= 10:
        symptom = "oscillating"
    if symptom is None or (several and not worse and not ended):
        return None
    lr = next((s.lr for s in trend.steps if s.lr), None)
    place = _raised(case, trend) or places.of_optimizer(trend.optimizer, case.meta) or _loss_line(case)
    factor = trend.momentum_factor()
    evidence = {
        "learning_rate": lr, "loss_start": rounded(start), "loss_top": rounded(top), "loss_end": rounded(trend.end),
        "rise_over_start": rounded(spike), "threshold_rise_over_start": limit, "lost_again": rounded(trend.lost), "threshold_lost_again": 0.7, "largest_relative_update": rounded(update),
        "threshold_largest_relative_update": UPDATE, "zigzag": rounded(trend.zigzag),
    }  # fmt: skip
    hint = ""
    sharp_text = ""
    if ratio is not None and sharp is not None and lr:
        evidence |= {
            "sharpness": rounded(sharp), "stable_below": rounded(factor / sharp), "times_too_large": rounded(ratio),
            "measured_at_step": sharp_step,
        }  # fmt: skip
        if beyond:
            sharp_text = f" The sharpness of the batch loss at step {sharp_step} is {sharp:.4g}: steps above {factor / sharp:.3g} overshoot."
            hint = f", to {0.5 * factor / sharp:.2g} or less to begin with"
    elif trend.adaptive and lr:
        hint = f", to {lr / 30:.2g} to begin with"
    confidence = 0.6 + (0.2 if beyond else 0.0) + (0.1 if spike > 10 else 0.0) + (0.1 if update > UPDATE else 0.0)
    if symptom == "diverging":
        text = (
            f"The loss rises from {start:.4g} to {top:.4g} with learning rate {lr:.3g}"
            if lr
            else f"The loss rises from {start:.4g} to {top:.4g}"
        )
        text += (
            " and is not finite in the end."
            if ended
            else ("." if worse else f" and gets no further than {trend.end:.4g}.")
        )
    else:
        text = f"The loss goes up and down with learning rate {lr or 0.0:.3g} and makes no headway ({start:.4g} to {trend.end:.4g})."
    return Finding(
        symptom, "step-too-large", round(min(confidence, 0.97), 2), place, text + sharp_text, evidence,
        remedies("lower-step", "warmup", "clip-gradient", at=place, hint=hint),
    )  # fmt: skip


def _thrown(trend: Trend) -> bool:
    """Whether the loss rose over its very first value within the first steps and was not below it again at the end."""
    first, early = trend.losses[0], trend.losses[1:20]
    return (
        trend.measured and bool(early) and first > 0 and max(early) - first > RISE * first and trend.end > 0.9 * first
    )


def _raised(case: Case, trend: Trend) -> Place | None:
    """The line of the schedule, where the loss was lower than at the start until the learning rate had been raised."""
    lrs = [s.lr for s in trend.steps if s.lr]
    if not lrs or not trend.measured or trend.best > 0.7 * trend.start or trend.start <= 0:
        return None
    high = next((i for i, lr in enumerate(lrs) if lr > SCHEDULED * lrs[0]), None)
    return places.of_schedule(case.meta) if high is not None and high > len(lrs) // 10 else None


def _late(case: Case, trend: Trend) -> Finding | None:
    """The loss fell, then swings up and down far above its best: the steps came over the edge during the run."""
    losses = trend.losses
    if (
        trend.optimizer is None
        or len(losses) < 40
        or trend.start <= 0
        or min(losses) < 0
        or trend.first_bad is not None
    ):
        return None
    tail = losses[-len(losses) // 4 :]
    level, best = median(tail), trend.best
    turns = [b - a for a, b in itertools.pairwise(tail)]
    zigzag = sum(a * b < 0 for a, b in itertools.pairwise(turns)) / max(len(turns) - 1, 1)
    batches = [g.probe.batch for g in case.finite if g.probe.batch is not None]
    lost = (level - best) / max(trend.start - best, 1e-300)
    late = [g for g in case.finite if g.probe.step > len(losses) // 2]
    ratio, step, sharp = _edge(case, trend, late)
    raised = _raised(case, trend)
    over = (ratio is not None and ratio > 1.0) or raised is not None
    few = bool(batches) and median(batches) <= 4
    swings = zigzag >= 0.6 or level > RELAPSED * best
    if few or not over or not swings or lost < 0.1 or level < REGAINED * best or best > 0.7 * trend.start:
        return None
    place = raised or places.of_optimizer(trend.optimizer, case.meta)
    lr = next((s.lr for s in reversed(trend.steps) if s.lr), None)
    stable = trend.momentum_factor() / sharp if sharp else None
    told = f" Steps above {stable:.3g} overshoot (sharpness {sharp:.4g} at step {step})." if stable else ""
    return Finding(
        "oscillating", "step-too-large", 0.75, place,
        f"The loss falls from {trend.start:.4g} to {best:.4g}, then goes up and down around {level:.4g} with learning rate "
        f"{lr or 0.0:.3g}.{told}",
        {"learning_rate": lr, "loss_start": rounded(trend.start), "loss_best": rounded(best), "loss_last_quarter": rounded(level),
         "last_quarter_over_best": rounded(level / max(best, 1e-300)), "threshold_last_quarter_over_best": REGAINED, "zigzag": rounded(zigzag),
         "threshold_zigzag": 0.6, "times_too_large": rounded(ratio), "stable_below": rounded(stable), "measured_at_step": step},
        remedies("lower-step", "warmup", at=place, hint=f", to {0.5 * stable:.2g} or less" if stable else ""),
    )  # fmt: skip


def _edge(case: Case, trend: Trend, graphs: list[Graph] | None = None) -> tuple[float | None, int | None, float | None]:
    """Return (learning rate over its stable limit, step, sharpness) where that is largest; only for plain descent."""
    best: tuple[float | None, int | None, float | None] = (None, None, None)
    if trend.adaptive or trend.optimizer is None:
        return best
    lrs = {s.step: s.lr for s in trend.steps if s.lr}
    for graph in case.finite if graphs is None else graphs:
        probe = graph.probe
        lr = lrs.get(probe.step)
        if (
            probe.sharpness is None
            or lr is None
            or probe.optimizer != trend.optimizer.index
            or probe.sharpness.value <= 0
        ):
            continue
        ratio = lr * probe.sharpness.value / trend.momentum_factor()
        if best[0] is None or ratio > best[0]:
            best = (ratio, probe.step, probe.sharpness.value)
    return best


def _too_small(case: Case, trend: Trend) -> Finding | None:
    """Crawling: the gradient is alive, the loss stands still, and all steps together hardly move the weights."""
    if trend.optimizer is None or len(trend.losses) < 20 or not trend.stuck or trend.first_bad is not None:
        return None
    moves = [(s.update / s.weight) for s in trend.steps if s.update is not None and s.weight]
    if len(moves) < 20:
        return None
    travelled = math.fsum(moves)
    lrs = [s.lr for s in trend.steps if s.lr]
    tail = math.fsum(moves[len(moves) // 2 :])
    fell = lrs and lrs[-1] < 1e-3 * max(lrs)
    grads = [s.grad for s in trend.steps if s.grad is not None and math.isfinite(s.grad)]
    alive = bool(grads) and median(grads[len(grads) // 2 :]) > 0.05 * median(grads[: max(1, len(grads) // 10)])
    if not alive or not (travelled < 0.02 or (fell and tail < 1e-3)):
        return None
    place = (places.of_schedule(case.meta) if fell else None) or places.of_optimizer(trend.optimizer, case.meta)
    lr = lrs[-1] if lrs else None
    why = (
        f"the learning rate falls from {max(lrs):.3g} to {lr:.3g}" if fell and lr else f"with learning rate {lr}"
    )  # fmt: skip
    return Finding(
        "crawling", "step-too-small", 0.85 if fell else 0.75, place,
        f"The gradient is healthy but the weights hardly move: all {len(moves)} steps together travel {travelled:.2%} of the "
        f"weights' size, {why}, and the loss stays at {trend.end:.4g}.",
        {"travelled": rounded(travelled), "threshold_travelled": 0.02, "second_half": rounded(tail), "threshold_second_half": 1e-3,
         "learning_rate_last": lr, "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)},
        remedies("raise-step", at=place, hint=" ten- to a hundredfold"),
    )  # fmt: skip


def wrong_sign(case: Case) -> list[Finding]:
    """The loss runs away because of a sign: the updates climb the gradient, or the objective has no floor."""
    found = []
    for trend in case.trends:
        if len(trend.losses) < 5:
            continue
        finding = _climbs(case, trend) or _bottomless(case, trend)
        if finding is not None:
            found.append(finding)
    return found


def _climbs(case: Case, trend: Trend) -> Finding | None:
    """Updates point up the gradient, step after step, and the loss rises."""
    cosines = [s.along for s in trend.steps if s.along is not None]
    if len(cosines) < 3 or median(cosines) > -0.1 or not trend.measured:
        return None
    if trend.end - trend.start <= 3.0 * trend.spread and trend.first_bad is None:
        return None
    options = trend.optimizer.options if trend.optimizer is not None else {}
    place = places.of_optimizer(trend.optimizer, case.meta) or _loss_line(case)
    why = (
        "it was made with maximize=True"
        if options.get("maximize")
        else "the sign of the loss or of the update is wrong"
    )
    return Finding(
        "diverging", "wrong-sign", 0.9, place,
        f"The updates climb the gradient instead of descending it (cosine with −gradient {median(cosines):.2f} over "
        f"{len(cosines)} steps looked at), and the loss rises from {trend.start:.4g} to {trend.end:.4g}: {why}.",
        {"cosine_with_descent": rounded(median(cosines)), "threshold_cosine_with_descent": -0.1, "steps_looked_at": len(cosines),
         "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)},
        remedies("flip-sign", at=place),
    )  # fmt: skip


def _loss_line(case: Case) -> Place | None:
    graph = case.finite[0] if case.finite else None
    op = graph.probe.ops[graph.probe.root] if graph and graph.probe.root is not None else None
    return places.of_op(op, case.meta) if op is not None else None


def _bottomless(case: Case, trend: Trend) -> Finding | None:
    """The loss falls below zero without a floor."""
    if len(trend.losses) < 10:
        return None
    lowest = min(trend.losses)
    quarter = max(1, len(trend.losses) // 4)
    fall = [trend.losses[0], trend.losses[quarter], trend.losses[2 * quarter], lowest]
    runaway = all(b < a for a, b in itertools.pairwise(fall)) and lowest < 0
    times = -lowest / max(abs(trend.start), trend.spread, 1e-300)
    if not (runaway and times > 50.0 and fall[2] - fall[3] > fall[1] - fall[2]):
        return None
    place = _loss_line(case)
    return Finding(
        "diverging", "wrong-sign", 0.85, place,
        f"The loss falls from {trend.start:.4g} to {lowest:.4g}, ever faster and without a floor: the objective has "
        f"no minimum, as when its sign is wrong.",
        {"loss_start": rounded(trend.start), "loss_lowest": rounded(lowest), "times_start": rounded(times),
         "threshold_times_start": 50.0},
        remedies("flip-sign", at=place),
    )  # fmt: skip
