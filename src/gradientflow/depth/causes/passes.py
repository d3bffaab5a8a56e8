"""Backward passes and the steps behind them: gradients that no step ever uses, because it comes too early, or too late."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LOSSES, Trend
from gradientflow.limits import Limit, told
from gradientflow.records import UNSCALE, Finding, Optimizer, Place, Transit

MANY = Limit("passes_of_a_step", 8, "chosen: an attack, a sharpness-aware step or a closure takes fewer by themselves")
THROWN = Limit("gradients_cleared", 0.9, "chosen: of those of all passes but the last")
USUAL = Limit("share_of_steps", 0.8, "chosen: of the steps that were looked at; once is an accident")
STEPS = Limit("steps", 3, "chosen: a parameter without a gradient in the first of them may get one yet")
LATE = Limit("late_calls", 2, "chosen: once may be another loss")
DIVIDED = Limit("divisor_off", 2.0, "chosen: a factor that the loss's divisor and the number of passes may be apart")


def out_of_step(case: Case) -> list[Finding]:
    """Find optimizers that step ahead of the backward pass, and steps that leave most passes out."""
    return [f for t in case.trends if (f := _early(case, t) or _thrown(case, t) or _piled(case, t)) is not None]


def _early(case: Case, trend: Trend) -> Finding | None:
    """The step comes ahead of backward, and the gradient is cleared before the next."""
    optimizer = trend.optimizer
    held = [case.meta.params[i] for i in optimizer.params] if optimizer is not None else []
    live = [p for p in held if p.requires_grad]
    if optimizer is None or not live or any(p.graded for p in live) or optimizer.steps < STEPS or case.meta.late < LATE:
        return None
    place = _step(optimizer)
    return Finding(
        "disconnected", "steps-missing", 0.97, place,
        f"{optimizer.name} steps ahead of the backward call, on what is in `.grad` by then: nothing. The gradient comes behind the step and "
        f"is cleared before the next, so that none of {optimizer.steps} steps has moved any of {len(live)} parameters.",
        {"steps": optimizer.steps, "backward_calls": case.meta.backwards, "late_calls": case.meta.late, "without_gradient": len(live)}
        | told(LATE, gates=(STEPS,)),
        remedies("step-each-pass", at=place),
    )  # fmt: skip


def _thrown(case: Case, trend: Trend) -> Finding | None:
    """Many backward calls ahead of a step, and the gradient is cleared between them."""
    optimizer = trend.optimizer
    seen = _transits(case, trend)
    thrown = [t for t in seen if t.passes >= MANY and t.cleared >= THROWN * (t.passes - 1) and not _made_by_hand(t)]
    if optimizer is None or not thrown or len(thrown) < USUAL * len(seen) or _differentiates_data(case):
        return None
    place, passes = _step(optimizer), int(median(t.passes for t in thrown))
    return Finding(
        "crawling", "steps-missing", 0.9, place,
        f"Of {passes} backward calls ahead of each step of {optimizer.name} only the last one's gradient is left: those before it were cleared "
        f"unused. {optimizer.steps} steps were taken in {case.meta.backwards} backward calls; was the step to stand inside the loop?",
        {"passes_of_a_step": passes, "cleared": thrown[-1].cleared, "share_left": rounded(1 / passes), "steps": optimizer.steps,
         "backward_calls": case.meta.backwards} | told(MANY, gates=(THROWN, USUAL)),
        remedies("step-each-pass", at=place),
    )  # fmt: skip


def _piled(case: Case, trend: Trend) -> Finding | None:
    """Many backward calls are added up, not averaged, ahead of so few steps that nothing is trained."""
    optimizer, calls = trend.optimizer, [s.backwards for s in trend.steps]
    if optimizer is None or not calls or median(calls) < MANY or len(case.meta.optimizers) > 1:
        return None
    transits = _transits(case, trend)
    passes = int(median(calls))
    few = len(trend.losses) < LOSSES  # (more that do not move the loss may be a policy's, or a bandit's)
    if not few or not transits or averages(case, passes) or max(t.passes for t in transits) < MANY:
        return None  # (a closure's calls are within the step)
    if any(map(_made_by_hand, transits)) or _differentiates_data(case):
        return None
    place, steps = _step(optimizer), len(trend.steps)
    return Finding(
        "crawling", "steps-missing", 0.6, place,
        f"{passes} backward calls stand behind each step of {optimizer.name}, and their gradients are added up, not averaged: the script took "
        f"{steps} step{'s' * (steps != 1)} in {case.meta.backwards} backward calls. Was the step to stand inside the loop?",
        {"passes_of_a_step": passes, "steps": steps, "backward_calls": case.meta.backwards, "gradient_times": passes} | told(MANY, gates=(LOSSES, DIVIDED)),
        remedies("step-each-pass", at=place),
    )  # fmt: skip


def averages(case: Case, passes: int) -> bool:
    """Whether the loss of a pass is divided by about as many as there are passes to a step."""
    return any(_divided(g, passes) for g in case.graphs)


def _divided(graph: Graph, passes: int) -> bool:
    at = graph.probe.root
    while at is not None:
        op = graph.probe.ops[at]
        divisors = (
            [s for s in op.scalars if s > 0]
            if op.name == "div"
            else [1 / s for s in op.scalars if s > 0]
            if op.name == "mul"
            else []
        )
        if any(passes / DIVIDED <= d <= passes * DIVIDED for d in divisors):
            return True
        sources = [o.op for o in op.operands if o.op is not None]
        at = sources[0] if len(sources) == 1 and (divisors or op.name in ("mul", "to", "float", "add", "neg")) else None
    return False


def _transits(case: Case, trend: Trend) -> list[Transit]:
    index = trend.optimizer.index if trend.optimizer is not None else None
    return [p.transit for p in case.run.probes if p.transit is not None and p.optimizer == index]


def _made_by_hand(transit: Transit) -> bool:
    """Whether the script makes the gradient of the step itself, out of those of several passes."""
    return any(
        not a.name.startswith("clip") and a.name != UNSCALE and a.factor is not None for a in transit.alterations
    )


def _differentiates_data(case: Case) -> bool:
    """Whether passes are made for the data (an attack, a sampler): their gradient by the weights is not wanted."""
    params = case.meta.params
    reached: Sequence[int] = [s.param for g in case.graphs for s in g.probe.params if s.grad is not None]
    return any(not params[i].is_parameter and params[i].optimizer is None for i in reached)


def _step(optimizer: Optimizer) -> Place | None:
    return Place(optimizer.file, optimizer.line, None, f"{optimizer.name}.step") if optimizer.file else None
