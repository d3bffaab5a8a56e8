"""The gradient over time inside `nn.RNN`, `nn.GRU` and `nn.LSTM`: their kernel run again, step by step, with the same weights.

The re-run starts from the same input and state, on a few rows of the batch. The gradients that the script's own backward
pass sent to the outputs are sent back through it, so that what is read at h_t is ∂L/∂h_t over every route. It must
reproduce the script's outputs; where it does not, nothing is told. It touches no `.grad` and none of the script's random
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from gradientflow.depth.probe.cells import Moment, tangent
from gradientflow.depth.probe.lyapunov import (
    DENSE,
    FEWEST,
    FOLLOWED,
    directions,
    exponents,
    largest_singular,
    spectral_radius,
    warmup,
)
from gradientflow.depth.probe.opaque import Call
from gradientflow.depth.probe.unroll import Unrolled, unroll
from gradientflow.limits import REACH, Limit
from gradientflow.records import Recurrence

MAX_CELLS = Limit("cells", 4000, "chosen: time steps × layers × directions, about two seconds of them")
EXPONENTS = 4
_MULTIPLIED = 200  # Jacobians that are multiplied, at most: the newest
_FIRST = 6  # steps in which rounding has not grown yet
SAME = {
    torch.float64: Limit("error_in_float64", 1e-8, "chosen: rounding of 4000 steps, and some decades to spare"),
    torch.float32: Limit("error_in_float32", 2e-3, "chosen: cuDNN multiplies in TF32, of 10 bits"),
    torch.float16: Limit("error_in_float16", 3e-2, "chosen: thirty times its rounding, 1e-3"),
    torch.bfloat16: Limit("error_in_bfloat16", 1e-1, "chosen: some ten times its rounding, 8e-3"),
}
SAME_ELSE = Limit("error", 1e-2, "chosen: of a precision that is not known here")


def measure(call: Call) -> list[Recurrence] | str:
    """Measure one call; call it after the script's backward pass and before its optimizer step.

    Returns:
        One record per layer and direction, the lowest layer first; a text that says why nothing could be measured.
    """
    if not call.grads:
        return f"no gradient arrived at the outputs of {call.cell}"
    layers, output = unroll(call)
    tolerance = SAME.get(call.precision, SAME_ELSE)
    error = _error(call, layers, output)
    if not error <= tolerance and not _error_at_first(call, output) <= tolerance:
        return _differs(call, error)
    given: list[Tensor] = []
    sent: list[Tensor] = []
    ends = [torch.stack([one.last[role] for one in layers]) for role in range(len(call.start))]
    for role, g in call.grads.items():
        out = output if role == 0 else ends[role - 1]
        given.append(out)
        sent.append(g.to(out.dtype))
    wanted = [m.h for one in layers for m in one.moments]
    wanted += [m.c for one in layers for m in one.moments if m.c is not None]
    grads = torch.autograd.grad(given, wanted, sent, retain_graph=True, allow_unused=True)
    steps = call.steps
    hs, cs = grads[: steps * len(layers)], grads[steps * len(layers) :]
    found = [
        _record(call, k, one, hs[steps * k : steps * (k + 1)], cs[steps * k : steps * (k + 1)], error)
        for k, one in enumerate(layers)
    ]
    if not error <= tolerance and not any(r.lyapunov and r.lyapunov[0] > 0 for r in found):
        return _differs(call, error)
    return found


def _differs(call: Call, error: float) -> str:
    return (
        f"run again step by step, {call.cell} gives outputs that differ from the script's by {error:.2g} of the largest "
        f"(its weights were changed before the backward pass ended, or its kernel rounds very roughly)"
    )


def _error_at_first(call: Call, output: Tensor) -> float:
    """The error over the first steps: a chaotic recurrence magnifies the rounding of its kernel later on."""
    width = output.shape[2] // call.directions
    if min(call.lengths) < call.steps:
        return math.inf
    parts = [slice(0, _FIRST), slice(-_FIRST, None)][: call.directions]
    worst = 0.0
    for k, part in enumerate(parts):
        a, b = (t[part, :, k * width : (k + 1) * width].detach() for t in (call.outputs[0].to(output.dtype), output))
        worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)))
    return worst


def _error(call: Call, layers: Sequence[Unrolled], output: Tensor) -> float:
    pairs = [(call.outputs[0], output)]
    pairs += [
        (call.outputs[role + 1], torch.stack([one.last[role] for one in layers])) for role in range(len(call.start))
    ]
    worst = [(a.to(b.dtype) - b.detach()).abs().max() / b.detach().abs().max().clamp_min(1e-30) for a, b in pairs]
    return float(torch.stack(worst).max())


def _record(
    call: Call, k: int, one: Unrolled, hs: Sequence[Tensor | None], cs: Sequence[Tensor | None], error: float
) -> Recurrence:
    backwards, steps = one.backwards, call.steps
    by_row = _by_row(hs, one.moments[0].h)
    cells = _by_row(cs, one.moments[0].h) if cs else None
    memory = by_row if cells is None else cells
    aligned = _aligned(memory, call.lengths, backwards)
    carried = _aligned(_carried(call, one, cs or hs), call.lengths, backwards)
    square = one.weights.again if one.weights.again.shape[0] == one.weights.again.shape[1] else None
    in_time: Callable[[Tensor], Tensor] = (lambda t: t.flip(0)) if backwards else (lambda t: t)
    record = Recurrence(
        ops=[call.op], cell=call.cell, steps=steps, norms=_norms(in_time(by_row)), layer=k // call.directions, backwards=backwards,
        memory=_norms(in_time(cells)) if cells is not None else [], aligned=_norms(aligned), carried=_norms(carried),
        lengths=call.lengths if min(call.lengths) < steps else [], rows=len(call.lengths), batch=call.batch, skipped=call.skipped, error=error,
    )  # fmt: skip
    record.reach = reach(record.carried)
    with torch.no_grad():
        if square is not None and bool(torch.isfinite(square).all()):
            record.radius, record.sigma = spectral_radius(square), largest_singular(square)
        _stretching(record, call, one)
    return record


def _by_row(grads: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Norms of gradients per step and row, (steps, rows), in the order of computation; no square under- or overflows."""
    g = torch.stack([torch.zeros_like(like) if g is None else g for g in grads]).detach()
    scale = g.abs().amax(dim=2, keepdim=True)
    safe = torch.where((scale > 0) & torch.isfinite(scale), scale, torch.ones_like(scale))
    norms: Tensor = torch.linalg.vector_norm(g / safe, dim=2).double() * safe.squeeze(2).double()
    return norms


