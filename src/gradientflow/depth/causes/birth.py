"""Where something that is not finite was born: forward first, then on the way back; the operation, not its victims."""

from __future__ import annotations

import math
from typing import Any

from gradientflow.depth.causes import mends, places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.mends import BEHIND, EXPONENT
from gradientflow.depth.causes.remedies import remedies
from gradientflow.limits import Limit, told
from gradientflow.ops import GROWING, LARGEST, OVERFLOWING, PLACED, PRONE
from gradientflow.records import ABSENT, Finding, Op, Operand, Place

GROWN = Limit(
    "grown_before", 1e3, "chosen: times the first loss or gradient; a run that diverges ends in an overflow somewhere"
)
REPLACED = Limit("update_that_replaces", 0.9, "chosen: of the weights, in one of the last five steps")
HUGE = Limit("operand_of_a_quotient", 1e30, "chosen: near the largest float32, 3.4e38: ∞/∞, and not 0/0")
HALF_WAY = Limit("share_of_decades", 0.5, "chosen: an exponential doubles its decades where its operand doubles")
LARGE = Limit("decades_last", 1.0, "chosen: values above 10 that grow from probe to probe")


def not_finite(case: Case) -> list[Finding]:
    """Name the birth of the first NaN or Inf that reached the loss or a gradient."""
    step = case.first_bad_step
    if step is None:
        return []
    graph = next((g for g in case.graphs if not g.finite and g.probe.step == step), None)
    if graph is not None and not any(s.nonfinite for s in graph.probe.params):
        found = _forward(case, graph, step) or _backward(case, graph, step)
        if found is not None:
            return [found]
    return _unprobed(case, step)


def _forward(case: Case, graph: Graph, step: int) -> Finding | None:
    ops = graph.probe.ops
    masked: set[int] = set()  # operations that only pass on an Inf that was placed on purpose (a mask)
    for index in graph.reached:
        op = ops[index]
        if op.value.inf and (op.name in PLACED or any(o.op in masked for o in op.operands) or _placed_data(op)):
            masked.add(index)
        data = next(
            (o for o in op.operands if o.op is None and o.param is None and o.value and o.value.nonfinite), None
        )
        if data is not None and data.value is not None and op.name not in PLACED and op.kind != "attention":
            if data.value.nan or op.kind in ("linear", "conv", "loss", "norm", "embedding"):
                return _bad_data(case, graph, op, data, step)
        value = op.value
        inherited = any(o.op is not None and _spoils(ops[o.op], masked) for o in op.operands)
        if _spoils(op, masked) and not inherited:
            kind = "NaN" if value.nan else "Inf"
            return _born(case, graph, op, step, f"its output has {value.nan or value.inf} {kind}", "forward")
    return None


def _spoils(op: Op, masked: set[int]) -> bool:
    """Whether an operation's output carries something not finite that arithmetic made (not a mask that was placed)."""
    return bool(op.value.nan or (op.value.inf and op.index not in masked))


def _placed_data(op: Op) -> bool:
    """Whether an elementwise operation takes its Inf from data: a mask that is added to scores."""
    return op.kind in ("elementwise", "attention") and any(
        o.op is None and o.param is None and o.value is not None and o.value.inf and not o.value.nan
        for o in op.operands
    )


def _backward(case: Case, graph: Graph, step: int) -> Finding | None:
    ops = graph.probe.ops
    for index in reversed(graph.reached):
        op = ops[index]
        if op.grad is None or op.grad.nonfinite:
            continue
        sent = [o for o in op.operands if o.grad is not None and o.grad.nonfinite]
        if sent and sent[0].grad is not None:
            bad = sent[0].grad
            kind = "NaN" if bad.nan else "Inf"
            text = f"a finite gradient came in and {bad.nan or bad.inf} {kind} went out to its input"
            return _born(case, graph, op, step, text, "backward")
    return None


