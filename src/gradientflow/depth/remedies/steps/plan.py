"""Plans for remedies at the step: its size, the gradient it gets, the batch behind it, what regularises it."""

from __future__ import annotations

import math
from statistics import median

from gradientflow.depth.causes.case import rounded
from gradientflow.depth.causes.trend import SPIKE
from gradientflow.depth.remedies.planner import Planner, named, unique
from gradientflow.limits import Limit
from gradientflow.records import Change, Finding, Optimizer, Place
from gradientflow.records.replay import Setting

FELL = Limit("rate_over_largest", 1e-3, "chosen: below it the schedule is what keeps the step small")
MEASURED_ON = Limit("samples", 8, "chosen: the sharpness over fewer is not that of the data")
HALF = Limit("share_of_stable_step", 0.5, "chosen: half-way, where the sharpness may still double (Cohen et al. 2021)")
TENTH_TOO = Limit(
    "factor_of_the_step", 0.03, "chosen: a tenth of less would stand still; the second form is then a tenth"
)
WARMUP_LEAST = Limit("steps_of_warmup_at_least", 10, "chosen: fewer are no rise")
WARMUP_MOST = Limit("steps_of_warmup_at_most", 200, "chosen: a long run need not wait a quarter of its time")
CLIP_MOST = Limit("norm_at_most", 1.0, "chosen: the usual one; a smaller usual gradient is clipped at its own norm")
BATCHES = Limit("batches", 4, "chosen: the noise is halved at least")
SAMPLES = Limit("samples_of_a_step", 32, "chosen: what a step should see at least, where noise is the trouble")
_LOWERED = 0.01  # of a regularisation is left


def lower_step(plan: Planner, finding: Finding) -> list[Change]:
    """Half the stable step where the sharpness was measured; else a tenth, and a hundredth."""
    optimizer = plan.optimizer(finding)
    if optimizer is None:
        return []
    lr = next((s.lr for s in plan.case.main.steps if s.lr and s.optimizer == optimizer.index), None)
    told = finding.evidence.get("learning_rate")
    lr = float(told) if isinstance(told, (int, float)) and told else lr
    stable = _stable(plan, optimizer, finding)
    factors = [0.1, 0.01]
    if stable is not None and lr and 0 < HALF * stable < lr:
        half = HALF * stable / lr
        factors = [half, 0.1 * half if half > TENTH_TOO else 0.1]
    return [_scaled(plan, "lower-step", f, lr, optimizer) for f in factors]


def _stable(plan: Planner, optimizer: Optimizer, finding: Finding) -> float | None:
    """Return the largest stable step, from the sharpness before the loss had risen (after that it is the blow-up's own)."""
    trend = next((t for t in plan.case.trends if t.optimizer is optimizer), None)
    probes = [
        g.probe for g in plan.case.finite if g.probe.sharpness is not None and g.probe.optimizer == optimizer.index
    ]
    start = next((p.loss for p in probes if p.loss is not None), None)
    calm = [
        p.sharpness.value for p in probes
        if p.sharpness is not None and p.loss is not None and start is not None and p.loss <= start + SPIKE * abs(start)
    ]  # fmt: skip
    if trend is None or trend.adaptive:  # the sharpness says nothing of how far it may step
        return None
    if calm and max(calm) > 0:
        rows = next((p.batch for p in probes if p.batch is not None), MEASURED_ON)
        # over a few samples the sharpness is that of those samples: others may be many times as sharp
        return trend.momentum_factor() / max(calm) * (1.0 if rows >= MEASURED_ON else 0.1)
    told = finding.evidence.get("stable_below")
    return float(told) if isinstance(told, (int, float)) and not probes else None


def raise_step(plan: Planner, finding: Finding) -> list[Change]:
    """Ten and a hundred times; where a schedule has let it fall to nothing, the first learning rate held."""
    optimizer = plan.optimizer(finding)
    if optimizer is None:
        return []
    lrs = [s.lr for s in plan.case.main.steps if s.lr and s.optimizer == optimizer.index]
    if lrs and lrs[-1] < FELL * max(lrs):
        text = f"learning rate held at {max(lrs):.2g}, where the schedule lets it fall to {lrs[-1]:.2g}"
        return [Change("raise-step", text, _made(optimizer), {"least": max(lrs)} | _only(plan, optimizer))]
    return [_scaled(plan, "raise-step", f, lrs[0] if lrs else None, optimizer) for f in (10.0, 100.0)]


