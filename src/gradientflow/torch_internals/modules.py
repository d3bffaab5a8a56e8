"""What a module holds, past any method that the script has overridden, and two kernels that need a way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import torch

from gradientflow.torch_internals.wall import lean_on


def parameters_of(module: torch.nn.Module) -> dict[str, torch.nn.Parameter | None]:
    """Return a module's own parameters by name, past any `named_parameters` of the script's: a live dict."""
    return module._parameters


def buffers_of(module: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    """Return a module's own buffers by name: a live dict."""
    return module._buffers


def children_of(module: torch.nn.Module) -> dict[str, torch.nn.Module | None]:
    """Return a module's own children by name: a live dict."""
    return module._modules


def modules_within(root: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield a module and all below it with their paths, each once, past any `named_modules` of the script's."""
    seen: set[int] = set()
    todo = [("", root)]
    while todo:
        path, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        below = [(f"{path}.{name}" if path else name, m) for name, m in children_of(module).items() if m is not None]
        todo += reversed(below)


def parameters_within(root: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the parameters of a module and of all below it with their paths, each once, past any method of the script's."""
    seen: set[int] = set()
    for path, module in modules_within(root):
        for name, p in parameters_of(module).items():
            if p is not None and id(p) not in seen:
                seen.add(id(p))
                yield (f"{path}.{name}" if path else name), p


_norm_base = lean_on(
    "torch.nn.modules.batchnorm._NormBase", "what batch and instance normalisations have in common",
    "the layer whose third derivative is wrong is not named",
)  # fmt: skip
_batch_norm = lean_on(
    "torch.nn.modules.batchnorm._BatchNorm",
    "what all batch normalisations have in common",
    "batch norms that make a loss random are not named",
)
_weight_norm = lean_on(
    "torch._weight_norm", "the kernel whose second derivative is wrong", "second derivatives through weight normalisation may be wrong",
)  # fmt: skip


def is_batch_norm(module: Any) -> bool:
    """Whether a module normalises over the batch."""
    kind = _batch_norm.value
    return kind is not None and isinstance(module, kind)


def is_instance_or_batch_norm(module: Any) -> bool:
    """Whether a module normalises over the batch or over each of its entries: both run the kernel of batch normalisation."""
    kind = _norm_base.value
    return kind is not None and isinstance(module, kind)


def is_weight_norm_kernel(func: Any) -> bool:
    """Whether a function is PyTorch's fused weight normalisation."""
    return func is not None and func is _weight_norm.value


_dropout = lean_on(
    "torch.nn.modules.dropout._DropoutNd",
    "what all kinds of dropout have in common",
    "dropout is named only where it is nn.Dropout",
)


def is_dropout(module: Any) -> TypeGuard[torch.nn.Dropout]:
    """Whether a module is one of PyTorch's kinds of dropout."""
    return isinstance(module, _dropout.value or torch.nn.Dropout)