def _born(case: Case, graph: Graph, op: Op, step: int, how: str, way: str) -> Finding:
    place = places.of_op(op, case.meta)
    evidence: dict[str, Any] = {"step": step, "pass": way, "operation": op.name, "rule": "first that is not finite"}
    operand = _operand(graph, op)
    reading = ""
    if operand is not None:
        evidence |= {"operand_min": rounded(operand.min), "operand_max": rounded(operand.max)}
        if operand.absmin is not None:
            evidence["smallest_operand"] = rounded(operand.absmin)
        reading = f" (its operand runs from {operand.min:.4g} to {operand.max:.4g})"
    grown = growth(case, step)
    overflow = op.value.inf > 0 and op.name in OVERFLOWING
    if op.name == "pow" and op.value.inf and operand is not None and operand.absmax > 1.0:
        overflow = True
    if op.name in ("div", "reciprocal") and op.value.nan and operand is not None and operand.absmax > HUGE:
        overflow = True
    cause = "overflow" if overflow else "singular-op"
    mend = mends.of(graph, op, operand, place)
    where = f"{op.name} at {place.file}:{place.line}"
    summary = f"The first value that is not finite is born at {where} on step {step}, in the {way} pass: {how}{reading}{mend.reading}."
    evidence |= {"grown_before": rounded(grown)} | told(GROWN, gates=(REPLACED, HUGE, EXPONENT))
    confidence = (
        0.97 if grown < GROWN else 0.55
    )  # a run that diverges ends in an overflow somewhere: then that is no cause
    return Finding("not-finite", cause, confidence, place, summary, evidence, mend.remedies)


def _operand(graph: Graph, op: Op) -> Any:
    with_value = [o.value for o in op.operands if o.value is not None]
    if op.name in ("div",) and len(with_value) > 1:
        return min(with_value, key=lambda v: v.absmin if v.absmin is not None else math.inf)
    if with_value and op.kind == "singular":
        return with_value[0]
    producers = [graph.probe.ops[o.op].value for o in op.operands if o.op is not None]
    return producers[0] if producers else (with_value[0] if with_value else None)


def _bad_data(case: Case, graph: Graph, op: Op, data: Operand, step: int) -> Finding:
    place = places.of_data(op, data, case.meta)
    if data.born is not None and data.value is not None:
        place = Place(data.file, data.line, None, data.born)
        return Finding(
            "not-finite", "singular-op", 0.97, place,
            f"The first value that is not finite is born at {data.born} at {place.file}:{place.line} on step {step}, in the forward pass, "
            f"from data that was finite: {data.value.nan or data.value.inf} {'NaN' if data.value.nan else 'Inf'} (a denominator of 0, "
            f"or a root or logarithm of what it is not defined for).",
            {"step": step, "pass": "forward", "operation": data.born, "rule": "first that is not finite",
             "nonfinite_entries": data.value.nan + data.value.inf},
            remedies("clamp-op", at=place),
        )  # fmt: skip
    count = data.value.nan + data.value.inf if data.value is not None else 0
    late = mends.masked_behind(graph, op)
    masked = (
        f" The mask at {(late.file or '').rpartition('/')[2]}:{late.line} comes too late for them: NaN times 0 is NaN. Leave them out "
        f"before the loss (`answer[mask]`, `target[mask]`)."
        if late is not None
        else ""
    )
    return Finding(
        "not-finite", "bad-batch", 0.97, place,
        f"The data of step {step} (from {place.file}:{place.line}) already holds {count} values that are not finite when it "
        f"enters {op.module or op.name}; no operation of the model made them.{masked}",
        {"step": step, "pass": "data", "nonfinite_entries": count, "threshold_nonfinite_entries": 0}
        | told(gates=(BEHIND,)),
        remedies(*(["mask-first"] if masked else []), "drop-bad-batch", at=place),
    )  # fmt: skip


