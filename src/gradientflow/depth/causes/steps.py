"""The step: too large (the loss jumps, diverges or zigzags, from the start or later on), or too small (it crawls).

Descent on a quadratic with sharpness λ is stable for η < 2/λ, with momentum β for η < 2(1+β)/λ (Cohen et al. 2021,
App. B). Networks hover near that edge without harm, so sharpness alone is no finding: the loss must show it too.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import median

from gradientflow.depth.causes import losses, places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.fallen import LONGER, LOOKED, RESOLVED, TAKEN, goes_down
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.lost import EPS_RULES, eps_share
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import ALIVE, LEARNS_WELL, LOSSES, SPIKE, STUCK, Trend, alive, smoothed
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Place

# A rise, in units of the start.
SWING = Limit(
    "swings_of_a_loss_around_zero", 4.0, "chosen: four usual changes are the unit of a loss that has no zero of its own"
)
HIGH = Limit("high_rise", 10.0, "chosen: where the loss ends not finite anyway; and surer from here on")
TOWERING = Limit("towering_rise", 100.0, "chosen: whatever the loss does afterwards")
SEVERAL = Limit(
    "several_optimizers",
    20.0,
    "chosen: times the rise, where optimizers play against each other and losses trade places",
)
FEW = Limit("samples", 4, "chosen: over so few samples the loss varies by √(2/4), 0.7 of its mean")
SETTLED = Limit(
    "last_over_level", 1.5, "chosen: over the highest level of the first half; below, it rattles and does not run away"
)
# An update.
UPDATE = Limit("largest_relative_update", 0.2, "chosen: of the weights; a run that learns changes them by 1e-3 a step")
HALF_REPLACED = Limit(
    "half_replaced", 0.5, "chosen: half of the weights, with a loss that rises and is not below its start again"
)
RISE = Limit("rise_over_first", 0.3, "chosen: of the very first loss, within the first steps")
STAYED = Limit("end_over_first", 0.9, "chosen: of the very first loss, at the end")
# A loss that had fallen.
LOST_AGAIN = Limit("lost_again", 0.7, "chosen: of the best progress")
RELAPSE = Limit("relapse_over_best", 1.5, "chosen: over the best level, in units of it")
FELL = Limit("best_over_start", 0.7, "chosen: of the start; less has not fallen to speak of")
LONG = Limit("losses_of_a_long_run", 40, "chosen: ten in the last quarter")
LOST = Limit("lost_in_the_last_quarter", 0.1, "chosen: of the best progress")
REGAINED = Limit("last_quarter_over_best", 4.0, "chosen: four times the best level")
RELAPSED = Limit("last_quarter_over_best_without_turns", 25.0, "chosen: so much that it need not turn at each step")
SCHEDULED = Limit("rate_over_first", 3.0, "chosen: three times the learning rate that the run began with")
WHILE = Limit("share_before_the_raise", 0.1, "chosen: of the steps; a rise within them is a warm-up")
# Up and down: 1 at each step, 1/2 to 2/3 by chance (a series without memory turns with probability 2/3).
ZIGZAG = Limit("zigzag_without_headway", 0.75, "chosen: more than chance")
TURNING = Limit("losses_that_turn", 10, "chosen: fewer turn by chance")
TURNS = Limit("zigzag", 0.6, "chosen: as chance, where the loss stands far over its best besides")
# A momentum that swings over the target and back.
HEAVY = Limit("momentum", 0.98, "chosen: fifty steps of memory; what is usual stays at 0.9 to 0.95")
DOWN = Limit("low_of_a_swing", 0.4, "chosen: of the loss it began with")
UP = Limit("high_of_a_swing", 0.7, "chosen: of the loss it began with; half of what was gained, lost again")
SWINGS = Limit("swings", 3, "chosen: down and up again so often is no accident")
SETTLED_BY = Limit("last_swing", 0.5, "chosen: of the losses; what is over in the first half has settled")
# A step that is too small.
STEPS = Limit("steps", 20, "chosen: fewer need not move the loss")
FADED = Limit("last_rate_over_largest", 1e-3, "chosen: a schedule that has ended")
TRAVELLED = Limit("travelled", 0.02, "chosen: of the weights' size, in all steps together")
TAIL = Limit("second_half", 1e-3, "chosen: of the weights' size, in the second half of a run whose schedule ended")
# Passed on the way to a step that is too large, and not told beside a number.
_GATES = (
    SWING, HIGH, TOWERING, SEVERAL, FEW, SETTLED, HALF_REPLACED, RISE, STAYED, RELAPSE, LEARNS_WELL, FELL,
    SCHEDULED, WHILE, ZIGZAG, TURNING, STUCK, LOSSES, RESOLVED, LOOKED, TAKEN, LONGER,
)  # fmt: skip


def step_size(case: Case) -> list[Finding]:
    """Judge the step of every optimizer by what the loss did."""
    found = []
    several = len([t for t in case.trends if t.measured]) > 1
    for trend in case.trends:
        finding = (
            _too_large(case, trend, several)
            or (None if several else _late(case, trend) or _swinging(case, trend))
            or _too_small(case, trend)
        )
        if finding is not None:
            found.append(finding)
    return found


@dataclass
class Rise:
    """How far a loss rose over its start, and beside what.

    Attributes:
        series: the loss as it is judged: of a few samples its running median.
        start, top: its first level and its highest.
        times: (top − start) in units of the start.
        ended: it was not finite in the end; `worse`: it ends higher than it began by as much as it began with.
        noisy: the batches are so small that the loss jumps by itself.
        floating: the loss has no zero of its own (a policy gradient), and is held against its usual swing.
        update: the largest of the first updates, in sizes of the weights.
        beyond: the learning rate is over its stable limit.
        chased: the loss is held against what the network itself made: that it rises says nothing by itself.
    """

    series: list[float]
    start: float
    top: float
    times: float
    ended: bool
    worse: bool
    noisy: bool
    floating: bool
    update: float
    beyond: bool
    chased: bool = False


def _rise(case: Case, trend: Trend, beyond: bool) -> Rise:
    update = max(
        (s.update / s.weight for s in trend.steps[:20] if s.update and s.weight and math.isfinite(s.update)),
        default=0.0,
    )
    tiny = [g.probe.batch for g in case.finite if g.probe.batch is not None][:1]
    noisy = bool(tiny) and tiny[0] <= FEW  # a loss over a few samples jumps by itself: only what lasts counts
    series = smoothed(trend.losses, 25 if noisy else 1)
    start = trend.start if trend.measured and not noisy else series[0]
    scale = max(abs(start), trend.spread, 1e-300)
    floating = min(series) < 0 < max(series)
    if floating:
        scale = max(scale, SWING * median(abs(b - a) for a, b in itertools.pairwise(series)))
    top = max(series)
    worse = trend.measured and trend.end - start > 1.0 * scale
    ended = trend.first_bad is not None
    return Rise(series, start, top, (top - start) / scale, ended, worse, noisy, floating, update, beyond, case.chases)


def _symptom(trend: Trend, rise: Rise, several: bool) -> str | None:
    """Return what the loss shows of a step that is too large; None where it shows nothing."""
    limit = SPIKE * (SEVERAL if several else 1.0)
    relapsed = (
        trend.measured
        and trend.lost > LOST_AGAIN
        and trend.relapse - trend.best > RELAPSE * max(abs(trend.best), trend.spread)
    )
    runs_away = (
        (rise.ended and rise.times > HIGH)
        or (rise.worse and rise.times > limit)
        or rise.times > TOWERING
        or (rise.times > limit and trend.progress < LEARNS_WELL and (rise.beyond or rise.update > UPDATE))
    )
    if rise.chased and not (rise.ended or rise.beyond or rise.update > UPDATE):
        return None
    alone = not several and not rise.noisy
    if (
        runs_away
        or (alone and not rise.floating and trend.stuck and relapsed)
        or (alone and rise.update > HALF_REPLACED and _thrown(trend))
    ):
        # single samples: a loss that has risen to a level and stays there rattles about, it does not run away
        level = max(rise.series[: max(1, len(rise.series) // 2)])
        settled = rise.noisy and not rise.ended and rise.series[-1] < SETTLED * level
        if settled:
            return "oscillating"
        if rise.ended or rise.series[-1] > rise.start or trend.ends_above:
            return "diverging"
        # It came back below its start: no more is told of a run that learns well and whose weights were not thrown away.
        well = trend.progress >= LEARNS_WELL and not rise.floating and rise.update <= HALF_REPLACED
        return None if well else "oscillating"
    if rise.beyond and trend.stuck and trend.zigzag > ZIGZAG and len(trend.losses) >= TURNING:
        return "oscillating"
    return None


def _too_large(case: Case, trend: Trend, several: bool) -> Finding | None:
    if len(trend.losses) < 2:
        return None
    ratio, sharp_step, sharp = edge(case, trend)
    rise = _rise(case, trend, beyond=ratio is not None and ratio > 1.0)
    symptom = _symptom(trend, rise, several)
    if symptom is None or (several and not rise.worse and not rise.ended):
        return None
    if not rise.ended and rise.times <= HIGH and goes_down(case, trend):
        return None
    lr = next((s.lr for s in trend.steps if s.lr), None)
    place = _raised(case, trend) or places.of_option(trend.optimizer, case.meta, "lr") or losses.line(case.finite[:1])
    factor = trend.momentum_factor()
    evidence = {
        "learning_rate": lr, "loss_start": rounded(rise.start), "loss_top": rounded(rise.top), "loss_end": rounded(trend.end),
        "rise_over_start": rounded(rise.times), "lost_again": rounded(trend.lost),
        "largest_relative_update": rounded(rise.update), "zigzag": rounded(trend.zigzag),
    } | told(SPIKE, LOST_AGAIN, UPDATE, gates=_GATES)  # fmt: skip
    if several:
        evidence["threshold_rise_over_start"] = SPIKE * SEVERAL
    hint = ""
    sharp_text = ""
    if ratio is not None and sharp is not None and lr:
        evidence |= {
            "sharpness": rounded(sharp), "stable_below": rounded(factor / sharp), "times_too_large": rounded(ratio),
            "measured_at_step": sharp_step,
        }  # fmt: skip
        if rise.beyond:
            sharp_text = f" The sharpness of the batch loss at step {sharp_step} is {sharp:.4g}: steps above {factor / sharp:.3g} overshoot."
            hint = f", to {0.5 * factor / sharp:.2g} or less to begin with"
    elif trend.adaptive and lr:
        hint = f", to {lr / 30:.2g} to begin with"
    return Finding(
        symptom, "step-too-large", _sure(rise, came_back=symptom == "oscillating" and rise.times > SPIKE), place, _told(symptom, rise, trend, lr) + sharp_text, evidence,
        remedies("lower-step", "warmup", "clip-gradient", at=place, hint=hint),
    )  # fmt: skip


def _sure(rise: Rise, came_back: bool) -> float:
    """How sure it is; less where the loss came back, as what is found at the end of the run says more of it then."""
    sure = 0.6 + (0.2 if rise.beyond else 0.0)
    sure += (0.1 if rise.times > HIGH else 0.0) + (0.1 if rise.update > UPDATE else 0.0)
    return round(min(sure, 0.97) - (0.15 if came_back else 0.0), 2)


def _told(symptom: str, rise: Rise, trend: Trend, lr: float | None) -> str:
    if symptom == "oscillating" and rise.times > SPIKE and trend.progress > STUCK:
        return (
            f"The loss rises from {rise.start:.4g} to {rise.top:.4g} with learning rate {lr or 0.0:.3g} before it comes back, to "
            f"{trend.end:.4g}."
        )
    if symptom == "oscillating":
        return (
            f"The loss goes up and down with learning rate {lr or 0.0:.3g} and makes no headway ({rise.start:.4g} to "
            f"{trend.end:.4g})."
        )
    rate = f" with learning rate {lr:.3g}" if lr else ""
    if rise.ended:
        end = " and is not finite in the end."
    else:
        end = "." if rise.worse else f" and gets no further than {trend.end:.4g}."
    return f"The loss rises from {rise.start:.4g} to {rise.top:.4g}{rate}{end}"


def _thrown(trend: Trend) -> bool:
    """Whether the loss rose over its very first value within the first steps and was not below it again at the end."""
    first, early = trend.losses[0], trend.losses[1:20]
    return (
        trend.measured
        and bool(early)
        and first > 0
        and max(early) - first > RISE * first
        and trend.end > STAYED * first
    )


def _raised(case: Case, trend: Trend) -> Place | None:
    """The line of the schedule, where the loss was lower than at the start until the learning rate had been raised."""
    lrs = [s.lr for s in trend.steps if s.lr]
    if not lrs or not trend.measured or trend.best > FELL * trend.start or trend.start <= 0:
        return None
    high = next((i for i, lr in enumerate(lrs) if lr > SCHEDULED * lrs[0]), None)
    return places.of_schedule(case.meta) if high is not None and high > WHILE * len(lrs) else None


def _late(case: Case, trend: Trend) -> Finding | None:
    """The loss fell, then swings up and down far above its best: the steps came over the edge during the run."""
    seen = trend.losses
    if trend.optimizer is None or len(seen) < LONG or trend.start <= 0 or min(seen) < 0 or trend.first_bad is not None:
        return None
    tail = seen[-len(seen) // 4 :]
    level, best = median(tail), trend.best
    turns = [b - a for a, b in itertools.pairwise(tail)]
    zigzag = sum(a * b < 0 for a, b in itertools.pairwise(turns)) / max(len(turns) - 1, 1)
    batches = [g.probe.batch for g in case.finite if g.probe.batch is not None]
    lost = (level - best) / max(trend.start - best, 1e-300)
    late = [g for g in case.finite if g.probe.step > len(seen) // 2]
    ratio, step, sharp = edge(case, trend, late)
    raised = _raised(case, trend)
    over = (ratio is not None and ratio > 1.0) or raised is not None
    few = bool(batches) and median(batches) <= FEW
    swings = zigzag >= TURNS or level > RELAPSED * best
    if few or not over or not swings or lost < LOST or level < REGAINED * best or best > FELL * trend.start:
        return None
    place = raised or places.of_optimizer(trend.optimizer, case.meta)
    lr = next((s.lr for s in reversed(trend.steps) if s.lr), None)
    stable = trend.momentum_factor() / sharp if sharp else None
    sharp_text = f" Steps above {stable:.3g} overshoot (sharpness {sharp:.4g} at step {step})." if stable else ""
    return Finding(
        "oscillating", "step-too-large", 0.75, place,
        f"The loss falls from {trend.start:.4g} to {best:.4g}, then goes up and down around {level:.4g} with learning rate "
        f"{lr or 0.0:.3g}.{sharp_text}",
        {"learning_rate": lr, "loss_start": rounded(trend.start), "loss_best": rounded(best), "loss_last_quarter": rounded(level),
         "last_quarter_over_best": rounded(level / max(best, 1e-300)), "zigzag": rounded(zigzag),
         "times_too_large": rounded(ratio), "stable_below": rounded(stable), "measured_at_step": step}
        | told(REGAINED, TURNS, gates=(LONG, FEW, LOST, FELL, RELAPSED, SCHEDULED, WHILE)),
        remedies("lower-step", "warmup", at=place, hint=f", to {0.5 * stable:.2g} or less" if stable else ""),
    )  # fmt: skip


def _swinging(case: Case, trend: Trend) -> Finding | None:
    """The loss falls and comes back up, again and again, because a heavy momentum carries the weights past where they should be."""
    options = trend.optimizer.options if trend.optimizer is not None else {}
    betas = options.get("betas")
    momentum = float(options.get("momentum") or (betas[0] if betas else 0.0))
    if momentum <= HEAVY or not trend.measured or trend.start <= 0:
        return None
    swings, low, last = 0, False, 0
    for at, loss in enumerate(trend.losses):
        if not low and loss < DOWN * trend.start:
            low = True
        elif low and loss > UP * trend.start:
            swings, low, last = swings + 1, False, at
    if swings < SWINGS or last < SETTLED_BY * len(trend.losses):
        return None
    place = places.of_optimizer(trend.optimizer, case.meta)
    return Finding(
        "oscillating", "step-too-large", 0.75, place,
        f"The loss falls below {DOWN:.0%} of its start and comes back above {UP:.0%} of it, {swings} times: a momentum of {momentum:g} "
        f"remembers {1 / max(1 - momentum, 1e-9):.3g} steps, and carries the weights past where they should be and back.",
        {"momentum": momentum, "swings": swings, "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)}
        | told(HEAVY, SWINGS, gates=(DOWN, UP, SETTLED_BY)),
        remedies("lower-step", at=place, hint=", or the momentum to 0.9"),
    )  # fmt: skip


def edge(case: Case, trend: Trend, graphs: list[Graph] | None = None) -> tuple[float | None, int | None, float | None]:
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
    if trend.optimizer is None or len(trend.losses) < STEPS or not trend.stuck or trend.first_bad is not None:
        return None
    moves = [(s.update / s.weight) for s in trend.steps if s.update is not None and s.weight]
    if len(moves) < STEPS:
        return None
    travelled = math.fsum(moves)
    lrs = [s.lr for s in trend.steps if s.lr is not None]
    tail = math.fsum(moves[len(moves) // 2 :])
    fell = lrs and lrs[-1] < FADED * max(lrs)
    if not alive(trend) or not (travelled < TRAVELLED or (fell and tail < TAIL)):
        return None
    place = (places.of_schedule(case.meta) if fell else None) or places.of_optimizer(trend.optimizer, case.meta)
    lr = lrs[-1] if lrs else None
    why = f"the learning rate falls from {max(lrs):.3g} to {lr:.3g}" if fell else f"with learning rate {lr}"
    hint = " ten- to a hundredfold"
    if (share := eps_share(case, trend)) >= EPS_RULES and not fell:
        why += f" and an eps of {trend.optimizer.options.get('eps')}, which outweighs the gradient in {share:.0%} of the entries"
        hint = ", or take the usual eps of 1e-8, or scale the loss up"
    return Finding(
        "crawling", "step-too-small", 0.85 if fell else 0.75, place,
        f"The gradient is healthy but the weights hardly move: all {len(moves)} steps together travel {travelled:.2%} of the "
        f"weights' size, {why}, and the loss stays at {trend.end:.4g}.",
        {"travelled": rounded(travelled), "second_half": rounded(tail),
         "learning_rate_last": lr, "loss_start": rounded(trend.start), "loss_end": rounded(trend.end)}
        | told(TRAVELLED, TAIL, gates=(STEPS, STUCK, FADED, ALIVE, EPS_RULES)),
        remedies("raise-step", at=place, hint=hint),
    )  # fmt: skip
