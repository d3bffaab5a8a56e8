"""An opaque recurrent kernel, run again step by step with the same weights, on what was kept of its call."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradientflow.depth.probe.cells import Moment, Weights, step
from gradientflow.depth.probe.opaque import Call


@dataclass
class Unrolled:
    """One layer and direction, unrolled; lists run in the order of computation."""

    cell: str
    weights: Weights
    backwards: bool
    moments: list[Moment] = field(default_factory=list)
    output: Tensor | None = None  # (steps, rows, hidden), in order of time
    last: list[Tensor] = field(default_factory=list)  # h_n, and c_n for an LSTM

    @property
    def remembered(self) -> list[Tensor]:
        """The states that remember: the cell states of an LSTM, else h."""
        return [m.c if m.c is not None else m.h for m in self.moments]


def unroll(call: Call) -> tuple[list[Unrolled], Tensor]:
    """Run a call again step by step.

    Args:
        call: what was kept of it.

    Returns:
        The layers and directions in PyTorch's order, and the output, (steps, rows, directions·hidden). Gradients flow
        through them down to the initial state; the weights are detached.
    """
    kind = torch.float64 if call.x.dtype == torch.float64 else torch.float32
    x = call.x.to(kind)
    inside = None
    if min(call.lengths) < call.steps:
        ends = torch.tensor(call.lengths, device=x.device)
        inside = (torch.arange(call.steps, device=x.device).unsqueeze(1) < ends).unsqueeze(2)
    numbers = torch.Generator(device="cpu")
    if call.noise is not None:
        numbers.set_state(call.noise)
    found: list[Unrolled] = []
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        for layer in range(call.layers):
            if layer and call.dropout:
                x = x * _mask(x, call, numbers)
            outs = []
            for direction in range(call.directions):
                k = layer * call.directions + direction
                weights = _as(call.weights_of(k), kind)
                one = Unrolled(call.cell, weights, bool(direction))
                start = [s[k].to(kind).requires_grad_() for s in call.start]
                _run(one, x, start, inside)
                found.append(one)
                outs.append(one.output)
            x = torch.cat(outs, dim=2) if len(outs) > 1 else outs[0]  # type: ignore[arg-type, assignment]
    return found, x


def _run(one: Unrolled, x: Tensor, start: list[Tensor], inside: Tensor | None) -> None:
    fed = torch.nn.functional.linear(x, one.weights.inward, one.weights.inward_bias)
    h, c = start[0], start[1] if len(start) > 1 else None
    steps = range(len(x) - 1, -1, -1) if one.backwards else range(len(x))
    outs: list[Tensor] = [h] * len(x)
    for t in steps:
        moment = step(one.cell, one.weights, fed[t], h, c)
        one.moments.append(moment)
        if inside is None:
            h, c = moment.h, moment.c
            outs[t] = h
        else:  # past the end of a row its state stays, and its output is zero
            h = torch.where(inside[t], moment.h, h)
            c = None if c is None or moment.c is None else torch.where(inside[t], moment.c, c)
            outs[t] = torch.where(inside[t], moment.h, torch.zeros_like(h))
    one.output, one.last = torch.stack(outs), [h] if c is None else [h, c]


def _mask(x: Tensor, call: Call, numbers: torch.Generator) -> Tensor:
    """Draw the dropout mask between two layers again, from a copy of the random numbers the script used."""
    keep = 1.0 - call.dropout
    if max(call.lengths) == min(call.lengths):
        return torch.empty(x.shape, dtype=call.x.dtype).bernoulli_(keep, generator=numbers).div_(keep).to(x.dtype)
    counts = [sum(n > t for n in call.lengths) for t in range(call.steps)]  # packed: the mask has the packed form
    packed = torch.empty(sum(counts), x.shape[2], dtype=call.x.dtype).bernoulli_(keep, generator=numbers).div_(keep)
    mask = torch.zeros(x.shape, dtype=x.dtype)
    for t, part in enumerate(torch.split(packed, counts)):
        mask[t, : counts[t]] = part
    return mask


def _as(w: Weights, kind: torch.dtype) -> Weights:
    given = (w.inward, w.again, w.inward_bias, w.again_bias, w.project)
    a, b, c, d, e = [None if t is None else t.to(kind) for t in given]
    assert a is not None
    assert b is not None
    return Weights(a, b, c, d, e)
