"""Samples that get mixed up: answers paired with the wrong targets by broadcasting, an axis taken for another, one sample's
output that hangs on the other samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from gradientflow.depth.causes import places
from gradientflow.depth.causes.addends import behind
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS_WELL
from gradientflow.limits import told
from gradientflow.records import Finding, Isolation, Op, Operand

_COMPARING = frozenset({"sub", "mul", "div"})
_ON_PURPOSE = (
    "None",
    "newaxis",
    "unsqueeze",
    "expand",
    ".T",
    ".mT",
    "outer",
    "[..., ",
)  # a line that says it makes pairs


@dataclass
class Pairing:
    """Two operands with N entries each, compared N × N times."""

    graph: Graph
    op: Op
    answer: list[int]
    target: list[int]


def paired(case: Case) -> list[Finding]:
    """A loss that compares (N, 1) with (N,): each answer with every target, so that the best answer is their mean."""
    found = [p for g in case.finite for p in _pairings(case, g)]
    if not found:
        return []
    last = found[-1]
    op, place = last.op, places.of_op(last.op, case.meta)
    if not last.op.inside:  # (a ready-made loss: what is paired stands where it is called)
        place = type(place)(op.file, op.line, op.module, op.name)
    n = prod(last.answer)
    column = "answer" if len(last.answer) > len(last.target) else "target"
    learns = case.main.measured and case.main.progress > LEARNS_WELL
    return [
        Finding(
            "crawling", "mixed-samples", 0.7 if learns else 0.96, place,
            f"{op.name} at {place.file}:{place.line} compares answers of shape {_shape(last.answer)} with targets of shape "
            f"{_shape(last.target)}: broadcasting pairs each of {n} answers with all {n} targets ({n} × {n}), and the best such answer "
            f"is the targets' mean.",
            {"step": last.graph.probe.step, "answer_shape": last.answer, "target_shape": last.target, "pairs": n * n, "samples": n,
             "column": column, "probes_with_it": len({p.graph.probe.step for p in found})} | told(gates=(LEARNS_WELL,)),
            remedies("match-shapes", at=place),
        )
    ]  # fmt: skip


def _shape(shape: list[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _pairings(case: Case, graph: Graph) -> list[Pairing]:
    """Return the comparisons behind the last layer whose operands have equally many entries and fewer than the result."""
    layers = body(graph)
    found = []
    for index in graph.reached:
        op = graph.probe.ops[index]
        if index in layers or not (op.kind == "loss" or op.name in _COMPARING):
            continue
        shapes = [(o, s) for o in op.operands if (s := _of(graph, o)) is not None]
        if len(shapes) != 2 or not any(o.op is not None for o, _ in shapes):
            continue
        (a, one), (b, other) = shapes
        if a.op is None:
            (a, one), (b, other) = shapes[::-1]
        if (
            (len(one) == len(other) and op.kind != "loss")
            or not _crosswise(one, other)
            or _constant(b)
            or _same_source(graph, a, b)
        ):
            continue
        if op.kind != "loss" and (_said(case, op) or _raised(graph, a) or _makes_pairs(graph, layers)):
            continue
        found.append(Pairing(graph, op, one, other))
    return found


def body(graph: Graph) -> set[int]:
    """Return the layers and all that they are computed from: what is left is the loss."""
    return behind(graph, *graph.joints)


def _of(graph: Graph, operand: Operand) -> list[int] | None:
    if operand.op is not None:
        return operand.shape or graph.probe.ops[operand.op].value.shape
    return operand.value.shape if operand.value is not None and operand.param is None else None


def _crosswise(one: list[int], other: list[int]) -> bool:
    """Whether two shapes hold equally many entries, and broadcast to more than either."""
    if prod(one) != prod(other) or prod(one) <= 1:
        return False
    rank = max(len(one), len(other))
    a, b = ([1] * (rank - len(s)) + s for s in (one, other))
    if any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        return False
    return prod(map(max, a, b)) > prod(one)


def _constant(operand: Operand) -> bool:
    """Whether the targets are all alike (the labels of a discriminator): then it does not matter which is compared with which."""
    return operand.value is not None and operand.value.min == operand.value.max


def _same_source(graph: Graph, a: Operand, b: Operand) -> bool:
    """Whether both are one value in two shapes: pairs of one and the same, as in a ranking."""
    return a.op is not None and b.op is not None and bool(_shaped(graph, a.op) & _shaped(graph, b.op))


def _shaped(graph: Graph, index: int) -> set[int]:
    found = {index}
    op = graph.probe.ops[index]
    while op.kind == "shape":
        source = next((o.op for o in op.operands if o.op is not None), None)
        if source is None:
            break
        found.add(source)
        op = graph.probe.ops[source]
    return found


def _raised(graph: Graph, operand: Operand) -> bool:
    """Whether the loss itself gave an answer one more axis, one line or another before."""
    op = graph.probe.ops[operand.op] if operand.op is not None else None
    return op is not None and op.name in ("unsqueeze", "getitem") and op.module is None


def _makes_pairs(graph: Graph, body: set[int]) -> bool:
    """Whether the loss compares its answers with each other too: a distance between distributions, a ranking."""
    for index in graph.reached:
        op = graph.probe.ops[index]
        sources = [o.op for o in op.operands if o.op is not None]
        if index not in body and op.name == "sub" and len(sources) > 1:
            one, other = sources[:2]
            wider = op.value.numel > max(graph.probe.ops[i].value.numel for i in (one, other))
            if wider and _shaped(graph, one) & _shaped(graph, other):
                return True
    return False


def _said(case: Case, op: Op) -> bool:
    """Whether the line itself says that it makes pairs."""
    lines = case.meta.sources.get(op.file or "", "").splitlines()
    text = lines[op.line - 1] if op.line is not None and 0 < op.line <= len(lines) else ""
    return any(word in text for word in _ON_PURPOSE)


def axis_taken(case: Case) -> list[Finding]:
    """A recurrence, or attention, on data that takes for time what the loss takes for samples (`batch_first`)."""
    for graph in reversed(case.finite):
        for index in graph.layers:
            op = graph.probe.ops[index]
            if len(op.reads) != 2:
                continue
            steps, batch = op.reads
            answer = answers(graph)
            if answer is None or steps == batch or batch <= 1:
                continue
            shape, rows = answer
            if rows != steps or batch in shape or any(o.op is not None for o in op.operands):
                continue
            place = places.of_op(op, case.meta)
            return [
                Finding(
                    "crawling", "mixed-samples", 0.93, place,
                    f"{op.name} at {place.file}:{place.line} takes its input for {steps} steps in time of {batch} sequences, but the loss has "
                    f"{rows} samples: it runs from sample to sample (batch_first is not set), and each output hangs on the samples before it.",
                    {"step": graph.probe.step, "read_as_steps": steps, "read_as_batch": batch, "samples": rows, "answer_shape": shape},
                    remedies("right-axis", at=place),
                )
            ]  # fmt: skip
    return []


def answers(graph: Graph) -> tuple[list[int], int] | None:
    """Return (shape of the network's answer, samples) where a loss compares an answer with targets of as many rows."""
    found = compared(graph)
    return (graph.probe.ops[found[0]].value.shape, found[1]) if found is not None else None


def compared(graph: Graph) -> tuple[int, int] | None:
    """Return (operation whose output is compared with targets, samples), the nearest to the loss."""
    layers = body(graph)
    for index in reversed(graph.reached):
        op = graph.probe.ops[index]
        if index in layers or not (op.kind == "loss" or op.name in ("sub", "mul", "getitem", "gather")):
            continue
        answer = next((o for o in op.operands if o.op is not None), None)
        source, shape = (answer.op, _of(graph, answer) or []) if answer is not None else (None, [])
        for operand in op.operands:
            wanted = _of(graph, operand) if operand.value is not None else operand.shape
            if (
                operand.op is None
                and operand.param is None
                and wanted
                and shape
                and wanted[0] == shape[0]
                and shape[0] > 1
            ):
                return source, shape[0]  # type: ignore[return-value]
    return None


def looked_at(graph: Graph) -> Isolation | None:
    """Return what was seen of a probe's samples; None where it says why nothing was."""
    return graph.probe.isolation if isinstance(graph.probe.isolation, Isolation) else None


def mixed(case: Case) -> list[Finding]:
    """The output of one sample hangs on the other samples, by an operation that is not there for that."""
    for graph in reversed(case.finite):
        isolation = looked_at(graph)
        if isolation is None or not isolation.mixers:
            continue
        culprit = _culprit(graph, isolation)
        if culprit is None:
            continue
        op, why = culprit
        place = places.of_op(op, case.meta)
        return [
            Finding(
                "crawling", "mixed-samples", 0.92, place,
                f"{op.name} at {place.file}:{place.line} mixes samples: of the gradient of one output alone {isolation.outside:.0%} arrives at "
                f"other samples of the batch of {isolation.batch}. {why}",
                {"step": graph.probe.step, "share_outside_the_sample": rounded(isolation.outside), "samples": isolation.batch,
                 "operation": op.name, "output_shape": op.value.shape},
                remedies("right-axis", at=place),
            )
        ]  # fmt: skip
    return []


# Operations by which samples are joined on purpose: neighbours in a graph, similarities, statistics over the batch.
MEANT = frozenset({
    "matmul", "mm", "bmm", "addmm", "sparse_mm", "spmm", "spspmm", "einsum", "index_add", "scatter_add", "scatter", "scatter_reduce",
    "segment_reduce", "index_select", "gather", "getitem", "index", "index_put", "cdist", "dist", "cosine_similarity", "mean", "sum",
    "std", "var", "std_mean", "var_mean", "amax", "amin", "max", "min", "roll", "flip", "sort", "cumsum", "sub", "add", "mul", "div",
    "dot", "inner", "batch_norm", "vector_norm", "norm", "normalize", "logsumexp",
})  # fmt: skip
_AXES = frozenset({"reshape", "view", "flatten", "unflatten", "view_as", "reshape_as"})


def _culprit(graph: Graph, isolation: Isolation) -> tuple[Op, str] | None:
    """Return the operation that mixes samples without being there for it, and what it does; None where one is that may."""
    ops, batch = [graph.probe.ops[i] for i in isolation.mixers], isolation.batch
    for op in ops:  # (of scores alone, one a sample, it is a ranking of them)
        if op.kind == "softmax" and op.span == batch and op.value.numel > batch:
            return op, "It normalises over the batch axis, so that samples compete with each other."
    if any(op.name in MEANT and not _by_weight(graph, op) for op in ops):
        return None
    for op in ops:
        if len(op.reads) == 2 and op.reads[0] == batch and op.reads[1] > 1:
            return op, f"It takes the {batch} samples for steps in time (batch_first is not set)."
    for op in ops:
        if op.name in _AXES and _cuts_across(graph, op, batch):
            return (
                op,
                "It cuts the entries anew in the order of memory, across samples: to swap axes takes permute or transpose.",
            )
    if not any(op.name in _AXES for op in ops):  # (else samples may be grouped on purpose: the frames of a film)
        for op in ops:
            if op.kind == "linear" and any(batch in graph.params[w].shape for w in graph.weights_of(op)):
                return op, "Its weights run over the batch axis."
    return None


def _cuts_across(graph: Graph, op: Op, batch: int) -> bool:
    """Whether a reshape gives an axis as long as the batch that does not begin and end where axes of its input do."""
    source = next((_of(graph, o) or [] for o in op.operands if o.op is not None), [])
    edges = {prod(source[:k]) for k in range(len(source) + 1)}
    shape = op.value.shape
    return any(size == batch and not {prod(shape[:k]), prod(shape[: k + 1])} <= edges for k, size in enumerate(shape))


def _by_weight(graph: Graph, op: Op) -> bool:
    return op.kind in ("linear", "conv") and bool(graph.weights_of(op))
