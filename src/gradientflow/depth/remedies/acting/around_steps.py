"""Interventions around the optimizer's step, from PyTorch's own step hooks.

The watcher's hook before a step comes after ours, and its hook after a step comes before ours, so that it sees the gradient
and the learning rate that the step was really taken with.
"""

from __future__ import annotations

import weakref
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
