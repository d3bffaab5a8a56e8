"""One time step of PyTorch's recurrent cells, and its derivative along given directions.

The formulas are those of the PyTorch documentation of `nn.RNN`, `nn.GRU` and `nn.LSTM`. A *state* is what one step hands
to the next: h, and for an LSTM (h, c) side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Weights:
    """The weights of one layer and direction; `project` is only there with `proj_size`."""

    inward: Tensor
    again: Tensor
    inward_bias: Tensor | None = None
    again_bias: Tensor | None = None
    project: Tensor | None = None

    @property
    def hidden(self) -> int:
        """Entries of h."""
        return self.again.shape[1]


@dataclass(slots=True)
class Moment:
    """What one step computed: its states, and what its derivative needs."""

    h: Tensor
    c: Tensor | None
    kept: tuple[Tensor, ...]


def step(cell: str, w: Weights, fed: Tensor, h: Tensor, c: Tensor | None) -> Moment:
    """Compute one time step.

    Args:
        cell: a key of `GATES`.
        w: the weights.
        fed: W_in x + b_in at this time, (rows, gates·hidden).
        h: the hidden state before, (rows, hidden).
        c: the cell state before, for an LSTM.
    """
    again = torch.nn.functional.linear(h, w.again, w.again_bias)
    if cell == "lstm":
        assert c is not None
        i, f, g, o = (fed + again).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        new = f * c + i * g
        top = new.tanh()
        out = o * top if w.project is None else (o * top) @ w.project.t()
        return Moment(out, new, (i, f, g, o, top, c))
    if cell == "gru":
        r, z, n = fed.chunk(3, dim=1)
        r_again, z_again, n_again = again.chunk(3, dim=1)
        r, z = (r + r_again).sigmoid(), (z + z_again).sigmoid()
        n = (n + r * n_again).tanh()
        return Moment((1 - z) * n + z * h, None, (r, z, n, n_again, h))
    out = (fed + again).tanh() if cell == "rnn_tanh" else (fed + again).relu()
    return Moment(out, None, (out,))


def tangent(cell: str, w: Weights, moment: Moment, q: Tensor) -> Tensor:
    """Apply the step's Jacobian ∂(state after)/∂(state before) to directions.

    Args:
        cell: a key of `GATES`.
        w: the weights.
        moment: the step, already computed.
        q: directions, (rows, state, k); the state of an LSTM is h, then c.

    Returns:
        The images, of the same shape.
    """
    kept = [t.unsqueeze(2) for t in moment.kept]
    if cell == "lstm":
        i, f, g, o, top, c = kept
        dh, dc = q[:, : w.hidden], q[:, w.hidden :]
        di, df, dg, do = torch.matmul(w.again, dh).chunk(4, dim=1)
        new = f * dc + f * (1 - f) * c * df + i * (1 - i) * g * di + i * (1 - g * g) * dg
        out = o * (1 - o) * top * do + o * (1 - top * top) * new
        out = out if w.project is None else torch.matmul(w.project, out)
        return torch.cat([out, new], dim=1)
    if cell == "gru":
        r, z, n, n_again, h = kept
        dr, dz, dn = torch.matmul(w.again, q).chunk(3, dim=1)
        dr, dz = r * (1 - r) * dr, z * (1 - z) * dz
        dn = (1 - n * n) * (dr * n_again + r * dn)
        return (1 - z) * dn + z * q + (h - n) * dz
    (out,) = kept
    slope = 1 - out * out if cell == "rnn_tanh" else (out > 0).to(out.dtype)
    return slope * torch.matmul(w.again, q)
