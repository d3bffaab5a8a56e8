"""Small models with data, and the plain PyTorch answers that a loss field is held against."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradientflow.river.fields.loss import LossField

F = nn.functional


def data(
    n: int = 23, inputs: int = 3, outputs: int = 2, *, seed: int = 1, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    maker = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=maker, dtype=torch.float64)
    return x.to(dtype), torch.randn(n, outputs, generator=maker, dtype=torch.float64).to(dtype)


def mlp(*sizes: int, act: Callable[[], nn.Module] = nn.Tanh, bias: bool = True, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=bias), act()]
    return nn.Sequential(*layers[:-1]).double()


def plain(model: nn.Module, loss: Callable[[Any, Any], Tensor], x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Return loss and gradient over all data, by autograd on the module itself."""
    value = loss(model(x), y)
    moving = [p for p in model.parameters() if p.requires_grad]
    return value.detach(), torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, moving)])


def hessian(field: LossField, theta: Tensor) -> Tensor:
    """Return the full Hessian at one point, (P, P), by ``torch.func.hessian`` on the flat vector."""

    def loss(row: Tensor) -> Tensor:
        x, y, _ = field.batches.first()
        return field.objective(torch.func.functional_call(field.model.module, field.space.unflatten(row), (x,)), y)  # type: ignore[attr-defined]

    return torch.autograd.functional.hessian(loss, theta)


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Return everything about a model that a field must not change."""
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "ids": {k: id(p) for k, p in model.named_parameters(remove_duplicate=False)},
        "buffers": {k: id(b) for k, b in model.named_buffers()},
        "training": [m.training for m in model.modules()],
        "needs": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [len(m._forward_hooks) for m in model.modules()],
        "random": torch.get_rng_state(),
    }


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> bool:
    tensors = all(torch.equal(before["state"][k], after["state"][k]) for k in before["state"])
    grads = all(a is b is None or torch.equal(a, b) for a, b in zip(before["grads"], after["grads"], strict=True))
    rest = all(before[k] == after[k] for k in ("ids", "buffers", "training", "needs", "hooks"))
    return tensors and grads and rest and torch.equal(before["random"], after["random"])


def scattered(field: LossField, n: int, *, by: float = 0.1, seed: int = 3) -> Tensor:
    maker = torch.Generator().manual_seed(seed)
    start = field.start()
    return start + by * torch.randn(n, field.size, generator=maker, dtype=torch.float64).to(start)


def twin(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)
