"""The flow of a model, a loss and data: dθ/dt = −∇L(θ), with L over all the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Evaluation, Linear
from gradientflow.river.fields.batches import Batches
from gradientflow.river.fields.gradients import Gradients
from gradientflow.river.fields.kinks import crooked, nodes, third_warning
from gradientflow.river.fields.laws import Law, laws_of
from gradientflow.river.fields.look import first_look
from gradientflow.river.fields.model import FunctionModel, Model, ModuleModel
from gradientflow.river.fields.network import NetworkField
from gradientflow.river.fields.objective import Objective
from gradientflow.river.fields.wrapped import central_difference


class LossField(NetworkField):
    """The gradient flow of a network: dθ/dt = −∇L(θ), with L the loss over all data.

    L(θ) = Σ_b c_b loss(model(x_b; θ), y_b) / Σ_b c_b + ½λ‖θ‖² for a mean, with c_b the examples of batch b, and
    L(θ) = Σ_b loss(model(x_b; θ), y_b) + ½λ‖θ‖² for a sum; batches are added in their order, so that a run repeats bit
    for bit. θ are the model's parameters with ``requires_grad``, shared ones once, as one vector of P numbers. The model
    itself is left as it is: parameters, buffers, train and eval flags, ``.grad``, and the random state.

    Args:
        model: an nn.Module, or a function ``(params, x)`` with its parameters in `params`. A module is called as
            ``model(x)``, ``model(*x)`` for a tuple, ``model(**x)`` for a dict.
        loss: ``loss(output, target)`` returns a scalar.
        data: a tuple (x, y), or anything that gives the same (x, y) batches each time it is gone through: a list, a
            DataLoader with ``shuffle=False``. x and y may be tensors or arrays of NumPy's, or tuples or dicts of them.
        params: name → tensor, for a model that is a function.
        names: the parameters that move, as in ``model.named_parameters()``; None for all that are not frozen.
        weight_decay: λ, in 1/flow time; part of L.
        microbatch: at most so many examples at once, to bound memory; None for the batches as they come.
        reduction: "mean" or "sum" over the examples; None reads it from the loss, and takes a plain function for a mean.
        accumulate: dtype in which batches are added up, as torch.float64; None for that of θ.
        compile: compile loss and gradient of a single drop with ``torch.compile``; Hessian products stay as they are.
        chunk: drops that are evaluated together; None chooses by the memory of their activations.
        check: look at the first batch, and see that two evaluations agree (`check_deterministic`).

    Raises:
        FieldError: model, loss or data are not what they must be, or the loss at the start is not finite.
        RandomFieldError: two evaluations differ; the message names the cause.

    Attributes:
        size, dtype, device: of θ; the widest dtype of the parameters, the device of the first.
        space: θ ↔ named tensors.
        notes: what a reader of results should know.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> field = LossField(model, nn.functional.mse_loss, (torch.eye(2), torch.tensor([[1.0], [2.0]])))
        >>> at = field.evaluate(torch.zeros(1, 2))
        >>> at.rate, at.value
        (tensor([[1., 2.]]), tensor([2.5000]))
        >>> field.linearize(torch.zeros(1, 2))(torch.ones(1, 2))
        tensor([[-1., -1.]])
    """

    potential = True

    def __init__(
        self,
        model: nn.Module | Callable[[dict[str, Tensor], Any], Any],
        loss: Callable[[Any, Any], Tensor],
        data: Any,
        *,
        params: Mapping[str, Tensor] | None = None,
        names: Iterable[str] | None = None,
        weight_decay: float = 0.0,
        microbatch: int | None = None,
        reduction: str | None = None,
        accumulate: torch.dtype | None = None,
        compile: bool = False,
        chunk: int | None = None,
        check: bool = True,
    ) -> None:
        _numbers(weight_decay, accumulate, chunk)
        self.notes: list[str] = []
        self.model = _model(model, params, names)
        self.space = self.model.space
        self.size, self.dtype, self.device = self.space.size, self.space.dtype, self.space.device
        self.objective = Objective(loss, reduction)
        self.batches = Batches(data, self.device, microbatch)
        self.name = f"{self.objective.name} of {self.model.name}"
        self.weight_decay = float(weight_decay)
        self.gradients = Gradients(
            self.model,
            self.objective,
            self.batches,
            accumulate=accumulate,
            chunk=chunk,
            compile=compile,
            notes=self.notes,
        )
        self._laws: list[Law] | None = None
        self._third: str | None = None
        self._once_only = ""  # why there is no second derivative, where there is none
        if torch.finfo(self.dtype).bits < 32:
            self.notes.append(f"θ is kept in {self.dtype}: 2 or 3 digits. Use model.float() for a flow to be trusted.")
        if check:
            self.notes.extend(first_look(self))

    def evaluate(self, theta: Tensor) -> Evaluation:
        if not self._rows(theta):
            return Evaluation(theta.clone(), theta.new_zeros(0))
        slope, loss = self.gradients.slope(theta)
        rate = slope.neg_()
        if self.weight_decay or theta.requires_grad or not theta.dtype == rate.dtype == loss.dtype:
            theta = theta.detach()
            rate, loss = rate.to(theta), self._decayed(loss, theta)
            if self.weight_decay:
                rate.add_(theta, alpha=-self.weight_decay)
        return Evaluation(rate, loss)

    def value(self, theta: Tensor) -> Tensor:
        if not self._rows(theta):
            return theta.new_zeros(0)
        theta = theta.detach()
        return self._decayed(self.gradients.loss(theta), theta)

    def _rows(self, theta: Tensor) -> int:
        if theta.dim() != 2:
            raise FieldError(
                f"{self.name} got points of shape {tuple(theta.shape)}; expected rows, (B, {self.size}). One point is theta[None]."
            )
        return len(theta)

    def _decayed(self, loss: Tensor, theta: Tensor) -> Tensor:
        loss = loss.to(theta)
        return loss + 0.5 * self.weight_decay * theta.square().sum(-1) if self.weight_decay else loss

    def linearize(self, theta: Tensor) -> Linear:
        if not self._rows(theta):
            return torch.clone
        theta = theta.detach()
        exact: Linear | None = None
        if not self._once_only:
            try:
                exact = self.gradients.curvature(theta)
            except RuntimeError as problem:
                self._give_up(problem)

        def product(v: Tensor) -> Tensor:
            if exact is not None:
                try:
                    out = exact(v.detach()).neg_()
                    return (out.add_(v, alpha=-self.weight_decay) if self.weight_decay else out).to(v)
                except RuntimeError as problem:
                    self._give_up(problem)
            return central_difference(lambda at: self.evaluate(at).rate, theta, v.detach())

        return product

    def _give_up(self, problem: RuntimeError) -> None:
        """Go on without second derivatives where PyTorch has none for an operation; anything else is raised again."""
        if not isinstance(problem, NotImplementedError) and "is not implemented" not in str(problem):
            raise problem
        if not self._once_only:
            self._once_only = str(problem).splitlines()[0]
            self.notes.append(f"Hessian products are differences of gradients: {self._once_only}")

    @property
    def third_derivative_warning(self) -> str | None:
        """What is wrong with PyTorch's third derivatives of this model (layer norm, batch norm in train mode); else None."""
        if self._third is None:
            self._third = third_warning(crooked(nodes(self, self.start()[None]), self.model.modules())) or ""
        return self._third or None

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        """Return what the exact flow keeps constant, name → (B, k); see `laws.laws_of`."""
        if self._laws is None:
            self._laws = [] if self.weight_decay else laws_of(self)
        with torch.no_grad():
            rows = [self.space.unflatten(row) for row in theta.detach()]
            return {law.name: torch.stack([law.of(row).reshape(-1) for row in rows]) for law in self._laws}


