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

from gradientflow.depth.probe.lyapunov import FEWEST, FOLLOWED, directions, exponents, warmup
from gradientflow.depth.probe.stats import grad_stat

_DIRECTIONS = 2  # whose exponents are measured: each costs a backward pass for every step
_STEPS = 64  # Jacobians that are multiplied, at most: the newest


class Chain:
    """The states of one loop, oldest first.

    Args:
        states: the outputs of the operation that holds each state: autograd node, number of its output, entries.
        shape: of a state, (rows, hidden) or (hidden,).
    """

    def __init__(self, states: Sequence[Sequence[tuple[Node, int, int]]], shape: Sequence[int]) -> None:
        self._edges = [[GradientEdge(node, nr) for node, nr, _ in outputs] for outputs in states if outputs]
        self._shape = list(shape)

    def measure(self, root: Tensor, seconds: float) -> tuple[list[float], list[float]] | None:
        """Return (what is carried back, Lyapunov exponents), each empty where it was not measured.

        Args:
            root: the loss.
            seconds: that may be spent.
        """
        edges = [outputs[-1] for outputs in self._edges]  # the memory, where a state has two parts
        if len(edges) < 2:
            return None
        newest = _grad([root], edges[-1:], None)[0]
        if newest is None:
            return None
        began = time.perf_counter()
        back = _grad(edges[-1:], edges, [newest])
        once = time.perf_counter() - began
        carried = [0.0 if g is None else grad_stat(g).norm for g in back[::-1]]
        if len({len(outputs) for outputs in self._edges}) > 1 or list(newest.shape) != self._shape or newest.dim() > 2:
            return carried, []
        affordable = (seconds - once) / max(once * _DIRECTIONS / len(edges) * 4, 1e-4)
        steps = min(len(edges) - 1, _STEPS, int(affordable))
        if steps < FEWEST:
            return carried, []
        return carried, self._exponents(newest, steps)

    def _exponents(self, like: Tensor, steps: int) -> list[float]:
        flat = like.reshape(1, -1) if like.dim() == 1 else like
        rows, parts = min(len(flat), FOLLOWED), len(self._edges[0])

        def pull(t: int) -> Callable[[Tensor], Tensor]:
            def apply(q: Tensor) -> Tensor:
                found = []
                for j in range(q.shape[2]):
                    sent = []
                    for part in q[:, :, j].chunk(parts, dim=1):
                        v = torch.zeros_like(flat)
                        v[:rows] = part
                        sent.append(v.reshape(like.shape))
                    got = self._pull(t, sent)
                    found.append(torch.cat([g.reshape(flat.shape)[:rows] for g in got], dim=1))
                return torch.stack(found, dim=2)

            return apply

        last = len(self._edges) - 1
        maps = [pull(t) for t in range(last, last - steps, -1)]
        start = directions(rows, parts * flat.shape[1], _DIRECTIONS, flat)
        return exponents(maps, start, warmup(steps))

    def _pull(self, t: int, sent: list[Tensor]) -> list[Tensor]:
        """Send gradients from the parts of one state to those of the state before, each part taken as independent."""
        before = self._edges[t - 1]
        got = [
            torch.zeros_like(v) if g is None else g
            for g, v in zip(_grad(self._edges[t], before, sent), sent, strict=True)
        ]
        if len(got) == 2:  # h of an LSTM cell is made from its c: what reaches c by way of h was counted for h
            (through,) = _grad(before[:1], before[1:], got[:1])
            got[1] = got[1] if through is None else got[1] - through
        return got


def _grad(
    out: Sequence[Tensor] | Sequence[GradientEdge], to: Sequence[GradientEdge], given: Sequence[Tensor] | None
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(list(out), list(to), given, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
