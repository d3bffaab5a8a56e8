"""Wiring: parameters that never reach the loss or the optimizer, gradients that are never cleared, units that are equal."""

from __future__ import annotations

import math
from collections import Counter

from gradientflow.depth.causes import losses, places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import SPIKE
from gradientflow.limits import Limit, told
from gradientflow.records import Cut, Finding, Op, Optimizer, Param, Place

EQUAL_WEIGHTS = Limit(
    "alike_first", 1 - 1e-6, "chosen: rows of weights that differ by less than rounding; drawn at random they never do"
)
STILL_ALIKE = Limit("alike_last", 0.999, "chosen: units that part at all part further")
UNITS = Limit("units", 3, "chosen: the fewest that are a layer; of two nothing is claimed")
SEEN = Limit("steps", 3, "chosen: a parameter without a gradient in the first of them may get one yet")
OFTEN = Limit("steps", 10, "chosen: where only some never get one, which may be a branch that is rarely taken")
LATE = Limit(
    "share_of_steps",
    0.4,
    "chosen: of the steps, without an optimizer; what is to be trained later is frozen until then",
)
TURNS = Limit("zigzag", 0.3, "chosen: gradients that pile up overshoot and come back")


def disconnected(case: Case) -> list[Finding]:
    """Parameters that an optimizer holds but that never get a gradient, and trained-looking ones that no optimizer holds."""
    meta = case.meta
    if not meta.optimizers or not case.traced:
        return []
    found = [f for o in meta.optimizers if o.steps >= SEEN for f in (*_unreached(case, o), *_late(case, o))]
    orphans = _orphans(case)
    if orphans:
        place = _made(orphans)
        found.append(
            Finding(
                "disconnected", "disconnected-parameters", 0.93, place,
                f"{len(orphans)} parameters get a gradient but no optimizer holds them ({_named(orphans)}): they keep their first values.",
                {"without_optimizer": len(orphans), "names": [p.name for p in orphans[:8]], "optimizers": len(meta.optimizers)},
                remedies("reconnect", at=place),
            )
        )  # fmt: skip
    return found


