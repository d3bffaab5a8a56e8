"""The verdict: every rule is asked, findings are ranked, and the budget is taken where the top finding looked."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gradientflow.depth.causes import (
    alike,
    altered,
    attention,
    averaged,
    beside,
    birth,
    budget,
    calm,
    certificates,
    collapse,
    data,
    dead,
    drowned,
    finite,
    flow,
    hidden,
    lost,
    noise,
    nought,
    output,
    passes,
    pieces,
    pulled,
    recurrence,
    remade,
    rewritten,
    samples,
    schedule,
    several,
    signs,
    singular,
    stalled,
    steps,
    terms,
    way,
    wiring,
)
from gradientflow.depth.causes.case import Case, Rule, rounded
from gradientflow.depth.causes.heard import heard
from gradientflow.limits import Limit
from gradientflow.records import Budget, Finding, Loss, Run, Verdict, Watch

T = TypeVar("T")
SURE_ENOUGH = Limit("confidence", 0.5, "chosen: a finding is told where it is more likely right than wrong")

# Why a cause of this kind stands behind one that explains more.
BEHIND = {
    "step-too-large": "a loss that jumps or stands still is what the cause above leads to by itself",
    "step-too-small": "a loss that stands still is what the cause above leads to by itself",
    "unscaled-input": "the scale of the data does harm through the cause above",
    "unscaled-target": "the scale of the targets does harm through the cause above",
    "dead-units": "units that give zero are what the cause above leaves behind",
    "rounding": "updates that do not land are what the cause above leaves of them",
    "small-batch-noise": "the loss would not fall without noise either",
}

# What explains more comes first: a wire that is loose, or a value that is not finite, explains whatever the loss does;
# a gradient lost in the network at the first step explains a loss that does not move; the step size comes after those.
RULES: tuple[tuple[Rule, float], ...] = (
    (wiring.missing_zero_grad, 0.30),
    (birth.not_finite, 0.25),
    (finite.born_in_a_step, 0.25),
    (passes.out_of_step, 0.25),
    (altered.altered, 0.24),
    (remade.forgetful, 0.12),
    (rewritten.rewritten, 0.23),
    (beside.beside, 0.23),
    (wiring.symmetric, 0.22),
    (attention.attention, 0.21),
    (samples.paired, 0.22),
    (samples.axis_taken, 0.22),
    (samples.mixed, 0.22),
    (averaged.ahead_of_the_square, 0.22),
    (terms.zero_derivative, 0.21),
    (nought.times_nought, 0.22),
    (terms.step_function, 0.21),
    (terms.deaf_function, 0.21),
    (wiring.disconnected, 0.20),
    (terms.severed_term, 0.20),
    (terms.one_element, 0.20),
    (data.bad_batch, 0.20),
    (data.over_regularised, 0.20),
    (singular.near, 0.19),
    (signs.wrong_sign, 0.18),
    (recurrence.recurrence, 0.15),
    (output.output_activation, 0.14),
    (dead.dead, 0.12),
    (flow.depth, 0.10),
    (collapse.collapsed, 0.11),
    (hidden.hidden, 0.10),
    (pieces.cut_in_pieces, 0.16),
    (alike.all_alike, 0.05),
    (pulled.pulled_together, 0.10),
    (drowned.drowned, 0.10),
    (data.unscaled_target, 0.06),
    (data.unscaled, 0.06),
    (schedule.schedule_ended, 0.13),
    (lost.swallowed, 0.02),
    (steps.step_size, 0.05),
    (noise.noisy, 0.0),
)


def judge(run: Run) -> Verdict:
    """Return the verdict on a run, finished or not. Where judging itself fails, the verdict says so and claims nothing.

    Args:
        run: everything seen.

    Returns:
        The verdict: findings ranked by what explains most, the budget, and what watching cost. A rule that fails is
        told in `watch.errors` and does not take the others down; so is what of a damaged record was left out.
    """
    errors = [n.text for n in run.notes if n.kind in ("watcher", "record", "replay")]
    try:
        return _judged(run, errors)
    except Exception as problem:
        told = f"the verdict could not be made: {type(problem).__name__}: {problem}"
        return Verdict(
            script=run.meta.script, steps=run.meta.steps, loss=Loss(), symptom="not-measured", findings=[],
            budget=Budget(note=told), watch=Watch(len(run.probes), 0.0, [*errors, told]), summary=f"No verdict: {told}.",
        )  # fmt: skip


def _judged(run: Run, errors: list[str]) -> Verdict:
    case = Case(run)
    ranked: list[tuple[float, float, Finding]] = []
    for rule, weight in RULES:
        if rule is wiring.disconnected and calm.damaged(run):  # what is not in the record may have been in the script
            continue
        try:
            found = [f for f in rule(case) if f.confidence >= SURE_ENOUGH]
            _part("what the script was warned of", errors, partial(heard, found, run.meta.warned), None)
            ranked.extend((f.confidence + weight, weight, f) for f in found)
        except Exception as problem:
            errors.append(f"rule {rule.__name__} failed: {type(problem).__name__}: {problem}")
    ranked.sort(key=lambda entry: -entry[0])
    ranked = _once(ranked)
    findings = [f for _, _, f in ranked]
    checked = certificates.issue(case, findings, errors)
    if not findings:  # nothing was found: that is not all it takes to be healthy
        left = _part("whether all is finite", errors, lambda: finite.unexplained(case), None)
        left = left or _part("whether it learns", errors, lambda: stalled.stalled(case, checked), None)
        findings = [left] if left is not None else []
        checked = certificates.issue(case, findings, errors) if left is not None else checked
    for _, weight, finding in ranked[1:]:
        finding.reason = finding.reason or _reason(ranked[0], weight, finding)
    losses = run.losses_of(case.main.optimizer.index) if case.main.optimizer else []
    losses = losses or [s.loss for s in run.steps if s.loss is not None]
    # A network of which a damaged record does not know the layers any more is not called healthy.
    lost = calm.damaged(run) and not any(g.joints for g in case.graphs)
    measured = bool(case.graphs and run.steps) and not lost
    symptom = findings[0].symptom if findings else ("healthy" if measured else "not-measured")
    chosen = _part("the budget", errors, lambda: _budget(case, findings), Budget(note="it could not be worked out"))
    script_time = max(run.meta.elapsed - run.meta.overhead, 1e-9)
    verdict = Verdict(
        script=run.meta.script,
        steps=run.meta.steps or len(run.steps),
        loss=Loss(losses[0], losses[-1]) if losses else _probe_loss(run),
        symptom=symptom,
        findings=[_clean(f) for f in findings],
        budget=chosen,
        watch=Watch(len(run.probes), round(run.meta.overhead / script_time, 4), errors),
        certificates=checked if measured else [],
        step_budgets=_part("the way to the step", errors, lambda: way.step_budgets(case), []),
        warned=list(run.meta.warned),
    )
    verdict.optimizers = _part("what each optimizer did", errors, lambda: several.each(case, chosen.step), [])
    verdict.budget = several.main(verdict.optimizers, chosen, findings)
    _part("what took most", errors, lambda: _thieves(verdict), None)
    otherwise = "Nothing wrong was found" if measured else "Nothing can be said"
    verdict.summary = (
        findings[0].summary
        if findings
        else _part("the summary", errors, lambda: calm.sentence(case, verdict), f"{otherwise}.")
    )
    _part("the marks of the budget", errors, lambda: _mark(verdict, case), None)
    return verdict


def _once(ranked: list[tuple[float, float, Finding]]) -> list[tuple[float, float, Finding]]:
    """Leave out what says again what a finding ahead of it says: the same symptom and cause at the same line."""
    first: dict[object, tuple[float, float, Finding]] = {}
    for entry in ranked:
        f = entry[2]
        first.setdefault((f.symptom, f.cause, f.place and (f.place.file, f.place.line)), entry)
    return list(first.values())


def _part(name: str, errors: list[str], make: Callable[[], T], otherwise: T) -> T:
    """A part of the verdict that is no rule; where it fails it costs itself, and `errors` says so."""
    try:
        return make()
    except Exception as problem:
        errors.append(f"{name} could not be worked out: {type(problem).__name__}: {problem}")
        return otherwise


def _reason(first: tuple[float, float, Finding], weight: float, other: Finding) -> str:
    """Say why a finding stands behind the first."""
    top = first[2]
    if weight < first[1] and (other.cause in BEHIND or other.confidence >= top.confidence):
        return BEHIND.get(other.cause, f"{top.cause} explains more: it would do this harm whatever else is mended")
    if other.cause == top.cause:
        return "the same cause at another place"
    return f"its evidence is weaker (confidence {100 * other.confidence:.0f} %, the first has {100 * top.confidence:.0f} %)"


def _probe_loss(run: Run) -> Loss:
    losses = [p.loss for p in run.probes if p.loss is not None]
    return Loss(losses[0], losses[-1]) if losses else Loss()


def _budget(case: Case, findings: list[Finding]) -> Budget:
    graphs = case.finite or case.graphs
    if not graphs:
        return Budget(note="no backward pass was traced")
    step = findings[0].evidence.get("step") if findings else None
    graph = next((g for g in case.graphs if g.probe.step == step and g.path), None)
    if graph is None:
        graph = next((g for g in graphs if g.path), graphs[0])
    return budget.build(graph)


def _mark(verdict: Verdict, case: Case) -> None:
    """Put the symptom's mark on the budget rows that findings blame."""
    for finding in verdict.findings[:3]:
        place = finding.place
        if place is None or finding.symptom not in ("vanishing", "exploding", "dead", "not-finite"):
            continue
        for row in [r for b in (verdict.budget, *(o.budget for o in verdict.optimizers)) for r in b.by_op]:
            if row.mark is None and row.kind != "branch" and row.line == place.line and row.file == place.file:
                if place.op is None or place.op == row.name:
                    row.mark = finding.symptom


def _thieves(verdict: Verdict) -> None:
    """Say in the first finding which operation took most, and which kind of operation took most in sum."""
    budget = verdict.budget
    if not verdict.findings or verdict.findings[0].symptom not in ("vanishing", "exploding") or not budget.everywhere:
        return
    first, worst = verdict.findings[0], budget.worst_op
    kind = budget.everywhere[0 if first.symptom == "vanishing" else -1]
    first.evidence |= {
        "most_by_kind": kind.name,
        "most_by_kind_decades": rounded(kind.decades),
        "most_by_kind_count": kind.count,
    }
    if worst is not None:
        first.evidence |= {
            "most_by_one": f"{worst.name} at {(worst.file or '').rpartition('/')[2]}:{worst.line}",
            "most_by_one_decades": rounded(worst.decades),
        }


def _clean(finding: Finding) -> Finding:
    finding.evidence = {k: _plain(v) for k, v in finding.evidence.items() if v is not None}
    finding.confidence = round(finding.confidence, 2)
    return finding


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value) if math.isfinite(value) else str(value)
    return value
