"""A loop in the script's own graph: what it carries back over time, and how it stretches small changes of its state.

Both come from products with the transposed Jacobian between one state and the one before, on the graph that the script has
just built and before its backward pass. Rows of the batch are taken not to mix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from gradientflow.depth.probe.lyapunov import directions, exponents
from gradientflow.depth.probe.stats import grad_stat

_EXPONENTS = 2
_ROWS = 4
_STEPS = 64  # Jacobians that are multiplied, at most: the newest


class Chain:
    """The states of one loop, oldest first.

    Args:
        states: the outputs of the operation that holds each state: autograd node, number of its output, entries.
        shape: of a state, (rows, hidden) or (hidden,).
    """

    def __init__(self, states: Sequence[Sequence[tuple[Node, int, int]]], shape: Sequence[int]) -> None:
        self._edges = [GradientEdge(outputs[-1][0], outputs[-1][1]) for outputs in states if outputs]
        self._single = all(len(outputs) == 1 for outputs in states)  # h and c of an LSTM cell are no single state
        self._shape = list(shape)

    def measure(self, root: Tensor, seconds: float) -> tuple[list[float], list[float]] | None:
        """Return (what is carried back, Lyapunov exponents), each empty where it was not measured.

        Args:
            root: the loss.
            seconds: that may be spent.
        """
        edges = self._edges
        if len(edges) < 2:
            return None
        newest = _grad(root, edges[-1:], None)[0]
        if newest is None:
            return None
        began = time.perf_counter()
        back = _grad(edges[-1], edges, newest)
        once = time.perf_counter() - began
        carried = [0.0 if g is None else grad_stat(g).norm for g in back[::-1]]
        if not self._single or len(self._shape) not in (1, 2) or newest.dim() != len(self._shape):
            return carried, []
        affordable = (seconds - once) / max(once * _EXPONENTS / len(edges) * 4, 1e-4)
        steps = min(len(edges) - 1, _STEPS, int(affordable))
        if steps < 4:
            return carried, []
        return carried, self._exponents(newest, steps)

    def _exponents(self, like: Tensor, steps: int) -> list[float]:
        flat = like.reshape(1, -1) if like.dim() == 1 else like
        rows = min(len(flat), _ROWS)

        def pull(t: int) -> Callable[[Tensor], Tensor]:
            def apply(q: Tensor) -> Tensor:
                parts = []
                for j in range(q.shape[2]):
                    v = torch.zeros_like(flat)
                    v[:rows] = q[:, :, j]
                    (g,) = _grad(self._edges[t], self._edges[t - 1 : t], v.reshape(like.shape))
                    parts.append(torch.zeros_like(flat)[:rows] if g is None else g.reshape(flat.shape)[:rows])
                return torch.stack(parts, dim=2)

            return apply

        last = len(self._edges) - 1
        maps = [pull(t) for t in range(last, last - steps, -1)]
        start = directions(rows, flat.shape[1], _EXPONENTS, flat)
        return exponents(maps, start, min(steps // 4, 20))


def _grad(out: Tensor | GradientEdge, to: Sequence[GradientEdge], given: Tensor | None) -> tuple[Tensor | None, ...]:
    sent = None if given is None else [given]
    return torch.autograd.grad([out], list(to), sent, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
