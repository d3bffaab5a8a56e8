"""Remedies around the optimizer's step: its size, the gradient it gets, and when that is cleared.

They act from PyTorch's own step hooks. The watcher's hook before a step comes after ours, and its hook after a step comes
before ours, so that it sees the gradient and the learning rate that the step was really taken with.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradientflow.depth.remedies.acting.base import Acting, quietly
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.records import Change

_BY_HAND = "no optimizer stepped: the script updates its parameters by hand, where no hook can act"


class OnSteps(Acting):
    """An intervention around steps: `before` and `after` each, and `treat` once the step's gradients are there (inside the
    step, where it is given a closure). With `optimizer` in the settings, only around the steps of the optimizer that was the
    so-manieth to take its first step, counted from 0 as in the records.
    """

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites)
        self._handles: list[Any] = []
        self._listening = False
        self._steps = 0
        self._order: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()

    def start(self) -> None:
        """Hook every optimizer there will be."""
        self._handles.append(register_optimizer_step_pre_hook(self._before))

    def stop(self) -> None:
        """Remove the hooks; say so where no optimizer ever stepped."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self.problem is None and not self._steps:
            self.problem = _BY_HAND

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if self.asleep:
            return None
        if not self._listening:  # (only now, so that the watcher's hook after the step comes first)
            self._listening = True
            self._handles.append(register_optimizer_step_post_hook(self._after))
        self._steps += 1
        self._order.setdefault(optimizer, len(self._order))
        if not self._meant(optimizer):
            return None
        with quietly():
            self.guarded(self.before, optimizer)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure):
            self._treat(optimizer)
            return None

        def treated() -> Any:
            loss = closure()
            self._treat(optimizer)
            return loss

        if len(args) > 1:
            return (args[0], treated, *args[2:]), kwargs
        return args, {**kwargs, "closure": treated}

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._meant(optimizer):
            with quietly():
                self.guarded(self.after, optimizer)

    def _meant(self, optimizer: Optimizer) -> bool:
        return self.change.settings.get("optimizer", self._order.get(optimizer)) == self._order.get(optimizer)

    def _treat(self, optimizer: Optimizer) -> None:
        with quietly():
            self.guarded(self.treat, optimizer, graded(optimizer))

    def before(self, optimizer: Optimizer) -> None:
        """Do something before a step."""

    def treat(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        """Change the gradients that a step is taken with."""

    def after(self, optimizer: Optimizer) -> None:
        """Do something after a step."""


def graded(optimizer: Optimizer) -> list[Tensor]:
    """Return the optimizer's parameters that have a gradient, each once."""
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    return [p for p in held.values() if p.grad is not None and not p.grad.is_sparse]


def norm_of(params: list[Tensor]) -> float:
    """Return the Euclidean norm of all gradients together."""
    grads = [p.grad for p in params if p.grad is not None]
    return float(torch.stack([g.detach().double().norm().cpu() for g in grads]).norm()) if grads else 0.0


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


class SkipBadStep(OnSteps):
    """A step whose gradient is not finite, or more than `times` the median of those before, is not taken."""

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites)
        self._norms: weakref.WeakKeyDictionary[Optimizer, list[float]] = weakref.WeakKeyDictionary()

    def treat(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        """Take the gradients away from a step that is out of line."""
        norms = self._norms.setdefault(optimizer, [])
        norm = norm_of(params)
        usual = median(norms[-50:]) if len(norms) >= 5 else math.inf
        if math.isfinite(norm) and not norm > self.number("times", 20.0) * usual:
            norms.append(norm)
            return
        for p in params:
            p.grad = None
        self.acted += 1


class Together(Acting):
    """Several interventions that are one remedy."""

    def __init__(self, change: Change, sites: Sites, *parts: Callable[[Change, Sites], Acting]) -> None:
        self.parts = [part(change, sites) for part in parts]
        super().__init__(change, sites)

    def start(self) -> None:
        """Start every part."""
        for part in self.parts:
            part.start()

    def stop(self) -> None:
        """Stop every part, and sum up. It has a problem only where no part of it acted."""
        for part in self.parts:
            part.stop()
        self.acted = sum(part.acted for part in self.parts)
        self.loss_factor = math.prod(part.loss_factor for part in self.parts)
        problems = [part.problem for part in self.parts if part.problem]
        self.problem = problems[0] if problems and (not self.acted or len(problems) == len(self.parts)) else None
