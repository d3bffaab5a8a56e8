"""Which weights a call uses: parameters found where they are used, so that modules, plain tensors and functional code are alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from gradientflow.depth.remedies.acting.hand import Call
from gradientflow.ops import CONVOLUTIONS

_LINEAR = frozenset({"linear"})
_PRODUCTS = frozenset({"matmul", "mm", "bmm", "mv", "einsum"})
_ADDED = frozenset({"addmm", "addmv", "baddbmm"})
LAYERS = _LINEAR | _PRODUCTS | CONVOLUTIONS | _ADDED
_TURNED = ("TBackward", "TransposeBackward", "PermuteBackward", "ViewBackward", "UnsqueezeBackward", "SqueezeBackward")


def leaf_of(t: Any) -> tuple[Tensor, bool] | None:
    """Return (the parameter that a tensor is or is a turned view of, whether it is turned); None where it is computed."""
    if not isinstance(t, Tensor) or not t.requires_grad:
        return None
    if t.is_leaf:
        return t, False
    node, turned = t.grad_fn, False
    for _ in range(3):
        name = type(node).__name__
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            return variable, turned
        if node is None or not name.startswith(_TURNED) or not node.next_functions:
            return None
        turned ^= name.startswith(_TURNED[:3])
        node = node.next_functions[0][0]
    variable = getattr(node, "variable", None)
    return (variable, turned) if isinstance(variable, Tensor) else None


def weights_of(call: Call) -> Iterator[tuple[Tensor, int, Tensor | None]]:
    """Yield (weight, number of its inputs, bias) of what a call of a layer multiplies its data with."""
    if call.name in _LINEAR or call.name in CONVOLUTIONS:
        found = leaf_of(call.argument(1, "weight"))
        if found is None or found[0].dim() < 2:
            return
        weight, turned = found
        inputs = weight.shape[0] if turned else math.prod(weight.shape[1:])
        if "transpose" in call.name:
            inputs = weight.shape[0]
        added = leaf_of(call.argument(2, "bias"))
        yield weight, int(inputs), added[0] if added is not None else None
        return
    operands = list(call.args)
    added = None
    if call.name in _ADDED:
        added, operands = leaf_of(operands[0]) if operands else None, operands[1:]
    bias = added[0] if added is not None else None
    if call.name == "einsum":
        operands = list(call.tensors())
    pairs = [
        (k, found) for k, t in enumerate(operands[:2]) if (found := leaf_of(t)) is not None and found[0].dim() >= 2
    ]
    if len(pairs) == 2:  # two leaves: the module's parameter is the weight, a plain tensor is data
        pairs = [p for p in pairs if isinstance(p[1][0], nn.Parameter)][:1] or pairs[1:]
    for k, (weight, turned) in pairs:
        rows, columns = (-1, -2) if turned else (-2, -1)
        left = (k == 0) != (call.raw == "__rmatmul__")
        yield weight, int(weight.shape[columns if left else rows]), bias


def affine_of(call: Call) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    """Yield (scale, shift) of a normalisation that has them."""
    positions = {
        "batch_norm": (3, 4),
        "layer_norm": (2, 3),
        "group_norm": (2, 3),
        "instance_norm": (3, 4),
        "rms_norm": (2, 9),
    }
    scale, shift = positions[call.name]
    found = [leaf_of(call.argument(scale, "weight")), leaf_of(call.argument(shift, "bias"))]
    leaves = [f[0] if f is not None else None for f in found]
    if any(leaf is not None for leaf in leaves):
        yield leaves[0], leaves[1]


def flat_weights(call: Call) -> list[Tensor]:
    """Return the weights that a ready-made recurrent layer is called with, biases too."""
    return [t for t in call.tensors() if t.is_leaf and t.requires_grad]