def _only(plan: Planner, optimizer: Optimizer) -> dict[str, Setting]:
    """Return the setting that keeps a change to one optimizer, where the script has several."""
    return {"optimizer": optimizer.index} if len(plan.meta.optimizers) > 1 else {}


def _scaled(plan: Planner, kind: str, factor: float, lr: float | None, optimizer: Optimizer) -> Change:
    factor = rounded(factor, 3) or factor
    to = f"{lr * factor:.2g} instead of {lr:.2g}" if lr else f"{factor:g} times what it is"
    line = f" at {optimizer.made_file}:{optimizer.made_line}" if optimizer.made_file else ""
    return Change(kind, f"learning rate {to}{line}", _made(optimizer), {"factor": factor} | _only(plan, optimizer))


def _made(optimizer: Optimizer) -> list[Place]:
    return [Place(optimizer.made_file, optimizer.made_line, None, optimizer.name)] if optimizer.made_file else []


def warmup(plan: Planner, finding: Finding) -> list[Change]:
    """A quarter of the run, between 10 and 200 steps."""
    optimizer = plan.optimizer(finding)
    if optimizer is None:
        return []
    steps = max(int(WARMUP_LEAST), min(int(WARMUP_MOST), len(plan.case.main.steps) // 4))
    return [
        Change(
            "warmup",
            f"learning rate rising linearly over the first {steps} steps",
            [],
            {"steps": steps} | _only(plan, optimizer),
        )
    ]


def clip(plan: Planner, finding: Finding) -> list[Change]:
    """To 1, or to the usual norm of the gradient where that is smaller and single batches are the trouble."""
    if plan.optimizer(finding) is None:
        return []
    steps = plan.case.main.steps[:200]
    grads = [s.grad for s in steps if s.grad is not None and math.isfinite(s.grad) and s.grad > 0]
    usual = median(grads) if grads else 1.0
    limit = rounded(usual, 2) or 1.0 if usual < CLIP_MOST else float(CLIP_MOST)
    return [Change("clip-gradient", f"gradients clipped to norm {limit:g} before each step", [], {"max_norm": limit})]


def zero_grad(plan: Planner, finding: Finding) -> list[Change]:
    """After each step."""
    return [Change("zero-grad", "gradients cleared after each step", [])]


def larger_batch(plan: Planner, finding: Finding) -> list[Change]:
    """Enough batches together for 32 samples, four at least."""
    if plan.optimizer(finding) is None:
        return []
    rows = next((g.probe.batch for g in plan.case.finite if g.probe.batch), 1)
    batches = max(int(BATCHES), int(SAMPLES) // rows)
    return [
        Change("larger-batch", f"gradients averaged over {batches} batches for each step", [], {"batches": batches})
    ]


def lower_regularisation(plan: Planner, finding: Finding) -> list[Change]:
    """Weight decay and explicit penalties times 0.01."""
    graph = plan.graph(finding)
    at = []
    if graph is not None and finding.place is not None:
        line = finding.place.file, finding.place.line
        alone = [graph.probe.ops[i] for i in sorted(graph.weights_only)]
        own = [op for op in alone if any(o.param in graph.weights for o in op.operands)]
        at = unique(p for op in own if (p := plan.place(op)) and (p.file, p.line) == line)
    optimizer = plan.optimizer(finding)
    decay = (optimizer.options.get("weight_decay") or 0.0) if optimizer is not None else 0.0
    if not at and not decay:
        return []
    text = (
        f"the penalty at {named(at)} a hundredth of what it is"
        if at
        else f"weight decay {_LOWERED * decay:g} instead of {decay:g}"
    )
    return [Change("lower-regularisation", text, at, {"factor": _LOWERED})]
