"""What was seen of two links between the loss and the weights: samples that do not mix, functions that pass on what they are given."""

from __future__ import annotations

import msgspec


class Isolation(msgspec.Struct):
    """Whether one sample's output hangs on the other samples, by one extra backward pass from that output alone.

    Batch normalisation passes its gradient on unchanged in that pass: that it joins samples is known, and what else does is
    seen behind it.
    """

    source: int  # index of the op behind whose output the samples were told apart
    target: int  # index of the op whose output is compared with the targets
    batch: int  # samples
    outside: float  # share of the gradient's square that arrives at other samples
    mixers: list[
        int
    ] = []  # where some does: the operations between the last output that does not mix and the first that does
    normed: bool = False  # batch normalisation in training mode was passed on the way


class Linearity(msgspec.Struct):
    """What a custom autograd.Function makes of a gradient g and of 2g: ‖backward(2g) − 2·backward(g)‖ / ‖2·backward(g)‖."""

    error: float | None = None  # None: it was not measured
    ignores: bool = False  # it gives the same for g, 2g and −g
    why: str = ""  # why it was not measured
