"""Answers that have become one and the same for every sample: embeddings in one point, a loss that rests on its margin."""

from __future__ import annotations

import math

from gradientflow.depth.causes import losses, places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Op

ALIKE = Limit("spread_over_size", 0.03, "chosen: samples differ by a thirtieth of what they have in common")
FLAT = Limit("spread_over_first", 0.01, "chosen: a hundredth of what they differed by at the start")


def all_alike(case: Case) -> list[Finding]:
    """Compare what the last layer puts out for different samples, at the first probe and at the last two."""
    main = case.main.optimizer
    if main is None:
        return []
    graphs = [g for g in case.finite if _answer(g) is not None and g.probe.optimizer in (None, main.index)]
    if len(graphs) <= 2 or losses.target(graphs[-1]) is not None:
        return []
    first, *_, before, last = (op for g in graphs if (op := _answer(g)) is not None)
    begun = first.value.spread or 0.0
    if begun <= 0 or _site(first) != _site(last) or not (_flat(before, begun) and _flat(last, begun)):
        return []
    if (first.value.spread or 0.0) <= ALIKE * first.value.rms:
        return []  # they never differed
    place, made = places.of_op(last, case.meta), places.of_optimizer(main, case.meta)
    step = graphs[-1].probe.step
    words = (
        f"At step {step} the last layer puts out the same for every sample: samples differ by {last.value.spread:.2g}, "
        f"{begun:.2g} at step {graphs[0].probe.step}, around values of {last.value.rms:.2g}"
    )
    level = f", and the loss stands at {case.main.end:.4g}" if math.isfinite(case.main.end) else ""
    thrown = max((s.update / s.weight for s in case.main.steps[:20] if s.update and s.weight), default=0.0)
    return [
        Finding(
            "crawling" if case.stuck else "vanishing", "collapse", 0.8, place,
            f"{words}{level}. What is the same for all has no gradient that could tell samples apart.",
            {"step": step, "spread": rounded(last.value.spread), "spread_first": rounded(begun),
             "spread_over_first": rounded((last.value.spread or 0.0) / begun),
             "spread_over_size": rounded((last.value.spread or 0.0) / max(last.value.rms, 1e-300)),
             "largest_relative_update": rounded(thrown)} | told(ALIKE, FLAT),
            [*remedies("hold-apart", at=place), *remedies("lower-step", "warmup", at=made)],
        )
    ]  # fmt: skip


def _answer(graph: Graph) -> Op | None:
    """Return the layer nearest the loss, where it was measured by how much its rows differ."""
    op = graph.probe.ops[graph.last_layer] if graph.last_layer is not None else None
    return op if op is not None and op.value.spread is not None else None


def _flat(op: Op, begun: float) -> bool:
    spread = op.value.spread or 0.0
    return spread <= ALIKE * op.value.rms and spread <= FLAT * begun


def _site(op: Op) -> tuple[str | None, int | None, str | None]:
    return op.file, op.line, op.module