def _late(case: Case, optimizer: Optimizer) -> list[Finding]:
    """Parameters that an optimizer is given late in the run, although they got a gradient long before."""
    first = {i for group in optimizer.groups for i in group.params}
    added = [case.meta.params[i] for i in optimizer.params if i not in first]
    late = [p for p in added if first and p.graded < (1 - LATE) * optimizer.steps and p.requires_grad]
    waited = {s.param for g in case.graphs[: len(case.graphs) // 2] for s in g.probe.params if s.grad is not None}
    late = [p for p in late if p.index in waited]
    if not late or optimizer.steps < OFTEN:
        return []
    place = places.of_last_call(case.meta, "add_param_group") or places.of_optimizer(optimizer, case.meta)
    since = optimizer.steps - max(p.graded for p in late)
    return [
        Finding(
            "disconnected", "disconnected-parameters", 0.8, place,
            f"{len(late)} parameters ({_named(late)}) get a gradient from the start and are given to {optimizer.name} only behind step "
            f"{since} of {optimizer.steps}: until then they keep their first values.",
            {"late": len(late), "of": len(optimizer.params), "since_step": since, "steps": optimizer.steps, "names": [p.name for p in late[:8]]}
            | told(LATE, gates=(OFTEN,)),
            remedies("reconnect", at=place),
        )
    ]  # fmt: skip


def _unreached(case: Case, optimizer: Optimizer) -> list[Finding]:
    """What an optimizer holds and no gradient reaches: all of it, or a part; or it is frozen."""
    held = [case.meta.params[i] for i in optimizer.params]
    live = [p for p in held if p.requires_grad]
    never = [p for p in live if p.graded == 0]
    if never and len(never) == len(live):
        return [_nothing(case, optimizer, never, len(held))]
    if held and not live and not any(p.graded for p in held):  # (not: frozen after they were trained)
        place = places.of_optimizer(optimizer, case.meta)
        return [
            Finding(
                "disconnected", "disconnected-parameters", 0.97, place,
                f"All {len(held)} parameters given to {optimizer.name} are frozen (requires_grad is False): nothing is updated.",
                {"frozen": len(held), "of": len(held), "steps": optimizer.steps, "names": [p.name for p in held[:8]]} | told(SEEN),
                remedies("reconnect", at=place),
            )
        ]  # fmt: skip
    return _cut_off(case, optimizer, never, live) if never and optimizer.steps >= OFTEN else []


def _nothing(case: Case, optimizer: Optimizer, never: list[Param], held: int) -> Finding:
    """None of an optimizer's parameters ever gets a gradient."""
    used: set[int | None] = {o.param for g in case.traced for op in g.probe.ops for o in op.operands}
    used |= {i for g in case.traced for i in g.probe.without_grad}
    remade = not used & {p.index for p in never}  # nothing ever computes with them: it holds the wrong ones
    place = (
        (places.of_optimizer(optimizer, case.meta) if remade else None)
        # (of several optimizers the cut may be meant for another)
        or (_cut_line(case, never) if len(case.meta.optimizers) == 1 else None)
        or _stepped_loss(case, optimizer)
        or _made(never)
    )
    return Finding(
        "disconnected", "disconnected-parameters", 0.96, place,
        f"None of the {len(never)} parameters of {optimizer.name} (line {optimizer.made_line or optimizer.line}) ever "
        f"gets a gradient in {optimizer.steps} steps: "
        + ("no operation uses them (the model was made anew after the optimizer, or another one is trained)." if remade
           else "the loss does not depend on them (detached, or not used)."),
        {"without_gradient": len(never), "of": held, "steps": optimizer.steps, "names": [p.name for p in never[:8]]} | told(SEEN),
        remedies("reconnect", at=places.of_optimizer(optimizer, case.meta)),
    )  # fmt: skip


def _named(params: list[Param]) -> str:
    return ", ".join(p.name for p in params[:3]) + (", …" if params[3:] else "")


def _cut_off(case: Case, optimizer: Optimizer, never: list[Param], live: list[Param]) -> list[Finding]:
    """Some parameters never get a gradient: used in the forward pass but cut off from the loss, or not used at all."""
    wanted = {p.index for p in never}
    last = next((op for g in case.graphs if (op := _end_of_the_loose(g, wanted)) is not None), None)
    share = sum(_entries(p) for p in never) / max(sum(_entries(p) for p in live), 1)
    named = _named(never)
    evidence = {
        "without_gradient": len(never), "of": len(live), "steps": optimizer.steps, "share_of_entries": rounded(share),
        "names": [p.name for p in never[:8]],
    } | told(OFTEN)  # fmt: skip
    if last is not None:
        at = places.of_op(last, case.meta)
        cut = _cut_line(case, never)
        where = f"{at.file}:{at.line}" + (
            f", and {cut.op} at {cut.file}:{cut.line} takes it out of the graph"
            if cut
            else ", and after it the way to the loss is cut (detach, numpy, argmax, or not used)"
        )
        at = cut or at
        return [
            Finding(
                "disconnected", "disconnected-parameters", 0.85, at,
                f"{len(never)} of {len(live)} parameters ({named}) are used but never get a gradient: what is computed from them "
                f"ends at {last.name} at {where}.",
                evidence, remedies("reconnect", at=at),
            )
        ]  # fmt: skip
    unseen = {i for g in case.graphs for i in g.probe.without_grad}
    if not wanted & unseen:
        return []  # this run does not use them at all: a spare head
    off = _off_line(case, wanted)
    place = Place(off.file, off.line, None, off.name) if off is not None else _made(never)
    return [
        Finding(
            "disconnected", "disconnected-parameters", 0.7, place,
            f"{len(never)} of {len(live)} parameters ({named}) are used with gradients switched off (no_grad) and never get one "
            f"in {optimizer.steps} steps, although {optimizer.name} is to train them.",
            evidence, remedies("reconnect", at=place),
        )
    ]  # fmt: skip


def _off_line(case: Case, wanted: set[int]) -> Cut | None:
    """Return where parameters were used with gradients switched off: what the loss then takes in, and not what copies them."""
    taken_in = [
        g.probe.cuts[o.cut]
        for g in case.graphs
        for i in g.reached
        for o in g.probe.ops[i].operands
        if o.cut is not None
    ]
    rest = [c for g in case.graphs for c in g.probe.cuts]
    return next((c for c in (*taken_in, *rest) if c.param in wanted and c.file is not None), None)


def _end_of_the_loose(graph: Graph, wanted: set[int]) -> Op | None:
    """Return the last operation of what is computed from `wanted` parameters without reaching the loss."""
    loose = _loose(graph, wanted)
    return graph.probe.ops[max(loose)] if loose else None


def _loose(graph: Graph, wanted: set[int]) -> set[int]:
    """Operations that are computed from `wanted` parameters and do not reach the loss."""
    reached = set(graph.reached)
    loose: set[int] = set()
    for op in graph.probe.ops:
        if op.index not in reached and any(
            o.param in wanted or (o.op is not None and o.op in loose) for o in op.operands
        ):
            loose.add(op.index)
    return loose


def _cut_line(case: Case, never: list[Param]) -> Place | None:
    """The line that takes what is computed from parameters out of the graph, where the loss does not see them otherwise."""
    wanted = {p.index for p in never}
    for graph in case.traced:
        loose = _loose(graph, wanted)
        cuts = [c for c in graph.probe.cuts if c.op in loose and c.file is not None]
        if cuts:
            cut = max(cuts, key=lambda c: c.op)
            first = next(c for c in cuts if c.op == cut.op)
            return Place(first.file, first.line, None, first.name)
    return None


def _stepped_loss(case: Case, optimizer: Optimizer) -> Place | None:
    """The line of the loss that was differentiated before this optimizer's step: what does not depend on its parameters."""
    graph = next((g for g in case.graphs if g.probe.optimizer == optimizer.index and g.probe.root is not None), None)
    if graph is None or graph.probe.root is None:
        return places.of_optimizer(optimizer, case.meta)
    return places.of_op(graph.probe.ops[graph.probe.root], case.meta)


def _orphans(case: Case) -> list[Param]:
    """Parameters (not plain tensors) that backward passes reach and no optimizer ever held."""
    held = {i for o in case.meta.optimizers for i in o.params}
    return [p for p in case.meta.params if p.in_graph and p.index not in held and p.is_parameter and p.requires_grad]


def _entries(p: Param) -> int:
    return math.prod(p.shape)


def _made(params: list[Param]) -> Place | None:
    lines = Counter((p.file, p.line) for p in params if p.file is not None)
    if not lines:
        return None
    (file, line), _ = lines.most_common(1)[0]
    return Place(file, line, params[0].name.rpartition(".")[0] or None, None)


def missing_zero_grad(case: Case) -> list[Finding]:
    """Gradients of the step before are still there when backward is called: zero_grad is never called."""
    found = []
    optimizers: list[Optimizer | None] = list(case.meta.optimizers) or [None]
    for optimizer in optimizers:
        index = optimizer.index if optimizer is not None else None
        probes = [g.probe for g in case.graphs if g.probe.optimizer == index and g.probe.step > 1]
        seen = [p for p in probes if p.carried is not None]
        carried = [p for p in seen if p.carried]
        if len(seen) < 2 or len(carried) < len(seen):
            continue
        if optimizer is not None:
            place: Place | None = Place(optimizer.file, optimizer.line, None, f"{optimizer.name}.step")
        else:  # parameters moved by hand
            place = places.of_call(case.meta, "backward") or losses.line(case.graphs[:1])
        found.append(
            Finding(
                "oscillating" if case.main.zigzag > TURNS or case.main.spike < SPIKE else "diverging", "missing-zero-grad", 0.95, place,
                f"The gradients of earlier steps are still in `.grad` at each backward call ({len(carried)} of {len(seen)} looked at): "
                f"they are never cleared, so every step follows the sum of all gradients so far.",
                {"probes_with_leftover": len(carried), "probes": len(seen), "leftover_norm": rounded(carried[-1].carried), "threshold_leftover_norm": 0}
                | told(gates=(TURNS, SPIKE)),
                remedies("zero-grad", at=place),
            )
        )  # fmt: skip
    return found


def symmetric(case: Case) -> list[Finding]:
    """Hidden layers whose units all have one and the same weights, at the start and still at the end."""
    graphs = [g for g in case.finite if g.layers]
    if not graphs:
        return []
    first, last = graphs[0], graphs[-1]
    equal: list[int] = []
    for index in first.layers:
        if first.probe.ops[index].kind == "elementwise":
            continue  # (each entry of such a weight works by itself: a scale of noise, a position's offset)
        for weight in first.weights_of(first.probe.ops[index]):
            state, later = first.states.get(weight), last.states.get(weight)
            shape = first.params[weight].shape
            same = (
                state is not None
                and state.alike is not None
                and state.alike > EQUAL_WEIGHTS
                and max(shape[:2]) >= UNITS
                and (len(shape) == 2 or shape[0] >= UNITS)
                and first.params[weight].requires_grad
            )
            still = later is None or later.alike is None or later.alike > STILL_ALIKE
            if same and still and weight not in equal:
                equal.append(weight)
    hidden = (
        [w for w in equal if w not in first.weights_of(first.probe.ops[first.last_layer])]
        if first.last_layer is not None
        else equal
    )
    if not hidden:
        return []
    param = first.params[hidden[0]]
    more = f"(and of {len(hidden) - 1} more) " if len(hidden) > 1 else ""
    place = places.of_init(param)
    return [
        Finding(
            "crawling", "symmetric-init", 0.93, place,
            f"All units of {param.name} {more}start with the same weights, get the "
            f"same gradient, and are still alike after {last.probe.step} steps: the layer acts as one unit.",
            {"layers_of_equal_units": len(hidden), "alike_first": 1.0, **told(EQUAL_WEIGHTS, gates=(STILL_ALIKE, UNITS)), "step_last": last.probe.step},
            remedies("break-symmetry", "rescale-init", at=place),
        )
    ]  # fmt: skip
