"""What every field with a network is made of, and its points: θ as the network's parameters, and what it puts out there."""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.river.fields.base import Field
from gradientflow.river.fields.batches import Batches, tensors
from gradientflow.river.fields.gradients import Gradients
from gradientflow.river.fields.model import Model
from gradientflow.river.fields.objective import Objective
from gradientflow.space import Space


class NetworkField(Field):
    """A field with a network in it, for all that look at one: its guard, the laws it keeps, the first look.

    Attributes:
        model, objective, batches: network, loss and data.
        space: θ ↔ named tensors.
        gradients: slopes and curvature of the loss over the data.
    """

    model: Model
    space: Space
    objective: Objective
    batches: Batches
    gradients: Gradients

    def start(self) -> Tensor:
        """Return the model's present parameters, (P,); a copy."""
        return self.space.flatten(self.model.present())

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        """Return one point, (P,), as named tensors of their own shapes and dtypes, views of θ where possible.

        They go into a model with ``model.load_state_dict(field.parameters(theta), strict=False)``.
        """
        return self.space.unflatten(theta)

    def write(self, theta: Tensor) -> None:
        """Copy one point, (P,), into the model.

        Example:
            >>> from gradientflow.river import LossField
            >>> model = torch.nn.Linear(2, 1, bias=False)
            >>> field = LossField(model, torch.nn.functional.mse_loss, (torch.eye(2), torch.ones(2, 1)))
            >>> field.write(torch.tensor([3.0, 4.0]))
            >>> model.weight.data
            tensor([[3., 4.]])
        """
        with torch.no_grad():
            for own, part in zip(self.model.present().values(), self.space.split(theta.detach()), strict=True):
                own.copy_(part)

    def outputs(self, theta: Tensor) -> Tensor:
        """Return what the model puts out at one point, (P,), for all examples in their order.

        Returns:
            (examples, ...) where the output is one tensor; where it is several, (examples, k) with all their numbers.
        """
        parts = self.space.split(theta.detach())
        rows = []
        with torch.no_grad(), self.model.once():
            for x, _, n in self.batches:
                out = self.model(parts, x)
                rows.append(
                    out if isinstance(out, Tensor) else torch.cat([t.reshape(n, -1) for t in tensors(out)], dim=1)
                )
        return torch.cat(rows)
