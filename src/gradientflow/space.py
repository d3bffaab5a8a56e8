"""Named parameters as one flat vector, and back.

A network's parameters are a dict of tensors of many shapes, perhaps of several dtypes and on several devices. What
moves in a flow is one vector θ of P numbers. A `Space` is the fixed correspondence between the two: the order, the
shapes, and which names are one and the same tensor.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from gradientflow.errors import FieldError


class Space:
    """A dict of named tensors ↔ one vector θ, shape (P,).

    θ has the widest dtype among the tensors and lives on the device of the first. Shared tensors are kept once, under
    their first name.

    Args:
        tensors: name → tensor, in the order in which they follow one another in θ; floating, not empty.

    Raises:
        FieldError: there is no tensor, or one is empty, complex, of integers, or not yet made.

    Attributes:
        names: of the tensors, shared ones once.
        shapes, dtypes, devices: of each, in the same order.
        sizes: how many numbers each has.
        aliases: further names of a shared tensor → the name it is kept under.
        size: P.
        dtype, device: of θ.

    Example:
        >>> space = Space({"w": torch.zeros(2, 2), "b": torch.zeros(2)})
        >>> space.size, space.names
        (6, ('w', 'b'))
        >>> space.unflatten(torch.arange(6.0))["b"]
        tensor([4., 5.])
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if not tensors:
            raise FieldError(
                "there is no parameter to move: expected at least one floating-point tensor, got an empty dict. "
                "Pass params={name: tensor}, or a module that has parameters."
            )
        kept: dict[int, str] = {}
        self.aliases: dict[str, str] = {}
        for name, tensor in tensors.items():
            _check(name, tensor)
            first = kept.setdefault(id(tensor), name)
            if first != name:
                self.aliases[name] = first
        own = {name: tensors[name] for name in kept.values()}
        self.names = tuple(own)
        self.shapes = tuple(t.shape for t in own.values())
        self.dtypes = tuple(t.dtype for t in own.values())
        self.devices = tuple(t.device for t in own.values())
        self.sizes = [t.numel() for t in own.values()]
        self.size = sum(self.sizes)
        self.dtype: torch.dtype = functools.reduce(torch.promote_types, self.dtypes)
        self.device = self.devices[0]
        self.plain = all(t == self.dtype for t in self.dtypes) and all(d == self.device for d in self.devices)

    @classmethod
    def of(cls, module: nn.Module, names: Iterable[str] | None = None) -> Space:
        """Return the space of a module's parameters.

        Args:
            module: its parameters with ``requires_grad`` count; frozen ones do not.
            names: only these, as in ``module.named_parameters()``; None for all.

        Raises:
            FieldError: the module has no parameter that moves, or none of such a name.

        Example:
            >>> layer = nn.Linear(3, 2)
            >>> layer.bias.requires_grad_(False).shape
            torch.Size([2])
            >>> Space.of(layer).names
            ('weight',)
        """
        return cls(moving(module, names))

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the tensors as one vector, (P,); a copy, cut from their graph.

        Raises:
            FieldError: one is missing, or has another shape.

        Example:
            >>> Space({"w": torch.zeros(2), "b": torch.zeros(())}).flatten({"b": torch.tensor(3.0), "w": torch.ones(2)})
            tensor([1., 1., 3.])
        """
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            if name not in tensors:
                raise FieldError(f"the dict has no tensor {name!r}; expected {_few(self.names)}.")
            part = tensors[name]
            if part.shape != shape:
                raise FieldError(f"{name!r} has shape {tuple(part.shape)}; expected {tuple(shape)}.")
            parts.append(part.detach().reshape(-1))
        return self.join(parts)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return tensors that stand in the space's own order as one vector, (P,); a copy."""
        if not self.plain:
            parts = [part.to(device=self.device, dtype=self.dtype) for part in parts]
        return torch.cat([part.reshape(-1) for part in parts])

    def split(self, theta: Tensor) -> list[Tensor]:
        """Return θ, shape (..., P), cut into the tensors, each of shape (..., *its own), of its dtype, on its device.

        Parts are views of θ where dtype and device are its own.

        Raises:
            FieldError: θ has not P numbers.
        """
        if theta.shape[-1] != self.size:
            raise FieldError(
                f"a point of {theta.shape[-1]} numbers, shape {tuple(theta.shape)}, where the parameters are {self.size}: "
                f"{_few(self.names)}. Make points with field.start() or gf.drops(field, n)."
            )
        lead = theta.shape[:-1]
        cuts = torch.split(theta, self.sizes, dim=-1)
        parts = [cut.reshape(lead + shape) for cut, shape in zip(cuts, self.shapes, strict=True)]
        if self.plain and theta.dtype == self.dtype and theta.device == self.device:
            return parts
        return [p.to(device=d, dtype=t) for p, d, t in zip(parts, self.devices, self.dtypes, strict=True)]

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Return θ, shape (..., P), as named tensors of shapes (..., *their own); views where possible.

        Example:
            >>> space = Space({"w": torch.zeros(2, 2), "b": torch.zeros(2, dtype=torch.float64)})
            >>> {name: (tuple(t.shape), t.dtype) for name, t in space.unflatten(torch.zeros(5, 6).double()).items()}
            {'w': ((5, 2, 2), torch.float32), 'b': ((5, 2), torch.float64)}
        """
        return dict(zip(self.names, self.split(theta), strict=True))

    def norms(self, theta: Tensor) -> dict[str, Tensor]:
        """Return ‖·‖₂ of each tensor's part of θ, (..., P) → name → (...), in float64.

        Example:
            >>> Space({"w": torch.zeros(2), "b": torch.zeros(1)}).norms(torch.tensor([3.0, 4.0, 2.0]))
            {'w': tensor(5., dtype=torch.float64), 'b': tensor(2., dtype=torch.float64)}
        """
        cuts = torch.split(theta, self.sizes, dim=-1)
        return {
            name: torch.linalg.vector_norm(cut, dim=-1, dtype=torch.float64)
            for name, cut in zip(self.names, cuts, strict=True)
        }

    def place(self, index: int) -> str:
        """Return which number of which tensor stands at a position of θ.

        Example:
            >>> Space({"w": torch.zeros(2, 2), "b": torch.zeros(2)}).place(3)
            'w[1, 1]'
        """
        for name, shape, size in zip(self.names, self.shapes, self.sizes, strict=True):
            if index < size:
                at = [index // math.prod(shape[i + 1 :]) % shape[i] for i in range(len(shape))]
                return f"{name}[{', '.join(map(str, at))}]" if at else name
            index -= size
        raise IndexError(f"position beyond the {self.size} numbers of θ")

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"<space of {self.size} numbers in {len(self.names)} tensors, {self.dtype}, {self.device}>"


def moving(module: nn.Module, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the parameters of a module that move: those with ``requires_grad``, or of them the named ones.

    Raises:
        FieldError: there is none, or none of such a name.
    """
    own = dict(module.named_parameters())
    if names is None:
        free: dict[str, Tensor] = {name: p for name, p in own.items() if p.requires_grad}
        if not free:
            why = f"all {len(own)} are frozen (requires_grad=False)" if own else "it has none at all"
            raise FieldError(
                f"{type(module).__name__} has no parameter to move: {why}. "
                + (
                    "Call .requires_grad_(True) on those that shall flow."
                    if own
                    else "Expected at least one nn.Parameter."
                )
            )
        return free
    wanted = [names] if isinstance(names, str) else list(names)
    every: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    for name in wanted:
        if name not in every:
            raise FieldError(f"{type(module).__name__} has no parameter {name!r}; it has {_few(tuple(every))}.")
    return {name: every[name] for name in wanted}


def _check(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise FieldError(f"{name!r} is {type(tensor).__name__}; expected a floating-point tensor.")
    if torch.nn.parameter.is_lazy(tensor):
        raise FieldError(
            f"{name!r} has no shape yet (a lazy module). Run the model once on a batch, then make the field."
        )
    if tensor.is_complex():
        raise FieldError(
            f"{name!r} is {tensor.dtype}; a flow moves real numbers. Hold it as torch.view_as_real(tensor)."
        )
    if not tensor.is_floating_point():
        raise FieldError(
            f"{name!r} is {tensor.dtype}; expected a floating-point tensor. Freeze it, or make it .float()."
        )
    if tensor.numel() == 0:
        raise FieldError(
            f"{name!r} is empty, shape {tuple(tensor.shape)}: there is nothing to move. Take it out of the model, or freeze "
            "it with .requires_grad_(False)."
        )


def _few(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
