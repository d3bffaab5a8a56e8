"""Remedies around the optimizer's step: its size, the gradient it gets, when that is cleared, what regularises it."""

from __future__ import annotations

import math
import weakref
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from gradientflow.depth.remedies.acting.around_steps import OnSteps, norm_of
from gradientflow.depth.remedies.acting.base import Together
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.acting.leaves import leaf_of
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.records import Change


class ScaleStep(OnSteps):
    """The learning rate of every group times a factor, for the time of the step: a scheduler sees its own numbers.

    Settings: `factor`; `least`, below which no learning rate falls.
    """

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites)
        self._kept: list[Any] = []
        self._taken: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()

    def factor(self, taken: int) -> float:
        """Return the factor of a step, after so many that were taken."""
        return self.number("factor", 1.0)

    def before(self, optimizer: Optimizer) -> None:
        """Scale the learning rates."""
        taken = self._taken[optimizer] = self._taken.get(optimizer, 0) + 1
        factor = self.factor(taken - 1)
        self._kept = []
        for group in optimizer.param_groups:
            if "lr" in group:
                self._kept.append((group, group["lr"]))
                wanted = max(group["lr"] * factor, self.number("least", 0.0))
                self.acted += bool(wanted != group["lr"])
                group["lr"] = wanted

    def after(self, optimizer: Optimizer) -> None:
        """Give the learning rates back."""
        for group, lr in self._kept:
            group["lr"] = lr
        self._kept = []


class Warmup(ScaleStep):
    """The learning rate rises linearly over the first `steps` steps of each optimizer."""

    def factor(self, taken: int) -> float:
        """Return (taken + 1) / steps, at most 1."""
        return min(1.0, (taken + 1) / max(self.number("steps", 50), 1.0))


class LowerDecay(OnSteps):
    """Weight decay times `factor`, for the time of the step."""

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites)
        self._kept: list[Any] = []

    def before(self, optimizer: Optimizer) -> None:
        """Scale the weight decay."""
        if self.change.settings.get("only_told"):
            return
        self._kept = [(g, g["weight_decay"]) for g in optimizer.param_groups if g.get("weight_decay")]
        for group, decay in self._kept:
            group["weight_decay"] = decay * self.number("factor", 0.01)
        self.acted += bool(self._kept)

    def after(self, optimizer: Optimizer) -> None:
        """Give the weight decay back."""
        for group, decay in self._kept:
            group["weight_decay"] = decay
        self._kept = []


class ClipGradient(OnSteps):
    """All gradients of a step together are scaled down to `max_norm`, where their norm is larger."""

    def treat(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        """Clip."""
        limit = self.number("max_norm", 1.0)
        norm = norm_of(params)
        if not math.isfinite(norm) or norm <= limit:
            return
        for p in params:
            p.grad.mul_(limit / norm)  # type: ignore[union-attr]
        self.acted += 1


class ZeroGrad(OnSteps):
    """Gradients are cleared after each step."""

    def after(self, optimizer: Optimizer) -> None:
        """Clear."""
        for group in optimizer.param_groups:
            for p in group["params"]:
                self.acted += p.grad is not None
                p.grad = None


class LargerBatch(OnSteps):
    """The gradient is averaged over `batches` steps, and only each of those is taken.

    A step that is left out has no gradients: PyTorch's optimizers skip parameters without one.
    """

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites)
        self._sums: weakref.WeakKeyDictionary[Optimizer, dict[int, Tensor]] = weakref.WeakKeyDictionary()
        self._counts: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()

    def treat(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        """Add this step's gradients to the sum; put the mean in their place on each `batches`-th step."""
        batches = max(int(self.number("batches", 16)), 1)
        sums = self._sums.setdefault(optimizer, {})
        count = self._counts[optimizer] = self._counts.get(optimizer, 0) + 1
        for p in params:
            sums[id(p)] = sums[id(p)] + p.grad if id(p) in sums else p.grad.clone()  # type: ignore[union-attr, operator]
        last = count % batches == 0
        for p in params:
            p.grad = sums[id(p)] / batches if last else None
        if last:
            self._sums[optimizer] = {}
        else:
            self.acted += 1


class LowerPenalty(OnCalls):
    """What an operation at a place makes of weights alone (a penalty) times `factor`; with `only_told` in the settings its
    value alone, so that the script trains as it does.
    """

    def wants(self, name: str) -> bool:
        """Whether a place names it."""
        return any(p.op == name for p in self.change.places)

    def after(self, call: Call, out: Any) -> Any:
        """Scale the penalty."""
        inputs = list(call.tensors())
        if not inputs or not isinstance(out, Tensor) or any(leaf_of(t) is None for t in inputs) or not self.here(call):
            return out
        self.acted += 1
        factor = self.number("factor", 0.01)
        if self.change.settings.get("only_told"):
            return out + (factor - 1.0) * out.detach()
        return out * factor


class LowerRegularisation(Together):
    """Weight decay, and penalties at the places, times `factor`."""

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites, LowerDecay, LowerPenalty)
