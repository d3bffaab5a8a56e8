"""Remedies in the wiring: the sign of the objective, a penalty's weight, parameters and results that were cut off."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradientflow.depth.probe.trace import BACKWARD_CALLS
from gradientflow.depth.remedies.acting.around_steps import OnSteps
from gradientflow.depth.remedies.acting.base import Together, quietly
from gradientflow.depth.remedies.acting.hand import Call, OnCalls
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.records import Change


class FlipSign(OnCalls):
    """Every backward call gives the negative of its gradient: the script climbs where it went down.

    The call is made on the negative of what it was made on, and the losses that are recorded are that negative: −1 times them
    is the script's own. With `gradient` in the settings the call is made on the loss as it is, with −1 for the gradient that
    comes in: for updates that climb, of which the loss that falls then is the script's own.
    """

    names = frozenset({"backward", "grad"})

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._incoming = bool(self.change.settings.get("gradient"))
        self.loss_factor = 1.0 if self._incoming else -1.0

    def before(self, call: Call) -> None:
        """Negate the roots, or what comes in."""
        if call.func not in BACKWARD_CALLS or (call.name == "grad" and call.kwargs.get("create_graph")):
            return
        roots = call.argument(0, "self", "tensors", "outputs")
        if self._incoming:
            _negate_incoming(call, roots)
        else:
            negative = -roots if isinstance(roots, Tensor) else [-r for r in roots]
            call.put(negative, 0, "tensors", "outputs")
        self.acted += 1


def _negate_incoming(call: Call, roots: Any) -> None:
    """Put the negative of the gradient that comes in at the roots in its place; 1 where none was given."""
    at, name = (2, "grad_outputs") if call.name == "grad" else (1, "grad_tensors")
    name = "gradient" if call.func is Tensor.backward else name
    given, one = call.argument(at, name), isinstance(roots, Tensor)
    every = [roots] if one else list(roots)
    coming = [None] * len(every) if given is None else [given] if isinstance(given, Tensor) else list(given)
    with quietly():
        negative = [-torch.ones_like(r) if g is None else -g for r, g in zip(every, coming, strict=True)]
    call.put(negative[0] if one else negative, at, name)


class Reattach(OnCalls):
    """`detach()` and `.data` at a place hand on the tensor itself, and `no_grad` blocks that begin there leave gradients on.

    Graphs are kept after backward then: what was cut off may be needed by a second one.
    """

    names = frozenset({"detach", "data", "set_grad_enabled", "backward"})

    def before(self, call: Call) -> None:
        """Leave the cut out."""
        if call.name == "backward":
            if self.acted and call.func in BACKWARD_CALLS and len(call.args) < 3:
                call.kwargs = call.kwargs | {"retain_graph": True}
            return
        if not self.change.places or not self.here(call):
            return
        if call.name == "set_grad_enabled":
            if call.args and call.args[0] is False:
                call.args = (True,)
                self.acted += 1
            return
        x = call.argument(0, "input", "self")
        if isinstance(x, Tensor) and x.requires_grad:
            call.func, call.args, call.kwargs = _itself, (x,), {}
            self.acted += 1


def _itself(x: Tensor) -> Tensor:
    return x


class KeepGraph(OnCalls):
    """`torch.autograd.grad` at the place is called with `create_graph=True`."""

    names = frozenset({"grad"})

    def before(self, call: Call) -> None:
        """Set the option."""
        if call.func in BACKWARD_CALLS and self.here(call) and not call.kwargs.get("create_graph"):
            call.kwargs = call.kwargs | {"create_graph": True}
            self.acted += 1


class MatchShapes(OnCalls):
    """Of two operands with as many entries but not the same shape, the second is given the shape of the first."""

    def before(self, call: Call) -> None:
        """Reshape it."""
        a, b = call.argument(0, "input", "self"), call.argument(1, "target", "other")
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and self.here(call)):
            return
        if a.shape != b.shape and a.numel() == b.numel():
            call.put(b.reshape(a.shape), 1, "target", "other")
            self.acted += 1


class Adopt(OnSteps):
    """Parameters that have a gradient and belong to no optimizer are given to the first that steps; with `unfreeze` in the
    settings, what the optimizers hold is trained even where it was frozen.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._adopted = False

    def before(self, optimizer: Optimizer) -> None:
        """Look once for parameters without an optimizer, before the first step."""
        if self._adopted:
            return
        self._adopted = True
        optimizers = [
            o for o in gc.get_objects() if issubclass(type(o), Optimizer)
        ]  # (no look at `__class__`: some compute it)
        held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
        lines = {(p.file, p.line) for p in self.change.places if p.op == "parameter"}
        for p in self.sites.parameters():
            wanted = not lines or self.sites.made(p) in lines
            if id(p) not in held and p.requires_grad and p.grad is not None and wanted:
                optimizer.param_groups[0]["params"].append(p)  # (not a group of its own: schedulers count the groups)
                self.acted += 1
        if self.change.settings.get("unfreeze"):
            for o in optimizers:
                for group in o.param_groups:
                    for p in group["params"]:
                        self.acted += not p.requires_grad
                        p.requires_grad_(True)


class Reconnect(Together):
    """Parameters without an optimizer are adopted, and what was cut off is attached again."""

    def __init__(self, change: Change, sites: Sites) -> None:
        super().__init__(change, sites, Adopt, Reattach)
