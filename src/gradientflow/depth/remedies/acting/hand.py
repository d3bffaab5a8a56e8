"""The function mode through which interventions act on operations: each torch call of the script passes through it.

It lies above the watcher's own mode, so what an intervention puts in a call's place is what the watcher sees there, at the
script's line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from gradientflow.depth.probe.names import is_relu6, op_name
from gradientflow.depth.probe.trace import BACKWARD_CALLS
from gradientflow.depth.remedies.acting.base import Acting
from gradientflow.ops import writes
from gradientflow.torch_internals import function_modes, set_function_modes, transformed

_KNOWN_MOST = 4000  # functions whose names are remembered


@dataclass(slots=True)
class Call:
    """One torch call on its way: what is called, with what. An intervention may put other things in their place."""

    name: str  # as the records name it: "relu", "div"
    raw: str  # as PyTorch does: "relu_", "__rtruediv__"
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    notes: dict[Any, Any] = field(default_factory=dict)  # what `before` wants `after` to know, by intervention

    @property
    def inplace(self) -> bool:
        """Whether the call writes into its first argument."""
        return writes(self.raw)

    def argument(self, position: int, *names: str) -> Any:
        """Return an argument by position, or by the first of its names that is given; None where it is not."""
        if position < len(self.args):
            return self.args[position]
        return next((self.kwargs[n] for n in names if n in self.kwargs), None)

    def put(self, value: Any, position: int, *names: str) -> None:
        """Put another value in an argument's place."""
        if position < len(self.args):
            self.args = (*self.args[:position], value, *self.args[position + 1 :])
        else:
            name = next((n for n in names if n in self.kwargs), names[0] if names else None)
            if name is not None:
                self.kwargs = self.kwargs | {name: value}

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors among the arguments, lists one level deep."""
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, (list, tuple)):
                yield from (t for t in value if isinstance(t, Tensor))


class OnCalls(Acting):
    """An intervention on torch calls: `before` may change the call, `after` its result. `names` says which it wants to see;
    None: all.
    """

    names: frozenset[str] | None = None

    def wants(self, name: str) -> bool:
        """Whether it looks at calls of this name."""
        return self.names is None or name in self.names

    def here(self, call: Call) -> bool:
        """Whether the call stands at one of the change's places."""
        return self.sites.matches(self.change.places, call.name)

    def before(self, call: Call) -> None:
        """Change the call, or leave it."""

    def after(self, call: Call, out: Any) -> Any:
        """Return the call's result, or another."""
        return out


class _Here(threading.local):
    """What holds for one thread: whether the mode is on its stack, and the module for whose call it was laid there."""

    def __init__(self) -> None:
        self.on = False
        self.module: torch.nn.Module | None = None


class Hand(TorchFunctionMode):
    """The mode. Enter and leave it with `lay` and `lift`.

    Args:
        acting: the interventions, in the order in which they act.
    """

    def __init__(self, acting: Sequence[OnCalls]) -> None:
        super().__init__()
        self.acting = acting
        self._known: dict[Any, tuple[str, tuple[OnCalls, ...]]] = {}
        self._here = _Here()
        self._handles: list[Any] = []

    def lay(self) -> None:
        """Put the mode on this thread's stack. Where it is not, as in a checkpointed block that is computed again on the way
        back, or in another thread, it is laid for the time of a module's call.
        """
        self._push()
        self._handles = [
            register_module_forward_pre_hook(self._before_module),
            register_module_forward_hook(self._after_module, always_call=True),
        ]

    def lift(self) -> None:
        """Take the mode off the stack, wherever on it it lies."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._take()

    def _push(self) -> None:
        self._here.on = True
        set_function_modes([*function_modes(), self])

    def _take(self) -> None:
        self._here.on = False
        set_function_modes([m for m in function_modes() if m is not self])

    def _before_module(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if not self._here.on:
            self._push()
            self._here.module = module

    def _after_module(self, module: torch.nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if self._here.module is module:
            self._here.module = None
            self._take()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name, interested = self._known.get(func) or self._learn(func, op_name(func))
        if name == "hardtanh" and is_relu6(args, kwargs):
            name, interested = self._known.get("relu6") or self._learn("relu6", "relu6")
        if not (interested or func in BACKWARD_CALLS) or transformed():
            return func(*args, **kwargs)
        call = Call(name, getattr(func, "__name__", ""), func, args, kwargs)
        changed: list[OnCalls] = []
        for one in interested:
            form = (call.func, call.args, call.kwargs)
            one.guarded(one.before, call)
            if one.problem is not None:
                call.func, call.args, call.kwargs = form
            elif call.func is not form[0] or call.args is not form[1] or call.kwargs is not form[2]:
                changed.append(one)
        try:
            out = self._backward(call) if func in BACKWARD_CALLS else call.func(*call.args, **call.kwargs)
        except Exception as problem:
            if not changed:
                raise
            for one in changed:
                one.failed(problem)
            return func(*args, **kwargs)
        for one in reversed(interested):
            if not one.asleep:
                found = one.guarded(one.after, call, out)
                out = out if one.problem is not None else found
        return out

    def _backward(self, call: Call) -> Any:
        """Make a backward call, during which the mode is off this thread's stack."""
        before, self._here.on = self._here.on, False
        try:
            return call.func(*call.args, **call.kwargs)
        finally:
            self._here.on = before

    def _learn(self, key: Any, name: str) -> tuple[str, tuple[OnCalls, ...]]:
        found = (name, tuple(one for one in self.acting if one.wants(name)))
        if len(self._known) < _KNOWN_MOST:
            self._known[key] = found
        return found
