"""The gradient noise scale: how large a batch would have to be for its gradient to be as much signal as chance.

A batch of b samples has E‖g_b‖² = ‖G‖² + tr Σ / b, with G the gradient over all data and Σ the covariance of one sample's
gradient. Two batch sizes give both unknowns, and B = tr Σ / ‖G‖² (McCandlish, Kaplan, Amodei 2018, appendix A.1).
Successive steps of a script are the two sizes: each gradient is one of b samples, and the mean of k of them, taken at
almost the same weights, is one of k·b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.records import Noise
from gradientflow.torch_internals import add_all, norms

GRADIENTS = Limit("gradients", 4, "chosen: of fewer the mean is no larger batch to speak of")


def noise_scale(small: float, large: float, b_small: float, b_large: float, steps: int = 2) -> Noise:
    """Return signal and noise from the mean squared gradient norms at two batch sizes.

    ‖G‖² = (B·large − b·small) / (B − b),   tr Σ = (small − large) / (1/b − 1/B).

    Args:
        small: mean of ‖gradient‖² over batches of `b_small` samples.
        large: mean of ‖gradient‖² over batches of `b_large` samples.
        b_small: samples in the small batch.
        b_large: samples in the large batch, more than in the small one.
        steps: gradients that went in, for the record.

    Returns:
        Both unbiased, so either can come out negative where it is lost in the other; the scale is then infinite or zero.

    Raises:
        ValueError: the large batch is not larger.

    Example:
        >>> found = noise_scale(small=1 + 16 / 2, large=1 + 16 / 8, b_small=2, b_large=8)
        >>> round(found.signal, 6), round(found.spread, 6), round(found.scale, 6)
        (1.0, 16.0, 16.0)
    """
    if not b_large > b_small > 0:
        raise ValueError(f"noise_scale: expected 0 < b_small < b_large, got {b_small} and {b_large}")
    signal = (b_large * large - b_small * small) / (b_large - b_small)
    spread = (small - large) / (1 / b_small - 1 / b_large)
    scale = max(spread, 0.0) / signal if signal > 0 else math.inf
    return Noise(signal, spread, scale, b_small, steps)


class NoiseMeter:
    """Adds up the gradients of successive steps, and tells the noise scale.

    Holds one copy of the gradient. `see` reads `.grad` and writes to nothing of the script's.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._sum: list[Tensor] = []
        self._squares = 0.0

    def see(self, params: Sequence[Tensor]) -> None:
        """Take in the gradients of one step; a step in which another set of parameters has one starts anew."""
        grads = [p.grad.detach() for p in params if p.grad is not None and not p.grad.is_sparse]
        if [g.shape for g in grads] != [g.shape for g in self._sum]:
            self.steps, self._squares = 0, 0.0
            self._sum = [torch.zeros_like(g) for g in grads]
        if not grads:
            return
        add_all(self._sum, grads)
        self._squares += _squared(grads)
        self.steps += 1

    def estimate(self, batch: int) -> Noise | None:
        """Return the noise scale in samples, None after too few steps or where a gradient was not finite.

        Args:
            batch: samples in one step's batch.
        """
        if self.steps < GRADIENTS or not math.isfinite(self._squares):
            return None
        mean = _squared(self._sum) / self.steps**2
        return noise_scale(self._squares / self.steps, mean, batch, batch * self.steps, self.steps)


def _squared(tensors: list[Tensor]) -> float:
    return math.fsum(float(n) ** 2 for n in norms(tensors))