def _norms(by_row: Tensor) -> list[float]:
    found: list[float] = torch.linalg.vector_norm(by_row, dim=1).tolist()
    return found


def _aligned(by_row: Tensor, lengths: Sequence[int], backwards: bool) -> Tensor:
    """Turn norms in the order of computation into steps back from each row's own newest state."""
    back = by_row.flip(0)
    steps = len(back)
    if backwards or min(lengths) == steps:  # read backwards, all rows end together, at t = 1
        return back
    out = torch.zeros_like(back)
    for row, n in enumerate(lengths):
        out[:n, row] = back[steps - n :, row]
    return out


def _carried(call: Call, one: Unrolled, grads: Sequence[Tensor | None]) -> Tensor:
    """What the recurrence alone carries back of the gradient at each row's newest state."""
    states = one.remembered
    newest = [call.steps - 1] * len(call.lengths) if one.backwards else [n - 1 for n in call.lengths]
    given, sent = [], []
    for at in sorted(set(newest)):
        g = grads[at]
        if g is not None:
            rows = torch.tensor([n == at for n in newest], device=g.device).unsqueeze(1)
            given.append(states[at])
            sent.append(g * rows)
    if not given:
        return torch.zeros(call.steps, len(newest), device=states[0].device, dtype=torch.float64)
    back = torch.autograd.grad(given, states, sent, retain_graph=True, allow_unused=True)
    return _by_row(back, states[0])


def reach(carried: Sequence[float]) -> int | None:
    """Return how many steps back more than 1 % of the gradient at the newest state arrives; None where there was none.

    Example:
        >>> reach([1.0, 0.5, 0.1, 0.001])
        2
    """
    if not carried or not carried[0] > 0 or not all(map(math.isfinite, carried)):
        return None
    return max(k for k, g in enumerate(carried) if not g < REACH * carried[0])


def _stretching(record: Recurrence, call: Call, one: Unrolled) -> None:
    """Lyapunov exponents and the radius of the step's Jacobian, on the longest rows."""
    longest = max(call.lengths)
    rows = [r for r, n in enumerate(call.lengths) if n == longest][:FOLLOWED]
    moments = [_rows(m, rows) for m in one.moments[:longest][-_MULTIPLIED:]]
    like = moments[0].h
    size = like.shape[1] + (moments[0].c.shape[1] if moments[0].c is not None else 0)
    maps: list[Callable[[Tensor], Tensor]] = [partial(tangent, one.cell, one.weights, m) for m in moments]
    start = directions(len(rows), size, EXPONENTS, like)
    if len(maps) >= FEWEST:
        record.lyapunov = exponents(maps, start, warmup(len(maps)))
    if size <= DENSE:
        one_row = torch.eye(size, device=like.device, dtype=like.dtype).expand(len(rows), -1, -1)
        at = sorted({len(maps) // 4, len(maps) // 2, 3 * len(maps) // 4})
        radii = [torch.linalg.eigvals(maps[t](one_row)[0].double()).abs().max() for t in at]
        record.step_radius = float(torch.stack(radii).clamp_min(1e-300).log().mean().exp())


def _rows(moment: Moment, rows: Sequence[int]) -> Moment:
    at = torch.tensor(rows, device=moment.h.device)
    c = None if moment.c is None else moment.c.detach().index_select(0, at)
    kept = tuple(t.detach().index_select(0, at) for t in moment.kept)
    return Moment(moment.h.detach().index_select(0, at), c, kept)
