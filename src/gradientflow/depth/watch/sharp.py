"""The sharpness of the batch loss on a probed step, measured on the graph the script just built, before its backward.

Only where a second pass over the graph cannot change what the script computes: no hooks of the user's in it, no
activation checkpointing (it would run the forward again), no custom code that refuses a double backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from gradientflow.curvature import flat, hessian_operator, top_eigenpair
from gradientflow.depth.probe.shards import shares_out
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.probe.traced import Trace
from gradientflow.depth.watch.shield import Effort
from gradientflow.limits import Limit
from gradientflow.records import Sharpness
from gradientflow.torch_internals import any_global_backward_hook, hooks_of, is_python_node, modules_within

MAX_ENTRIES = Limit("parameters", 20_000_000, "chosen: a Hessian product of more costs as much as many steps")
PRODUCTS = Limit("hessian_products", 4, "chosen: fewer do not come near the largest eigenvalue")
PER_TENSOR = Limit(
    "seconds_per_tensor",
    8e-6,
    "measured: a gradient that can be differentiated again takes 10 to 30 µs for each parameter",
)
_MOST_PRODUCTS = 12
_TOO_DEAR = "sharpness not measured: it would cost more than watching may cost on this script"


class SharpnessMeter:
    """Measures the largest Hessian eigenvalue with a warm start from the time before."""

    def __init__(self) -> None:
        self._vector: Tensor | None = None
        self._refused: str | None = None  # once and for all: the model does not change its nature

    def measure(
        self,
        root: Tensor,
        params: Sequence[Tensor],
        trace: Trace,
        allowance: float,
    ) -> Sharpness | None:
        """Return the sharpness, or None with the reason in the trace's notes.

        Args:
            root: the loss, a scalar.
            params: the parameters of the optimizer.
            trace: the forward half of the probe.
            allowance: seconds that may be spent.
        """
        if _affordable(allowance, PER_TENSOR * len(params)) < PRODUCTS:  # (to try costs as much as a product)
            trace.note(_TOO_DEAR)
            return None
        reason = self._refused or self._refuse(root, params, trace)
        if reason is not None:
            trace.note(f"sharpness not measured: {reason}")
            return None
        try:
            return self._lanczos(root, params, trace, allowance)
        except RuntimeError as problem:  # no second derivative, or a graph that may be walked only once
            let_through(problem)
            self._refused = f"PyTorch cannot differentiate this graph twice ({str(problem).splitlines()[0][:120]})"
            trace.note(f"sharpness not measured: {self._refused}")
            return None

    def _lanczos(
        self,
        root: Tensor,
        params: Sequence[Tensor],
        trace: Trace,
        allowance: float,
    ) -> Sharpness | None:
        effort = Effort()
        with torch.enable_grad():
            grads = torch.autograd.grad(root, params, retain_graph=True, create_graph=True, allow_unused=True)
            g = flat(grads, params)
        products = _affordable(allowance, effort.seconds)
        if products < PRODUCTS:
            trace.note(_TOO_DEAR)
            return None
        apply = hessian_operator(g, params)
        plain = g.detach()
        start = plain
        if self._vector is not None and self._vector.shape == plain.shape:
            start = self._vector + 0.1 * plain / plain.norm().clamp_min(1e-30)
        top = top_eigenpair(apply, start, max_products=products, tolerance=0.05)
        if top is None:
            trace.note("sharpness not measured: the gradient is zero or not finite")
            return None
        self._vector = top.vector
        along = top.first
        if start is not plain:
            unit = plain / plain.norm().clamp_min(1e-30)
            along = float(torch.dot(apply(unit), unit))
        return Sharpness(top.value, along, top.residual, top.products + 1)

    @staticmethod
    def _refuse(root: Tensor, params: Sequence[Tensor], trace: Trace) -> str | None:
        reason = second_pass_refused(root, trace)
        if reason is not None:
            return reason
        if not params:
            return "no parameters are known yet"
        if len({(p.device, p.dtype) for p in params}) > 1:
            return "parameters lie on several devices or have several types"
        if sum(p.numel() for p in params) > MAX_ENTRIES:
            return f"more than {MAX_ENTRIES:,.0f} parameters"
        if any(map(hooks_of, params)):
            return "the script has hooks of its own in the graph, and a second backward would call them again"
        return None


def _affordable(allowance: float, once: float) -> int:
    """Return how many Hessian products may be taken, where one gradient takes so many seconds."""
    return int(min(_MOST_PRODUCTS, allowance / max(2.5 * once, 1e-6)))


def second_pass_refused(root: Tensor, trace: Trace) -> str | None:
    """Return why a second pass over the script's graph could change what the script computes, None where it cannot."""
    if Tensor.numel(root) != 1 or root.grad_fn is None:
        return "backward was not called on a scalar"
    if shares_out(m for root_module, _ in trace.roots.values() for _, m in modules_within(root_module)):
        return "parameters are shared out among processes, which would have to make a second pass all together"
    if _has_code_of_the_users(root.grad_fn):
        return "there is an autograd function in Python in the graph, and a second backward would call it again"
    if not bool(torch.isfinite(Tensor.detach(root))):
        return "the loss is not finite"
    if trace.checkpointed:
        return "the script uses activation checkpointing, and a second backward would run the forward again"
    if trace.hooked or any_global_backward_hook():
        return "the script has hooks of its own in the graph, and a second backward would call them again"
    modules: list[Any] = [m for root_module, _ in trace.roots.values() for _, m in modules_within(root_module)]
    if any(map(hooks_of, modules)):
        return "the script has backward hooks on its modules, and a second backward would call them again"
    return None


def _has_code_of_the_users(root: Node) -> bool:
    """Return whether the backward pass runs Python: an autograd.Function may count, draw random numbers, print."""
    seen, todo = {root}, [root]
    while todo:
        node = todo.pop()
        if is_python_node(node):
            return True
        fresh = {target for target, _ in node.next_functions if target is not None} - seen
        seen |= fresh
        todo.extend(fresh)
    return False
