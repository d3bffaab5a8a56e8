"""Errors that are averaged over the batch ahead of the square: the loss sees one number of all samples, and what differs cancels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradientflow.depth.causes import places
from gradientflow.depth.causes.addends import behind
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.samples import body
from gradientflow.limits import Limit, told
from gradientflow.records import Finding, Op, Operand, Place, ValueStat

UNLEARNT = Limit(
    "error_over_variance", 0.5, "chosen: of the targets' variance; a network that learns samples apart is well below"
)
_REDUCING = frozenset({"mean", "sum"})
_EVEN = frozenset({"square", "pow", "abs", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "sqrt", "mul", "dot", "norm", "vector_norm"})  # fmt: skip
_LINEAR = frozenset({
    "mul", "div", "neg", "squeeze", "unsqueeze", "reshape", "view", "flatten", "ravel", "to", "float", "double", "clone", "contiguous", "getitem",
    "permute", "transpose", "positive",
})  # fmt: skip


@dataclass
class Averaged:
    """One loss that is a function of a mean over its samples.

    `error` is the difference of answers and targets, sample by sample, where the loss takes it; None where it averages both
    before it compares them.
    """

    graph: Graph
    reduction: Op
    samples: int
    error: ValueStat | None
    target: ValueStat | None

    @property
    def place(self) -> Place:
        return places.of_op(self.reduction, self.graph.meta)


def ahead_of_the_square(case: Case) -> list[Finding]:
    """A loss that squares the mean error in the place of averaging the squared errors, and a network that learns no sample by it."""
    found = [a for g in case.finite if (a := _averaged(case, g)) is not None]
    if not found or not _unlearnt(found[-1]):
        return []
    last = found[-1]
    left = alone = None
    if last.error is not None and last.error.rms > 0:
        left, alone = (last.error.mean / last.error.rms) ** 2, last.error.rms**2
    single = (
        f": of the mean square of single errors, {alone:.3g} at step {last.graph.probe.step}, it sees {left:.1%}, and the rest cancels"
        if left is not None and alone is not None
        else ""
    )
    return [
        Finding(
            "crawling", "mixed-samples", 0.9 if left is not None else 0.75, last.place,
            f"{last.reduction.name} at {last.place.file}:{last.place.line} averages over {last.samples} samples ahead of the square: the loss "
            f"sees one number of the whole batch{single}. Samples are joined, and the best such answer is right on average only: square "
            f"first, then average.",
            {"step": last.graph.probe.step, "samples": last.samples, "share_seen": rounded(left), "squared_error_of_single_samples": rounded(alone),
             "variance_of_the_targets": rounded(last.target.std**2) if last.target is not None else None, "probes_with_it": len(found)}
            | told(gates=(UNLEARNT,)),
            remedies("square-first", at=last.place),
        )
    ]  # fmt: skip


def _unlearnt(found: Averaged) -> bool:
    """Whether single samples are still as far off as their targets differ; also where that cannot be known."""
    if found.error is None or found.target is None or not found.target.std:
        return True
    return found.error.rms**2 > UNLEARNT * found.target.std**2


def _averaged(case: Case, graph: Graph) -> Averaged | None:
    root = graph.probe.root
    inside = body(graph)
    if root is None or not inside:
        return None
    reached = set(graph.reached) - inside
    reductions = [op for i in sorted(reached) if (op := graph.probe.ops[i]).name in _REDUCING]
    found = [a for op in reductions if (a := _joined(case, graph, op, inside)) is not None]
    joining = {a.reduction.index for a in found}
    if not found or not _alone(graph, root, joining, inside):
        return None
    return next((a for a in found if _squared(graph, a.reduction.index, reached)), None)


def _squared(graph: Graph, index: int, reached: set[int]) -> bool:
    """Whether what is made of an operation's result on the way to the loss is its square, or its like."""
    ahead = {index}
    for later in sorted(i for i in reached if i > index):
        op = graph.probe.ops[later]
        sources = [o.op for o in op.operands if o.op is not None]
        if not ahead.intersection(sources):
            continue
        twice = (
            op.name not in ("mul", "dot")
            or len(sources) == 2
            or (len(sources) == 1 and not op.scalars and len(op.operands) == 1)
        )
        if op.name in _EVEN and twice and not (op.name == "pow" and op.scalars[:1] == [1.0]):
            return True
        if op.name in _LINEAR or op.name in ("sub", "add", "mean", "sum"):
            ahead.add(later)
    return False


def _alone(graph: Graph, root: int, joining: set[int], inside: set[int]) -> bool:
    """Whether the loss depends on the network by these operations alone."""
    seen, todo = set(joining), [root]
    while todo:
        at = todo.pop()
        if at in inside:
            return False
        if at not in seen:
            seen.add(at)
            todo += [o.op for o in graph.probe.ops[at].operands if o.op is not None]
            if any(o.param is not None for o in graph.probe.ops[at].operands):
                return False
    return True


def _joined(case: Case, graph: Graph, reduction: Op, inside: set[int]) -> Averaged | None:
    """Return what a reduction joins, where it is the errors of samples or their answers."""
    at = next((o.op for o in reduction.operands if o.op is not None), None)
    while at is not None and at not in inside:
        op = graph.probe.ops[at]
        if op.name == "sub":
            target = next((o for o in op.operands if _data(o)), None)
            answer = next((o.op for o in op.operands if o.op is not None), None)
            batch = op.value.shape[0] if op.value.shape else 0
            if (
                target is None
                or answer is None
                or not _over_samples(reduction, op.value.shape)
                or not _plain(graph, answer, inside)
            ):
                return None
            return Averaged(graph, reduction, batch, op.value, target.value)
        if (
            op.name not in _LINEAR
            or len([o for o in op.operands if o.op is not None]) != 1
            or any(map(_data, op.operands))
        ):
            return None
        at = next((o.op for o in op.operands if o.op is not None), None)
    if at is None:
        return None
    shape = graph.probe.ops[at].value.shape
    if _over_samples(reduction, shape) and _held_against_a_mean(case, graph, reduction):
        return Averaged(graph, reduction, shape[0], None, None)
    return None


def _plain(graph: Graph, answer: int, inside: set[int]) -> bool:
    """Whether what is compared is the network's answer, by sample, and no figure made of several."""
    return answer in inside or bool(behind(graph, answer) & inside)


def _data(operand: Operand) -> bool:
    return operand.op is None and operand.param is None and operand.value is not None and operand.value.numel > 1


def _over_samples(reduction: Op, shape: list[int]) -> bool:
    """Whether a reduction takes the first axis, of more than one sample, away."""
    left = reduction.value
    return bool(shape) and shape[0] > 1 and left.shape[:1] != shape[:1] and left.numel * shape[0] <= math.prod(shape)


def _held_against_a_mean(case: Case, graph: Graph, reduction: Op) -> bool:
    """Whether the mean of the answers is compared with the mean of targets: the script says that it is one."""
    for op in graph.probe.ops:
        if not any(o.op == reduction.index for o in op.operands) or not (op.name == "sub" or op.kind == "loss"):
            continue
        for operand in op.operands:
            if operand.op is not None or operand.param is not None or operand.value is None or operand.value.numel != 1:
                continue
            lines = {(o.file, o.line) for o in (op, operand, reduction)}
            text = "".join(_line(case, file, line) for file, line in lines)
            if sum(text.count(f"{name}(") for name in _REDUCING) > 1:
                return True
    return False


def _line(case: Case, file: str | None, line: int | None) -> str:
    lines = case.meta.sources.get(file or "", "").splitlines()
    return lines[line - 1] if line is not None and 0 < line <= len(lines) else ""
