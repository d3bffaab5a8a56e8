"""Plans for remedies at the step: its size, the gradient it gets, the batch behind it, what regularises it."""

from __future__ import annotations

import math
from statistics import median

from gradientflow.depth.causes.case import rounded
from gradientflow.depth.remedies.planner import Planner, named, unique
from gradientflow.records import Change, Finding, Optimizer, Place
from gradientflow.records.replay import Setting

_FELL = 1e-3  # last over largest learning rate, below which the schedule is what keeps it small
_FEW = 8  # samples: the sharpness over fewer is not that of the data
_ROWS = 32  # samples that a step should see at least, where noise is the trouble


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
    if stable is not None and lr and 0 < 0.5 * stable < lr:
        half = 0.5 * stable / lr
        factors = [half, 0.1 * half if half > 0.03 else 0.1]
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
        if p.sharpness is not None and p.loss is not None and start is not None and p.loss <= start + 2.0 * abs(start)
    ]  # fmt: skip
    if trend is None or trend.adaptive:  # the sharpness says nothing of how far it may step
        return None
    if calm and max(calm) > 0:
        rows = next((p.batch for p in probes if p.batch is not None), _FEW)
        # over a few samples the sharpness is that of those samples: others may be many times as sharp
        return trend.momentum_factor() / max(calm) * (1.0 if rows >= _FEW else 0.1)
    told = finding.evidence.get("stable_below")
    return float(told) if isinstance(told, (int, float)) and not probes else None


def raise_step(plan: Planner, finding: Finding) -> list[Change]:
    """Ten and a hundred times; where a schedule has let it fall to nothing, the first learning rate held."""
    optimizer = plan.optimizer(finding)
    if optimizer is None:
        return []
    lrs = [s.lr for s in plan.case.main.steps if s.lr and s.optimizer == optimizer.index]
    if lrs and lrs[-1] < _FELL * max(lrs):
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
    steps = max(10, min(200, len(plan.case.main.steps) // 4))
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
    limit = rounded(usual, 2) or 1.0 if usual < 1.0 else 1.0
    return [Change("clip-gradient", f"gradients clipped to norm {limit:g} before each step", [], {"max_norm": limit})]


def zero_grad(plan: Planner, finding: Finding) -> list[Change]:
    """After each step."""
    return [Change("zero-grad", "gradients cleared after each step", [])]


def larger_batch(plan: Planner, finding: Finding) -> list[Change]:
    """Enough batches together for 32 samples, four at least."""
    if plan.optimizer(finding) is None:
        return []
    rows = next((g.probe.batch for g in plan.case.finite if g.probe.batch), 1)
    batches = max(4, _ROWS // rows)
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
        else f"weight decay {0.01 * decay:g} instead of {decay:g}"
    )
    return [Change("lower-regularisation", text, at, {"factor": 0.01})]
