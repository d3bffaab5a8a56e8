"""Answers that are only pulled together: a loss that compares the network's answers with each other, and answers all alike.

Two views of one sample, an anchor and its positive, a prediction and the answer it predicts: such a loss is at its lowest where the
network gives one answer to everything, and only what holds different samples apart (negatives, a variance term, a gradient
that is stopped on one side of a predictor) keeps it from going there. Whether it went there is measured by how much the compared
answers of different samples differ, over their size (the standard deviation of the normalised output in Chen and He 2021,
fig. 2): what they begin with in a network of rectifiers is a quarter or more, and where it works it grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradientflow.depth.causes import losses, places
from gradientflow.depth.causes.addends import behind
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.samples import body
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Op, Operand, ValueStat

DRAWN = Limit("spread_over_size", 0.15, "chosen: any two answers have a cosine of 0.98; what works keeps 0.3 and more")
FELL = Limit(
    "spread_over_size_over_first", 0.7, "chosen: a third is gone of what it began with; where it works it grows"
)
SHRUNK = Limit(
    "spread_over_first",
    0.05,
    "chosen: a twentieth, of what is compared by its distance, which gets small with all there is",
)
LATE = Limit("last_probe", 100, "chosen: steps; what works has begun to draw answers apart")
ROUNDED = Limit(
    "rounding_of_a_variance", 1e-4, "chosen: rounding of single precision over a batch, and a decade to spare"
)
PROBES = Limit("probes", 4, "chosen: so that the last two are not the first")
_COMPARING = frozenset({
    "sub", "mul", "matmul", "mm", "bmm", "einsum", "cdist", "dist", "pairwise_distance", "cosine_similarity", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss", "cosine_embedding_loss",
})  # fmt: skip
_DISTANCES = _COMPARING - {"mul", "matmul", "mm", "bmm", "einsum", "cosine_similarity", "cosine_embedding_loss"}
_SCALE_FREE = frozenset(
    {"normalize", "div", "norm", "linalg_norm", "linalg_vector_norm", "vector_norm", "cosine_similarity"}
)


@dataclass
class Compared:
    """An operation of the loss that holds answers of the network against each other, and the layers that gave them."""

    op: Op
    answers: list[Op]
    by_distance: bool = False  # of the answers as they are, and not of their directions

    @property
    def apart(self) -> float:
        """How much the answers of different samples differ over their size, of the side where they differ most."""
        return max((a.value.spread or 0.0) / max(a.value.rms, 1e-300) for a in self.answers)

    @property
    def spread(self) -> float:
        return max(a.value.spread or 0.0 for a in self.answers)


def pulled_together(case: Case) -> list[Finding]:
    """The answers that a loss compares with each other have come to differ by a fraction of what they began with."""
    main = case.main.optimizer
    graphs = [g for g in case.finite if main is not None and g.probe.optimizer in (None, main.index)]
    if len(graphs) < PROBES or not case.main.measured:
        return []
    sides = [compared(graphs[i]) for i in (0, -2, -1)]
    if not all(sides):
        return []
    first, before, last = (max(s, key=lambda c: c.apart) for s in sides)
    place, step = places.of_op(last.op, case.meta), graphs[-1].probe.step
    fell = all(_drawn(c, first) for c in (before, last))
    never = step >= LATE and all(c.apart <= DRAWN and c.apart <= first.apart for c in (before, last))
    if not fell and not never:
        return []
    return [
        Finding(
            ("crawling" if case.stuck else "vanishing") if fell else "stalled", "collapse", 0.8 if fell else 0.6, place,
            f"{last.op.name} at {place.file}:{place.line} holds the network's answers against each other, and they are alike: "
            f"at step {step} different samples differ by {last.apart:.2g} of the answers' size, {first.apart:.2g} at step "
            f"{graphs[0].probe.step}. The loss ({case.main.start:.4g} to {case.main.end:.4g}) is lowest where all are equal, and nothing "
            f"keeps them apart.",
            {"step": step, "spread_over_size": rounded(last.apart), "spread_over_size_first": rounded(first.apart),
             "spread": rounded(last.spread), "spread_first": rounded(first.spread)}
            | told(DRAWN, FELL, gates=(SHRUNK, PROBES, LATE, ROUNDED)),
            remedies("hold-apart", at=place),
        )
    ]  # fmt: skip


def unproven(case: Case) -> str | None:
    """Say what keeps a fall of the loss from showing that anything is learnt: answers that are alike would do as well."""
    pairs = compared(case.finite[-1]) if case.finite else []
    last = max(pairs, key=lambda c: c.apart, default=None)
    if last is None or last.apart > DRAWN:
        return None
    return (
        f"the loss holds the network's answers against each other, and those of different samples differ by only {last.apart:.2g} of their "
        "size: one answer to everything would do as well"
    )


def _drawn(now: Compared, first: Compared) -> bool:
    if now.apart <= DRAWN and now.apart <= FELL * first.apart:
        return True
    return now.by_distance and now.spread <= SHRUNK * first.spread


def compared(graph: Graph) -> list[Compared]:
    """Return where a loss compares answers of the network with each other; nothing where it has another measure besides: targets,
    classes, or statistics of the batch, which may hold samples apart however far from the origin they all lie.
    """
    if not graph.joints:
        return []
    inside = body(graph)
    outer = [graph.probe.ops[i] for i in graph.reached if i not in inside]
    near = nearest(graph)
    pairs = [c for op in outer if op.name in _COMPARING and (c := _pair(graph, op, near)) is not None]
    if not any(op.name in _SCALE_FREE for op in outer):
        for pair in pairs:
            pair.by_distance = pair.op.name in _DISTANCES
    if not pairs or any(_of_the_batch(op, c) for op in outer for c in pairs):
        return []
    ours = {c.op.index for c in pairs}
    judged = (op for op in outer if op.kind == "loss" and not ours & behind(graph, op.index))
    aimed = any(outside(o) for op in judged for o in op.operands)
    aimed |= any(outside(o) for op in outer if op.name in ("add", "sub") for o in op.operands)  # (a reward)
    target = losses.target(graph)
    return [] if aimed or (target is not None and outside(target[1])) else pairs


def outside(operand: Operand) -> bool:
    """Whether an operand is data that the network did not make itself, and no mask of two values."""
    if operand.op is not None or operand.param is not None or operand.own or operand.mask:
        return False
    return operand.value is None or (operand.value.numel > 1 and not _two_valued(operand.value))


def _two_valued(value: ValueStat) -> bool:
    """Whether a tensor holds two numbers only: just then its variance is (mean − min)(max − mean) (Bhatia and Davis 2000)."""
    most = (value.mean - value.min) * (value.max - value.mean)
    variance = value.std**2
    return abs(most - variance) <= ROUNDED * variance


def _of_the_batch(op: Op, pair: Compared) -> bool:
    """Whether an operation of the loss takes a statistic over the rows of the compared answers: one number for each of their columns."""
    width = pair.answers[0].value.shape[-1]
    shape = [n for n in op.value.shape if n != 1]
    return op.kind == "norm" or (op.kind == "reduce" and shape == [width]) or shape == [width, width]


def _pair(graph: Graph, op: Op, near: Sequence[frozenset[int]]) -> Compared | None:
    sides = [side for o in op.operands if (side := _side(graph, o, near)) is not None]
    if len(sides) <= 1:
        return None
    answers = {a.index: a for side in sides for a in side}
    rows = max((a.value.shape[0] for a in answers.values()), default=0)
    if not answers or not any(_is_trained(graph, a) for a in answers.values()):
        return None
    one, other = ({a.index for a in side} for side in sides[:2])
    if one == other:  # every sample against every other
        ok = op.value.shape[:2] == [op.value.shape[0]] * 2 and op.value.shape[0] >= rows
    else:
        ok = not one & other and (not other or not one or bool(_weights(graph, one) & _weights(graph, other)))
    return Compared(op, list(answers.values())) if ok else None


def _side(graph: Graph, operand: Operand, near: Sequence[frozenset[int]]) -> list[Op] | None:
    """Return the layers that gave one side of a comparison; none of an answer whose making was not seen; None of what is no answer."""
    if operand.op is not None:
        shape = operand.shape or graph.probe.ops[operand.op].value.shape
        wide = len(shape) > 1 and shape[-1] > 1
        return [graph.probe.ops[i] for i in sorted(near[operand.op])] or None if wide else None
    if not operand.own or operand.value is None or len(operand.value.shape) <= 1 or operand.value.shape[-1] <= 1:
        return None
    cut = graph.probe.cuts[operand.cut] if operand.cut is not None else None
    return [graph.probe.ops[i] for i in sorted(near[cut.op])] if cut is not None and cut.op >= 0 else []


def nearest(graph: Graph) -> list[frozenset[int]]:
    """Return, for each operation, the layers nearest behind it (itself, where it is one) whose rows were held against each other."""
    none: frozenset[int] = frozenset()
    found: list[frozenset[int]] = []
    for op in graph.probe.ops:
        if op.value.spread is not None and any(o.param is not None for o in op.operands):
            found.append(frozenset((op.index,)) if op.value.shape[-1] > 1 else none)
            continue
        behind_it = {found[o.op] for o in op.operands if o.op is not None and o.op < len(found)} - {none}
        found.append(next(iter(behind_it)) if len(behind_it) == 1 else none.union(*behind_it))
    return found


def _weights(graph: Graph, indices: set[int]) -> set[int]:
    return {
        o.param for i in indices for j in behind(graph, i) for o in graph.probe.ops[j].operands if o.param is not None
    }


def _is_trained(graph: Graph, layer: Op) -> bool:
    held = [graph.params[o.param] for o in layer.operands if o.param is not None]
    return any(p.optimizer is not None or (p.requires_grad and not graph.meta.optimizers) for p in held)
