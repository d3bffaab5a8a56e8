"""What was computed from weights and then taken out of the graph: by identity, with the cut that took it, passed on through arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gradientflow.torch_internals import weak

_FOLLOWED = 20_000  # tensors followed in one window


class Severed:
    """Tensors without a graph that come from some with one. Holds no tensor alive.

    Of none, where modules are converted by `torch.utils.swap_tensors`: it refuses tensors that anybody refers to weakly.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, int]] = {}

    def of(self, t: Tensor) -> int | None:
        """Return the cut that took a tensor's values out of the graph; None where none is known."""
        found = self._known.get(id(t))
        return found[1] if found is not None and not found[0].expired() else None

    def see(self, inputs: Iterable[Tensor], made: Iterable[Tensor], cut: int | None) -> None:
        """Look at one torch call without a graph.

        Args:
            inputs: what went in; what comes of a severed tensor is severed by the same cut.
            made: what came out.
            cut: the cut that this call is itself, by index.
        """
        if cut is None:
            cut = next((c for t in inputs if (c := self.of(t)) is not None), None)
        if cut is None or len(self._known) >= _FOLLOWED or torch.__future__.get_swap_module_params_on_conversion():
            return
        for t in made:
            self._known[id(t)] = (weak(t), cut)