def _model(
    model: nn.Module | Callable[[dict[str, Tensor], Any], Any],
    params: Mapping[str, Tensor] | None,
    names: Iterable[str] | None,
) -> Model:
    if isinstance(model, nn.Module):
        if params is not None:
            raise FieldError("params= goes with a model that is a function (params, x); an nn.Module brings its own.")
        return ModuleModel(model, names)
    if not callable(model):
        raise FieldError(f"the model is {type(model).__name__}; expected an nn.Module, or a function (params, x).")
    if params is None:
        raise FieldError(
            f"the model {getattr(model, '__name__', type(model).__name__)!r} is a function: its parameters are missing. "
            "Pass params={name: tensor}; it is called as model(params, x)."
        )
    return FunctionModel(model, params, names)


def _numbers(weight_decay: float, accumulate: torch.dtype | None, chunk: int | None) -> None:
    if not math.isfinite(weight_decay) or weight_decay < 0:
        raise FieldError(f"weight_decay must be 0 or more, in 1/flow time, got {weight_decay!r}.")
    if chunk is not None and chunk < 1:
        raise FieldError(f"chunk must be a number of drops, 1 or more, got {chunk!r}.")
    if accumulate is not None and not accumulate.is_floating_point:
        raise FieldError(f"accumulate must be a floating dtype, as torch.float64, got {accumulate}.")
