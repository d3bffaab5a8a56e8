"""What a notebook shows of paths: a small still picture and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from gradientflow.river.fields.still import pictures


class Drawn(Protocol):
    """What is drawn of a path; see `Path`."""

    label: str
    times: Tensor
    loss: Tensor | None
    grad_norm: Tensor


def of_paths(paths: Sequence[Drawn], said: str) -> str:
    """Return paths as HTML: their losses on one clock, or ‖dθ/dt‖ where the first has no loss; and a sentence."""
    still, bare = pictures(), paths[0].loss is None
    curves = []
    for path in paths:
        values = path.grad_norm if bare or path.loss is None else path.loss
        curves.append(still.Curve(path.label, path.times.tolist(), values.tolist()))
    return str(still.chart(curves, said, "flow time t", "‖dθ/dt‖" if bare else "loss"))
