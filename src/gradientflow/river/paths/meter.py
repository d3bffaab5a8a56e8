"""A field with counters: what a path costs is counted where the field is called, and nowhere else."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation, Field, Linear
from gradientflow.river.fields.kinks import kinks, nodes
from gradientflow.river.paths.path import Cost

REACH = 1e-6  # of a finite difference, relative to |θ|: half the digits of float64 are left, and the spectrum needs two


class Meter:
    """Counts and times the evaluations of one field. Rows are counted: a gradient of each of B drops is B gradients.

    `begin`: a point, (P,), at which the field is asked for kinks; its own start where none is given.
    """

    def __init__(self, field: Field, begin: Tensor | None = None) -> None:
        self.field, self.begin = field, field.start() if begin is None else begin
        self.gradients = 0
        self.hvps = 0
        self.losses = 0
        self.inside = 0.0
        self.looking = 0.0  # gradient equivalents that went into the sharpness
        self.began = time.perf_counter()

    def __call__(self, theta: Tensor) -> Evaluation:
        began = time.perf_counter()
        there = self.field.evaluate(theta)
        self.inside += time.perf_counter() - began
        self.gradients += theta.shape[0] * self.field.price[0]
        self.hvps += theta.shape[0] * self.field.price[1]
        return there

    def value(self, theta: Tensor) -> Tensor:
        """Return the loss alone; NaN where the field has none."""
        self.losses += theta.shape[0]
        found = self.field.value(theta)
        return torch.full((theta.shape[0],), float("nan")) if found is None else found

    def linearize(self, theta: Tensor, here: Evaluation) -> Linear:
        """Return v ↦ Jv at θ: by a difference of rates, for one gradient; in float32 and with kinks exactly, for two.

        A difference also asks nothing of the model that a gradient does not ask: no double backward.
        """
        if self.exact:
            began = time.perf_counter()
            exact = self.field.linearize(theta)
            self.inside += time.perf_counter() - began
            self.gradients += theta.shape[0]

            def product(v: Tensor) -> Tensor:
                began = time.perf_counter()
                out = exact(v)
                self.inside += time.perf_counter() - began
                self.hvps += theta.shape[0]
                return out

            return product
        reach = REACH * theta.norm(dim=1, keepdim=True).clamp_min(1.0)

        def difference(v: Tensor) -> Tensor:
            step = reach / v.norm(dim=1, keepdim=True).clamp_min(1e-300)
            point = torch.addcmul(theta, v, step)
            return self(point).rate.sub_(here.rate).div_(step)

        return difference

    @cached_property
    def exact(self) -> bool:
        """Whether Hessian products have to be exact: in float32, and where a difference would step across kinks."""
        if self.field.dtype != torch.float64:
            return True
        return self.field.potential and self.begin is not None and bool(kinks(nodes(self.field, self.begin[None])))

    def cost(self, *, checking: float = 0.0) -> Cost:
        """Return what was spent so far."""
        seconds = time.perf_counter() - self.began
        return Cost(self.gradients, self.hvps, self.losses, seconds, self.inside, checking, self.looking)

    @property
    def equivalents(self) -> float:
        """Gradient equivalents so far."""
        return self.gradients + 2 * self.hvps + self.losses / 3


class Counted(Field):
    """A metered field as a field: for who wants to look at it and does not count."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.name, self.size, self.potential = meter.field.name, meter.field.size, meter.field.potential
        self.dtype, self.device = meter.field.dtype, meter.field.device

    def evaluate(self, theta: Tensor) -> Evaluation:
        return self._meter(theta)

    def value(self, theta: Tensor) -> Tensor | None:
        self._meter.losses += theta.shape[0]
        return self._meter.field.value(theta)

    def linearize(self, theta: Tensor) -> Linear:
        exact = self._meter.field.linearize(theta)

        def product(v: Tensor) -> Tensor:
            self._meter.hvps += theta.shape[0]
            return exact(v)

        return product

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        return self._meter.field.parameters(theta)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter.field, name)