def growth(case: Case, step: int) -> float:
    """Return how many times loss or gradient had grown before the step (1: not at all; 1000 at least where the weights
    were thrown away by an update as large as themselves).
    """
    trend = case.main
    before = [s for s in trend.steps if s.step < step]
    losses = [abs(s.loss) for s in before if s.loss is not None and math.isfinite(s.loss)]
    grads = [s.grad for s in before if s.grad is not None and math.isfinite(s.grad)]
    growth = 1.0
    for series in (losses, grads):
        if len(series) >= 2 and series[0] > 0:
            growth = max(growth, max(series) / series[0])
    thrown = [s.update / s.weight for s in before[-5:] if s.update and s.weight]
    if any(not math.isfinite(t) or t >= REPLACED for t in thrown):  # the last steps replaced the weights
        growth = max(growth, GROWN)
    return growth


def _overflowing(case: Case, step: int) -> Finding | None:
    """The operation whose values were on their way out of their number format: its largest value, followed from probe to
    probe and carried on to the step that was not traced.
    """
    graphs = [g for g in case.finite if g.probe.step < step][-2:]
    if len(graphs) < 2:
        return None
    before, last = graphs
    span = last.probe.step - before.probe.step
    ahead = (step - last.probe.step) / span
    earlier = _by_site(before)
    for key, op in _by_site(last).items():
        old, limit = earlier.get(key), LARGEST.get(op.value.dtype)
        if old is None or limit is None or op.name not in OVERFLOWING or min(old.value.absmax, op.value.absmax) <= 1.0:
            continue
        a, b = math.log10(old.value.absmax), math.log10(op.value.absmax)
        if b <= a or b < LARGE:
            continue
        coming = max(b + (b - a) * ahead, b * (b / a) ** ahead)  # a power, or a power of a power
        if coming < math.log10(limit):
            continue
        place = places.of_op(op, case.meta)
        return Finding(
            "not-finite", "overflow", 0.75, place,
            f"The values of {op.name} at {place.file}:{place.line} reach {op.value.absmax:.3g} at step {last.probe.step} (10^{a:.2g} at "
            f"step {before.probe.step}) and at that rate leave {op.value.dtype} (above {limit:.3g}) by step {step}, where the first "
            f"value that is not finite was seen. (That step was not traced; `--probe-every 1` would show the birth itself.)",
            {"step": step, "traced_step": last.probe.step, "operation": op.name, "largest_value": rounded(op.value.absmax),
             "decades_before": rounded(a), "decades_last": rounded(b), "decades_coming": rounded(coming),
             "threshold_decades_coming": rounded(math.log10(limit))} | told(LARGE, gates=(GROWN, REPLACED)),
            remedies("clamp-op", at=place),
        )  # fmt: skip
    return None


def _towering(case: Case, graph: Graph, step: int) -> Finding | None:
    """An exponential that stood more than half way to the largest number in the last traced step, in decades."""
    reached = [graph.probe.ops[i] for i in graph.reached]
    growing = [op for op in reached if op.name in GROWING and op.value.absmax > 0]
    if not growing:
        return None
    op = max(growing, key=lambda op: op.value.absmax)
    limit = LARGEST.get(op.value.dtype)
    if limit is None or math.log10(op.value.absmax) < HALF_WAY * math.log10(limit):
        return None
    place = places.of_op(op, case.meta)
    return Finding(
        "not-finite", "overflow", 0.7, place,
        f"At step {step} the first value that is not finite was seen, in a step that was not traced. {op.name} at {place.file}:{place.line} "
        f"stood at {op.value.absmax:.3g} in step {graph.probe.step}: {math.log10(op.value.absmax):.0f} of the {math.log10(limit):.0f} decades "
        f"that {op.value.dtype} holds, which a single batch can exceed. `--probe-every 1` would show the birth itself.",
        {"step": step, "traced_step": graph.probe.step, "operation": op.name, "largest_value": rounded(op.value.absmax),
         "share_of_decades": rounded(math.log10(op.value.absmax) / math.log10(limit))}
        | told(HALF_WAY, gates=(GROWN, REPLACED)),
        mends.of(graph, op, None, place).remedies,
    )  # fmt: skip


