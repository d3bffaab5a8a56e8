"""Singular values of Jacobians, measured on the graph that the script just built.

A *station* is an operation whose output every route from the first layer to the last passes: each layer of a chain, each
sum of a residual stream, each call of a recurrent cell. Between neighbouring stations lies a *stretch*; the Jacobians of
the stretches multiply to the one end to end, also where a network branches in between.

A backward pass over a stretch is v ↦ Jᵀv (VJP). With one-hot v it gives J row by row. Where J is too wide for that, random
signs v have E‖Jᵀv‖² = ‖J‖_F² (Hutchinson 1990), and u ↦ Ju (JVP) is the derivative of v ↦ Jᵀv, so that Lanczos on J Jᵀ
finds the largest singular value.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence, Set
from statistics import fmean, stdev

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from gradientflow.curvature import lanczos
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.probe.traced import Trace
from gradientflow.limits import APART, Limit
from gradientflow.records import Op, Stretch
from gradientflow.torch_internals import output_metadata

EXACT = Limit("outputs", 256, "chosen: of one sample; up to here all of J costs no more than sampling it")
AT_MOST = Limit("outputs_at_most", 2048, "chosen: the same where PyTorch has no second derivative for Lanczos")
SAMPLES = 4  # of the batch, where all of J is taken
PROBES = 16  # random vectors where it is not
WIDTH = 24  # Lanczos products
ENOUGH = Limit("share_of_passes", 0.2, "chosen: three random vectors and six products are too few for any figure")
QUANTILES = 33
_ENTRIES = 2**24  # of one batched pass


# ── stations ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def stations(ops: Sequence[Op], reached: Set[int], layers: Sequence[int]) -> list[int]:
    """Return the operations that all routes from the first layer to the last one behind it pass, in order.

    Args:
        ops: the operations of a trace.
        reached: indices of those that the loss depends on.
        layers: indices of the layers, in order of execution.

    Returns:
        Layers, and sums where routes join again; empty where no layer comes behind the first.
    """
    if not layers:
        return []
    first = layers[0]
    behind = {first}
    for index in sorted(reached):
        if index > first and any(o.op in behind for o in ops[index].operands if o.op is not None):
            behind.add(index)
    last = max((index for index in layers if index in behind), default=first)
    ahead, todo = {last}, [last]
    while todo:
        for operand in ops[todo.pop()].operands:
            if operand.op is not None and operand.op in behind and operand.op not in ahead:
                ahead.add(operand.op)
                todo.append(operand.op)
    farthest = dict.fromkeys(ahead, first)  # the last operation on the way that consumes its output
    joins = set()
    for index in ahead:
        sources = {o.op for o in ops[index].operands if o.op in ahead}
        joins |= {index} if len(sources) > 1 else set()
        for source in sources:
            farthest[source] = max(farthest[source], index)
    found, open_until = [], first
    for index in sorted(ahead):
        if open_until <= index and (index in layers or index in joins):
            found.append(index)
        open_until = max(open_until, farthest[index])
    return found if len(found) > 1 else []


# ── one stretch ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Way:
    """The Jacobian J of one stretch, as a linear operator on rows: one row a sample where samples do not mix.

    Args:
        trace: a forward pass whose graph is still there.
        source, target: indices of the operations the stretch lies between.
        generator: draws the random vectors; never the script's.

    Attributes:
        rows: samples, or 1 where they mix; None before `mix` was looked at.
        inputs, outputs: entries of one row.
    """

    def __init__(self, trace: Trace, source: int, target: int, generator: torch.Generator) -> None:
        self._source, self._target = _edge(trace, source), _edge(trace, target)
        start, end = _meta(self._source), _meta(self._target)
        self._generator = generator
        self._like = torch.empty(0, dtype=end[1], device=end[2])
        self._from, self._to = start[0], end[0]
        if self._like.is_complex() or not self._like.is_floating_point():
            raise RuntimeError(f"entries of type {end[1]}")
        batch = self._from[0] if self._from and self._to and self._from[0] == self._to[0] else 1
        self.rows = batch if len(self._from) > 1 and len(self._to) > 1 else 1
        self.mixed = self.rows > 1 and self._mixes()
        self.rows = 1 if self.mixed else self.rows
        self.inputs, self.outputs = math.prod(self._from) // self.rows, math.prod(self._to) // self.rows

    def _mixes(self) -> bool:
        middle = self.rows // 2
        v = torch.zeros(self._to, dtype=self._like.dtype, device=self._like.device)
        v[middle] = self.signs(1)[0].reshape(self._to)[middle]
        squares = self.pull(v.reshape(1, -1)).reshape(self.rows, -1).double().square().sum(1)
        return bool(squares.sum() - squares[middle] > APART * squares.sum())

    def signs(self, rows: int) -> Tensor:
        """Return random signs, shape (rows, entries of the output in one row)."""
        width = math.prod(self._to) // rows
        drawn = torch.randint(0, 2, (rows, width), generator=self._generator, dtype=torch.int8)
        return drawn.to(self._like) * 2 - 1

    def pull(self, v: Tensor, *, differentiable: bool = False) -> Tensor:
        """Return Jᵀv row by row, (rows, outputs) → (rows, inputs); zeros where nothing arrives."""
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            [self._target], [self._source], [v.reshape(self._to)], retain_graph=True, allow_unused=True,
            create_graph=differentiable,
        )  # fmt: skip
        g = torch.zeros(self._from, dtype=self._like.dtype, device=self._like.device) if found[0] is None else found[0]
        return g.reshape(v.shape[0], -1)

    def outer(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return Jᵀv and JJᵀv row by row. J is the derivative of v ↦ Jᵀv, so it takes a second derivative."""
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            pulled = self.pull(v, differentiable=True)
        if not pulled.requires_grad:  # nothing arrives
            return pulled, torch.zeros_like(v)
        (pushed,) = torch.autograd.grad(pulled, v, pulled.detach())
        return pulled.detach(), pushed.detach()

    def matrices(self, samples: Sequence[int]) -> Tensor:
        """Return J of the chosen rows, shape (samples, outputs, inputs), float64. Rows do not mix, so one pass serves all."""
        parts = []
        chunk = max(1, _ENTRIES // max(1, math.prod(self._from), math.prod(self._to)))
        chosen = torch.as_tensor(list(samples))
        for begin in range(0, self.outputs, chunk):
            rows = min(chunk, self.outputs - begin)
            v = torch.zeros(rows, self.rows, self.outputs, dtype=self._like.dtype, device=self._like.device)
            for k in range(rows):
                v[k, chosen, begin + k] = 1.0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where an operation has no batched rule PyTorch says so, and loops
                found: tuple[Tensor | None, ...] = torch.autograd.grad(
                    [self._target], [self._source], [v.reshape(rows, *self._to)], retain_graph=True,
                    allow_unused=True, is_grads_batched=True,
                )  # fmt: skip
            if found[0] is None:
                return torch.zeros(len(samples), self.outputs, self.inputs, dtype=torch.float64)
            parts.append(found[0].reshape(rows, self.rows, self.inputs)[:, chosen].detach().double().cpu())
        return torch.cat(parts).transpose(0, 1)


def measure(trace: Trace, source: int, target: int, *, seed: int = 0, seconds: float = math.inf) -> Stretch:
    """Return the singular values of one stretch, all of them where it is narrow enough, else their moments and the largest.

    Args:
        trace: a forward pass whose graph is still there; nothing in it is changed.
        source: index of the operation whose output the stretch starts at.
        target: index of the operation whose output it ends at.
        seed: of our own random vectors.
        seconds: about what it may take; fewer random vectors and products are used where all would take longer.

    Raises:
        RuntimeError: PyTorch cannot pass backward over this stretch, it would take too long, or a number is not finite.
    """
    way = Way(trace, source, target, torch.Generator().manual_seed(seed))
    began = time.perf_counter()
    way.pull(way.signs(way.rows))
    passes = seconds / max(time.perf_counter() - began, 1e-9)  # backward passes that there is time for
    if way.outputs <= min(EXACT, passes):
        return _all_of_it(way, source, target)
    share = min(1.0, passes / (3 * (PROBES + WIDTH)))
    if share < ENOUGH:
        raise RuntimeError(f"one backward pass takes {seconds / passes:.2g} s, so there is no time for enough of them")
    found = _sampled(way, source, target, max(2, int(share * PROBES)), max(6, int(share * WIDTH)))
    exact = found.top is None and way.outputs <= min(AT_MOST, passes)
    return _all_of_it(way, source, target) if exact else found


def _all_of_it(way: Way, source: int, target: int) -> Stretch:
    count = min(way.rows, SAMPLES)
    matrices = way.matrices([k * way.rows // count for k in range(count)])
    _finite(matrices)
    squares = torch.linalg.svdvals(matrices).square()  # (samples, min(inputs, outputs)), from the largest down
    means = squares.mean(1).tolist()
    levels = torch.linspace(0.0, 1.0, min(QUANTILES, squares.shape[1]), dtype=torch.float64)
    return Stretch(
        source, target, way.inputs, way.outputs, fmean(means), stdev(means) / math.sqrt(count) if count > 1 else 0.0,
        variance=float(squares.var(1, correction=0).mean()), top=float(squares[:, 0].mean()),
        bottom=float(squares[:, -1].mean()), spectrum=torch.quantile(squares, levels, dim=1).mean(1).tolist(),
        samples=0 if way.mixed else count,
    )  # fmt: skip


def _sampled(way: Way, source: int, target: int, probes: int = PROBES, width: int = WIDTH) -> Stretch:
    size = way.rows * min(way.inputs, way.outputs)
    first, second = [], []
    twice = True
    for _ in range(probes):
        v = way.signs(way.rows)
        try:
            pulled, pushed = way.outer(v) if twice else (way.pull(v), None)
        except RuntimeError as problem:  # no second derivative: what one backward pass tells is left
            let_through(problem)
            twice = False
            pulled, pushed = way.pull(v), None
        first.append(float(pulled.double().square().sum()) / size)
        if pushed is not None:
            second.append(float(pushed.double().square().sum()) / size)
    mean = fmean(first)
    _finite(torch.tensor(first))
    found = Stretch(
        source, target, way.inputs, way.outputs, mean, stdev(first) / math.sqrt(probes),
        samples=0 if way.mixed else way.rows, probes=probes,
    )  # fmt: skip
    if not twice:
        return found
    found.variance = max(fmean(second) - mean**2, 0.0)
    ritz = lanczos(lambda v: way.outer(v)[1], way.signs(way.rows), width=width, tolerance=0.01)
    if ritz.finite:
        top, bound = ritz.top.clamp_min(0.0), ritz.bound
        found.top = float(top.mean())
        found.bound = float(bound.mean()) / max(found.top, 1e-300)
    return found


def way_out(trace: Trace, index: int) -> GradientEdge | None:
    """Return the graph's edge at an operation's output; of several outputs, the only one that goes on; None: no such."""
    outputs = [(node, nr) for node, nr, _ in trace.traced[index].outputs]
    if len(outputs) > 1:
        used = {(edge.target, edge.nr) for later in trace.traced[index + 1 :] for edge in later.edges}
        outputs = [output for output in outputs if output in used]
    return GradientEdge(*outputs[0]) if len(outputs) == 1 else None


def _edge(trace: Trace, index: int) -> GradientEdge:
    edge = way_out(trace, index)
    if edge is None:
        raise RuntimeError(f"several results of {trace.ops[index].name} go on")
    return edge


def _meta(edge: GradientEdge) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
    known = output_metadata(edge.node, edge.output_nr)
    if known is None:
        raise RuntimeError("this PyTorch does not tell the shape of a gradient before it is there")
    return known


def _finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise RuntimeError("its Jacobian is not finite")
