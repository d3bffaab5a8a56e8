"""What is kept of a call to `nn.RNN`, `nn.GRU` or `nn.LSTM` on a probed step, so that it can be run again step by step.

Its kernel hides the states between the first and the last. Kept are copies of a few rows of the batch: the input, the
initial state, the outputs, and in the backward pass the gradients that arrive at the outputs. Rows of a recurrent net do
not mix, so that each row is exact by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.probe.cells import Weights
from gradientflow.limits import Limit
from gradientflow.ops import GATES

ROWS = 32  # of the batch, at most
_ARGS = 9  # as PyTorch's own modules pass them, by position
WORK = Limit("operations", 3e9, "chosen: what one re-run may take, a second or so; fewer rows where it would be more")
WHOLE = Limit("work_of_a_batch", 4.0, "chosen: of what a re-run may take, where the whole batch has to be run again")


@dataclass(slots=True)
class Call:
    """One call, in a form that all kinds share: time first, padded, rows chosen."""

    op: int
    cell: str
    x: Tensor  # (steps, rows, inputs); zero past the end of a row
    lengths: list[int]  # of the rows chosen
    start: list[Tensor]  # initial h, and c for an LSTM: (layers·directions, rows, ·)
    weights: list[list[Tensor]]  # per layer and direction, the script's own
    biased: bool
    projected: bool
    layers: int
    directions: int
    dropout: float  # between layers; 0 where it is off
    noise: Tensor | None  # state of the random numbers before the call, where dropout drew some
    batch: int
    precision: torch.dtype  # in which the script's kernel multiplied
    pick: Callable[[Tensor, int], Tensor] = field(repr=False)  # (output, its role) -> the rows chosen
    roles: list[int] = field(default_factory=list)  # of the outputs that carry a gradient: 0 output, 1 h_n, 2 c_n
    outputs: dict[int, Tensor] = field(default_factory=dict)  # by role
    grads: dict[int, Tensor] = field(default_factory=dict)
    skipped: int = 0  # time steps at the beginning that are not run again

    @property
    def steps(self) -> int:
        return int(self.x.shape[0])

    def arrives(self, position: int, g: Tensor) -> None:
        """Keep the chosen rows of the gradient that arrives at an output."""
        role = self.roles[position]
        self.grads[role] = self.pick(g.detach(), role).clone()

    def shorten(self, steps: int) -> bool:
        """Keep the last time steps only, from the state in which the kernel itself arrives there; return whether it can be
        done: not in a layer that reads backwards, and not under dropout.
        """
        if self.directions > 1 or self.dropout or min(self.lengths) < self.steps:
            return False
        cut = self.steps - steps
        flat = [t.detach() for ts in self.weights for t in ts]
        start = tuple(self.start) if len(self.start) > 1 else self.start[0]
        kernel: Any = getattr(torch, self.cell)
        with torch.no_grad():
            _, *ends = kernel(self.x[:cut], start, flat, self.biased, self.layers, 0.0, False, False, False)
        self.x, self.start, self.lengths, self.skipped = self.x[cut:], list(ends), [steps] * len(self.lengths), cut
        self.outputs[0] = self.outputs[0][cut:]
        if 0 in self.grads:
            self.grads[0] = self.grads[0][cut:]
        return True

    def weights_of(self, k: int) -> Weights:
        """Return the weights of layer and direction `k`, detached."""
        ts = [t.detach() for t in self.weights[k]]
        project = ts.pop() if self.projected else None
        biases = ts[2:4] if self.biased else [None, None]
        return Weights(ts[0], ts[1], biases[0], biases[1], project)


def noise_before(name: str, args: tuple[Any, ...]) -> Tensor | None:
    """Return the state of the random numbers before a call that will draw some for dropout; reading draws none."""
    if len(args) < _ARGS:
        return None
    packed = isinstance(args[1], Tensor) and args[1].dim() == 1
    layers, dropout, training = args[5:8] if packed else args[4:7]
    on_cpu = args[0].device.type == "cpu"
    return torch.get_rng_state() if training and dropout > 0 and layers > 1 and on_cpu else None


def capture(op: int, name: str, args: tuple[Any, ...], out: Any, noise: Tensor | None) -> Call | str | None:
    """Return what is kept of a call; a text says why it cannot be measured, None that it hides no recurrence.

    Args:
        op: index of the operation.
        name: rnn_tanh, rnn_relu, gru or lstm.
        args: its arguments, as PyTorch's own modules pass them.
        out: its results: output, h_n, and c_n for an LSTM.
        noise: what `noise_before` returned.
    """
    if len(args) < _ARGS:
        return f"{name} was called with arguments by name"
    packed = isinstance(args[1], Tensor) and args[1].dim() == 1
    if packed:
        data, sizes, hx, flat, biased, layers, dropout, training, both = args[:9]
        counts = sizes.tolist()
        first = False
        batch = counts[0]
    else:
        data, hx, flat, biased, layers, dropout, training, both, first = args[:9]
        counts = []
        batch = int(data.shape[0 if first else 1])
    steps = len(counts) if packed else int(data.shape[1 if first else 0])
    if steps < 2:
        return None
    hx = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    directions = 2 if both else 1
    each = len(flat) // (layers * directions)
    biases = 4 if biased else 2
    dropout = float(dropout) if training and layers > 1 else 0.0
    if dropout and noise is None:
        return f"the masks of the dropout between the layers of {name} are drawn inside the device's own kernel"
    if any(t.is_complex() or not t.is_floating_point() for t in (data, *flat)):
        return f"{name} runs on {data.dtype}"
    if data.device.type == "mps":
        return f"{name} runs on a device without double precision"
    work = 6.0 * steps * sum(t.numel() for t in flat)
    rows = min(batch, ROWS, int(WORK / max(work, 1.0)))
    if rows < 1:
        return f"{name} reads {steps} time steps with {sum(t.numel() for t in flat):,} weights: one row alone would cost too much"
    if dropout:
        rows = batch  # a mask can only be drawn again for the whole batch
        if batch * work > WHOLE * WORK:
            return (
                f"{name} has dropout between its layers, so that all {batch} rows would have to be run again: too much"
            )
    chosen = torch.tensor([round(k * (batch - 1) / max(rows - 1, 1)) for k in range(rows)], device=data.device)
    lengths, index, inside = _unpacking(counts, chosen, steps)

    def pick(t: Tensor, role: int) -> Tensor:
        if role:
            return t.index_select(1, chosen)
        if index is None or inside is None:
            return t.index_select(0, chosen).transpose(0, 1) if first else t.index_select(1, chosen)
        padded = t.index_select(0, index.reshape(-1)).reshape(steps, rows, -1)
        return padded * inside.unsqueeze(2).to(padded.dtype)

    call = Call(
        op=op, cell=name, x=pick(data.detach(), 0).clone(), lengths=lengths, start=[pick(h.detach(), 1).clone() for h in hx],
        weights=[list(flat[k * each : (k + 1) * each]) for k in range(layers * directions)], biased=bool(biased),
        projected=each > biases, layers=layers, directions=directions, dropout=dropout, noise=noise, batch=batch, precision=_precision(data), pick=pick,
    )  # fmt: skip
    for role, t in enumerate(out):
        if t.requires_grad:
            call.roles.append(role)
        call.outputs[role] = pick(t.detach(), role).clone()
    return call


def _precision(data: Tensor) -> torch.dtype:
    kind = data.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else data.dtype


def _unpacking(counts: list[int], chosen: Tensor, steps: int) -> tuple[list[int], Tensor | None, Tensor | None]:
    """Return the lengths of the chosen rows; for packed data also the place of each entry, and whether there is one."""
    if not counts:
        return [steps] * len(chosen), None, None
    lengths = [sum(n > row for n in counts) for row in chosen.tolist()]
    offsets = torch.tensor([sum(counts[:t]) for t in range(steps)], device=chosen.device)
    ends = torch.tensor(lengths, device=chosen.device)
    inside = torch.arange(steps, device=chosen.device).unsqueeze(1) < ends
    index = torch.where(inside, offsets.unsqueeze(1) + chosen, torch.zeros_like(chosen))
    return lengths, index, inside


OPAQUE = frozenset(GATES)