def _by_site(graph: Graph) -> dict[tuple[str | None, int | None, str, int], Op]:
    """Return operations by line, name and how many times that line ran before."""
    seen: dict[tuple[str | None, int | None, str], int] = {}
    found = {}
    for index in graph.reached:
        op = graph.probe.ops[index]
        site = (op.file, op.line, op.name)
        seen[site] = seen.get(site, -1) + 1
        found[*site, seen[site]] = op
    return found


def _unprobed(case: Case, step: int) -> list[Finding]:
    """The step was not traced op by op: bracket the birth by which parameters have a gradient that is not finite."""
    grown = growth(case, step)
    if grown >= GROWN or not case.finite:
        return []
    record = next((s for s in case.run.steps if s.step == step), None)
    forward = record is not None and record.loss is not None and not math.isfinite(record.loss)
    overflow = _overflowing(case, step)
    if overflow is not None:
        return [overflow]
    graph = case.finite[-1]
    grown_most = _towering(case, graph, step)
    if grown_most is not None:
        return [grown_most]
    suspects = [graph.probe.ops[i] for i in graph.reached if graph.probe.ops[i].name in PRONE]
    suspects = _bracketed(case, graph, suspects, step)
    suspects.sort(key=_nearness)
    inputs = case.inputs(graph)
    if not suspects:
        if not forward or not inputs:
            return []
        place = places.of_data(inputs[0][0], inputs[0][1], case.meta)
        return [
            Finding(
                "not-finite", "bad-batch", 0.7, place,
                f"At step {step} the loss was suddenly not finite, with weights, gradients and losses in their usual range "
                f"until then and no singular operation in the model: the batch itself must hold a value that is not finite. "
                f"(That step was not traced; `--probe-every 1` would show it.)",
                {"step": step, "grown_before": rounded(grown), "singular_operations": 0} | told(GROWN, gates=(REPLACED,)),
                remedies("drop-bad-batch", at=place),
            )
        ]  # fmt: skip
    op = suspects[0]
    place = places.of_op(op, case.meta)
    return [
        Finding(
            "not-finite", "singular-op", 0.6, place,
            f"At step {step} {'the loss' if forward else 'a gradient'} was suddenly not finite, out of the usual range; that "
            f"step was not traced. The operation nearest its singular point before that is {op.name} at "
            f"{place.file}:{place.line}. `--probe-every 1` would show the birth itself.",
            {"step": step, "grown_before": rounded(grown), "traced_step": graph.probe.step}
            | told(GROWN, gates=(REPLACED,)),
            remedies("clamp-op", "drop-bad-batch", at=place),
        )
    ]  # fmt: skip


def _bracketed(case: Case, graph: Graph, suspects: list[Op], step: int) -> list[Op]:
    """Keep the suspects that explain which parameters went bad: a birth spoils what lies behind it and nothing else."""
    norms = next((n for n in case.run.norms if n.step == step), None)
    if norms is None:
        return suspects
    spoilt = {p for p, g in zip(norms.params, norms.grad, strict=False) if g != ABSENT and not math.isfinite(g)}
    sound = {p for p, g in zip(norms.params, norms.grad, strict=False) if g != ABSENT and math.isfinite(g)}
    if not spoilt or not sound:
        return suspects
    behind = _parameters_behind(graph)
    kept = [op for op in suspects if spoilt <= behind[op.index] and not sound & behind[op.index]]
    return kept or [op for op in suspects if spoilt <= behind[op.index]] or suspects


def _parameters_behind(graph: Graph) -> dict[int, set[int]]:
    """Return, for each operation, the parameters its output depends on."""
    behind: dict[int, set[int]] = {}
    for index in graph.reached:
        found: set[int] = set()
        for operand in graph.probe.ops[index].operands:
            if operand.param is not None:
                found.add(operand.param)
            elif operand.op is not None:
                found |= behind.get(operand.op, set())
        behind[index] = found
    return behind


def _nearness(op: Op) -> tuple[int, float]:
    order = PRONE.index(op.name)
    values = [o.value.absmin for o in op.operands if o.value is not None and o.value.absmin is not None]
    return (order, min(values, default=math.inf))
