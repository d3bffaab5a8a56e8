"""A model as a function of its parameters: called with other tensors in their place, and left as it was.

``torch.func.functional_call`` does the same; putting the tensors straight into the modules' own dicts takes a third of
its time, which shows on small networks.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from gradientflow.errors import FieldError
from gradientflow.space import Space, moving
from gradientflow.torch_internals import buffers_of, forward_hooks_of, is_weight_norm_kernel, parameters_of

T = TypeVar("T")

Loss = Callable[[Any, Any], Tensor]
"""(output, target) → scalar."""


class Model(ABC):
    """What turns parameters and an input into an output.

    Attributes:
        space: of the parameters that move.
        name: what to call it.
    """

    space: Space
    name: str

    @abstractmethod
    def __call__(self, parts: Sequence[Tensor], x: Any) -> Any:
        """Return the output at parameters given in the order of the space."""

    def loss(self, parts: Sequence[Tensor], x: Any, y: Any, objective: Loss) -> Tensor:
        """Return the loss of the output; a loss that reads the model's parameters sees these."""
        return objective(self(parts, x), y)

    def traceable(self, objective: Loss) -> Callable[[Sequence[Tensor], Any, Any], Tensor]:
        """Return (parts, x, y) → loss, written so that torch.compile can follow it."""
        return lambda parts, x, y: self.loss(parts, x, y, objective)

    @abstractmethod
    def present(self) -> dict[str, Tensor]:
        """Return the parameters that move, as they are now."""

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules by name; empty for a plain function."""
        return {}

    @contextlib.contextmanager
    def twice(self) -> Iterator[None]:
        """Choose kernels that can be differentiated twice, rightly, and vectorised."""
        with sdpa_kernel(SDPBackend.MATH):
            yield

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Choose the kernels that are used where there is a gradient, although none is asked for."""
        yield


class ModuleModel(Model):
    """An nn.Module, called with other tensors in the place of its parameters.

    Buffers go in as copies, so that no call changes the module's own. Parameters that do not move are held: they are
    the module's own, cut from the graph.

    Args:
        module: as the user has it, with its train and eval flags.
        names: of the parameters that move; None for all with ``requires_grad``.
    """

    def __init__(self, module: nn.Module, names: Iterable[str] | None = None) -> None:
        self.module, self.name = module, type(module).__name__
        own = moving(module, names)
        self.space = Space(own)
        index = {id(own[name]): i for i, name in enumerate(self.space.names)}
        places = [
            (parameters_of(m), key, p) for m in module.modules() for key, p in parameters_of(m).items() if p is not None
        ]
        self._moving = [(table, key, p, index[id(p)]) for table, key, p in places if id(p) in index]
        self._held = [(table, key, p) for table, key, p in places if id(p) not in index and p.requires_grad]
        self._own = own
        self._with_buffers = [m for m in module.modules() if buffers_of(m)]
        self._recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())
        self._weight_norm = any(map(_has_weight_norm, module.modules()))
        self._fast_attention = any(
            isinstance(m, nn.MultiheadAttention | nn.TransformerEncoder) for m in module.modules()
        )

    def __call__(self, parts: Sequence[Tensor], x: Any) -> Any:
        return self._with(parts, lambda: self._call(x))

    def loss(self, parts: Sequence[Tensor], x: Any, y: Any, objective: Loss) -> Tensor:
        return self._with(parts, lambda: objective(self._call(x), y))

    def _call(self, x: Any) -> Any:
        if isinstance(x, Mapping):
            return self.module(**x)
        return self.module(*x) if isinstance(x, list | tuple) else self.module(x)

    def _with(self, parts: Sequence[Tensor], run: Callable[[], T]) -> T:
        """Return what a call gives while other tensors are in the place of the parameters."""
        buffers = [
            (buffers_of(m), key, b) for m in self._with_buffers for key, b in buffers_of(m).items() if b is not None
        ]
        copies = {id(b): b.clone() for _, _, b in buffers}
        try:
            for table, key, _, i in self._moving:
                table[key] = parts[i]  # type: ignore[assignment]  # a tensor serves as well
            for table, key, p in self._held:
                table[key] = p.detach()  # type: ignore[assignment]
            for slots, key, b in buffers:
                slots[key] = copies[id(b)]
            return run()
        finally:
            for table, key, own, _ in self._moving:
                table[key] = own
            for table, key, p in self._held:
                table[key] = p
            for slots, key, b in buffers:
                slots[key] = b

    def traceable(self, objective: Loss) -> Callable[[Sequence[Tensor], Any, Any], Tensor]:
        whole = _WithLoss(self.module, self._call, objective)
        names = [f"module.{name}" for name in self.space.names]
        buffers = [(f"module.{name}", b) for name, b in self.module.named_buffers()]

        def loss(parts: Sequence[Tensor], x: Any, y: Any) -> Tensor:
            tensors = dict(zip(names, parts, strict=True)) | {name: b.clone() for name, b in buffers}
            out: Tensor = torch.func.functional_call(whole, tensors, (x, y))
            return out

        return loss

    def present(self) -> dict[str, Tensor]:
        return {name: self._own[name] for name in self.space.names}

    def modules(self) -> dict[str, nn.Module]:
        return dict(self.module.named_modules())

    @contextlib.contextmanager
    def twice(self) -> Iterator[None]:
        with super().twice(), contextlib.ExitStack() as stack:
            if self._recurrent and self.space.device.type == "cuda":  # cuDNN's has no second derivative
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if self._weight_norm:
                stack.enter_context(_PlainWeightNorm())
            yield

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        if not self._fast_attention:
            yield
            return
        before = torch.backends.mha.get_fastpath_enabled()  # the fast path would round otherwise than the gradient's
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


