"""Of one look: parameters that are used but that no gradient reaches, and where the way to the loss is cut.

In a run the same is asked of every step, by `wiring.disconnected`; one backward pass is all there is to see here.
"""

from __future__ import annotations

import math

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.records import Finding, Op, Param, Place, Probe, Remedy, Run

_NAMED = 3  # parameters that are called by their names


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
    named = ", ".join(p.name for p in never[:_NAMED]) + (", …" if never[_NAMED:] else "")
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
    return sum(math.prod(p.shape) for p in params)
