"""What one look can decide, and what it cannot: findings that need a second look get it, and loose wires are told.

The rules in `depth.causes` judge runs. Of a run of one backward pass they say only what is in it, with one exception: that
something *stays* dead, or equal, is a claim about time. Such a finding stands only if it is still there after some steps
of a copy: a gate or an output layer that starts at zero on purpose wakes up at the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradientflow.depth.causes import judge, places
from gradientflow.depth.causes.case import rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.records import Finding, Op, Param, Place, Probe, Remedy, Run, Verdict

_UNSEEN = "step size, oscillation and what dies in training need a run: give an optimizer, or `gradientflow run`"
_LASTING = ("dead", "symmetric-init")  # symptoms and causes that are claims about time
EQUAL = (
    0.999  # how alike the rows of a gradient are (1: all the same) that keeps equal units equal; random rows: 1/rows
)


@dataclass(frozen=True)
class Later:
    """What a copy showed after some steps: the run, and the parameters whose units get different gradients."""

    run: Run
    parted: set[str]


def settle(verdict: Verdict, run: Run, again: Callable[[], Later | None]) -> None:
    """Make the verdict on one look say what one look can: see the head of this file.

    Args:
        verdict: as the rules gave it; changed in place.
        run: the look.
        again: looks at a copy some steps later; None where that is not possible.
    """
    lasting = [f for f in verdict.findings if f.symptom in _LASTING or f.cause in _LASTING]
    if lasting:
        _confirm(verdict, run, lasting, again())
    if not verdict.findings and any(s.nonfinite or not math.isfinite(s.loss or 0.0) for s in run.steps):
        verdict.findings.append(_unplaced())
    loose = cut_off(run)
    if loose is not None:
        whole = loose.evidence["without_gradient"] == loose.evidence["of"]
        verdict.findings.insert(0 if whole else len(verdict.findings), loose)
    if verdict.findings:
        verdict.symptom, verdict.summary = verdict.findings[0].symptom, verdict.findings[0].summary
    elif run.steps and run.probes:
        verdict.symptom, verdict.summary = "healthy", _calm(verdict, run)


def _confirm(verdict: Verdict, run: Run, lasting: list[Finding], later: Later | None) -> None:
    """Keep what is still there at a later look; where there is none, keep it with less confidence and say so."""
    if later is None:
        for finding in lasting:
            finding.confidence = round(0.7 * finding.confidence, 2)
            finding.evidence["looked_at_again"] = False
        return
    dead = any(f.symptom == "dead" for f in judge(later.run).findings)
    names = {p.index: p.name for p in run.meta.params}
    equal = {
        names[s.param] for probe in run.probes[:1] for s in probe.params if s.alike is not None and s.alike > 1 - 1e-6
    }
    for finding in lasting:
        if dead if finding.symptom == "dead" else bool(equal - later.parted):
            finding.evidence["still_there_after_steps"] = len(later.run.steps)
            continue
        verdict.findings.remove(finding)
        for row in verdict.budget.by_op:
            if row.mark == finding.symptom:
                row.mark = None


def _unplaced() -> Finding:
    return Finding(
        "not-finite", "singular-op", 0.5, None,
        "The loss or a gradient is not finite; the operation at which that begins was not found.",
        {"rule": "none of the traced operations makes it"}, remedies("clamp-op"),
    )  # fmt: skip


def cut_off(run: Run) -> Finding | None:
    """Parameters that are used but that no gradient reaches: on their way to the loss there is a cut.

    A parameter that the batch does not use at all (a spare head) is no finding, nor is one that is frozen.
    """
    probe = run.probes[0] if run.probes else None
    live = [p for p in run.meta.params if p.is_parameter and p.requires_grad]
    held = [p for p in run.meta.params if p.is_parameter]
    if probe is None or not held:
        return None
    if not live:
        return Finding(
            "disconnected", "disconnected-parameters", 0.97, None,
            f"All {len(held)} parameters are frozen (requires_grad is False): no gradient flows to any.",
            {"without_gradient": len(held), "of": len(held), "frozen": len(held)}, remedies("reconnect"),
        )  # fmt: skip
    graded = {s.param for s in probe.params if s.grad is not None}
    used = {o.param for op in probe.ops for o in op.operands} | set(probe.without_grad)
    whole = not graded & {p.index for p in live}
    never = [p for p in live if p.index not in graded and (whole or p.index in used)]
    last = _last_of(probe, {p.index for p in never})
    if not never or (last is None and not whole):
        return None
    place = places.of_op(last, run.meta) if last is not None else None
    named = ", ".join(p.name for p in never[:3]) + (", …" if len(never) > 3 else "")
    some = f"{len(never)} of {len(live)} parameters ({named}) are used but get no gradient"
    which = f"None of the {len(live)} parameters gets a gradient" if whole else some
    evidence = {
        "without_gradient": len(never), "of": len(live), "share_of_entries": rounded(_entries(never) / max(_entries(live), 1)),
        "names": [p.name for p in never[:8]],
    }  # fmt: skip
    mends = remedies("reconnect", at=place)
    if not whole:
        mends.append(Remedy("reconnect", "If they are not meant to learn, say so: `requires_grad_(False)` on them."))
    return Finding(
        "disconnected", "disconnected-parameters", 0.96 if whole else 0.7, place,
        f"{which}: {_where(last, place, probe)}.", evidence, mends,
    )  # fmt: skip


def _where(last: Op | None, place: Place | None, probe: Probe) -> str:
    if last is not None and place is not None:
        at = f" at {place.file}:{place.line}" if place.file else ""
        return (
            f"what is computed from them ends at {last.name}{at}, and after it the way to the loss is cut (detach, numpy, "
            f"argmax, or not used)"
        )
    if probe.without_grad:
        return "they are used with gradients switched off (no_grad)"
    return "the loss does not depend on them"


def _last_of(probe: Probe, wanted: set[int]) -> Op | None:
    """Return the last operation of what is computed from `wanted` parameters without reaching the loss."""
    reached = _reached(probe)
    loose: set[int] = set()
    for op in probe.ops:
        if op.index not in reached and any(o.param in wanted or o.op in loose for o in op.operands):
            loose.add(op.index)
    return probe.ops[max(loose)] if loose else None


def _reached(probe: Probe) -> set[int]:
    found: set[int] = set()
    todo = [probe.root] if probe.root is not None else []
    while todo:
        index = todo.pop()
        if index not in found:
            found.add(index)
            todo += [o.op for o in probe.ops[index].operands if o.op is not None]
    return found


def _entries(params: list[Param]) -> int:
    total = 0
    for p in params:
        n = 1
        for d in p.shape:
            n *= d
        total += n
    return total


def _calm(verdict: Verdict, run: Run) -> str:
    """Say what was measured to call one look healthy, and what it cannot see."""
    parts = []
    decades = verdict.budget.body_decades
    if decades is not None:
        told = f"{decades:+.1f}".replace("-", "−")
        parts.append(f"the gradient changes by {told} decades between the last and the first layer")
    sharp = [p.sharpness.value for p in run.probes if p.sharpness is not None]
    if sharp:
        parts.append(f"the sharpness of this batch's loss is {sharp[0]:.3g}")
    text = ", ".join([*parts, "all values are finite"])
    return f"Nothing wrong was found in one backward pass: {text}. Not looked at: {_UNSEEN}."