class FunctionModel(Model):
    """A function of (dict of parameters, input).

    Args:
        function: ``function(params, x)`` returns the output, and changes neither.
        params: name → tensor; where the flow begins.
        names: of those that move; None for all. The others are held.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Tensor], Any], Any],
        params: Mapping[str, Tensor],
        names: Iterable[str] | None = None,
    ) -> None:
        self.function, self.params = function, params
        self.name = getattr(function, "__name__", type(function).__name__)
        wanted = list(params) if names is None else [names] if isinstance(names, str) else list(names)
        if missing := [name for name in wanted if name not in params]:
            raise FieldError(f"params has no tensor {missing[0]!r}; it has {', '.join(map(repr, params))}.")
        self.space = Space({name: params[name] for name in wanted})
        self._held = {name: t for name, t in params.items() if name not in wanted}

    def __call__(self, parts: Sequence[Tensor], x: Any) -> Any:
        named = dict(zip(self.space.names, parts, strict=True))
        for alias, name in self.space.aliases.items():
            named[alias] = named[name]
        return self.function(named | {name: t.detach() for name, t in self._held.items()}, x)

    def present(self) -> dict[str, Tensor]:
        return {name: self.params[name] for name in self.space.names}


class _WithLoss(nn.Module):
    """A module and its loss in one, so that both see the same parameters."""

    def __init__(self, module: nn.Module, call: Callable[[Any], Any], objective: Loss) -> None:
        super().__init__()
        self.module, self._call, self._objective = module, call, objective

    def forward(self, x: Any, y: Any) -> Tensor:
        return self._objective(self._call(x), y)


class _PlainWeightNorm(TorchFunctionMode):
    """Weight normalisation written out: the second derivative of PyTorch's own kernel takes the norms for constants."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not is_weight_norm_kernel(func):
            return func(*args, **(kwargs or {}))
        v, g, dim = (*args, 0)[:3]
        dim = (kwargs or {}).get("dim", dim)
        others = [i for i in range(v.dim()) if i != dim]  # all of them for −1
        return v * (g / v.square().sum(others, keepdim=dim != -1).sqrt())


def _has_weight_norm(module: nn.Module) -> bool:
    made = type(module).__name__ == "_WeightNorm"
    return made or any(type(hook).__name__ == "WeightNorm" for hook in forward_hooks_of(module))
