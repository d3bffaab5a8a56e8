"""What the graph of a loss tells about its smoothness, and about third derivatives that PyTorch gets wrong."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gradientflow.river.fields.base import Field, Potential, VectorField
from gradientflow.river.fields.culprit import quoted
from gradientflow.torch_internals import is_instance_or_batch_norm, trains

KINKS = {  # nodes whose function has a first derivative that jumps
    "ReluBackward0": "ReLU", "LeakyReluBackward0": "leaky ReLU", "LeakyReluBackward1": "leaky ReLU", "RreluBackward0": "RReLU",
    "PreluKernelBackward0": "PReLU", "HardtanhBackward0": "hard tanh", "HardswishBackward0": "hard swish",
    "HardsigmoidBackward0": "hard sigmoid", "HardshrinkBackward0": "hard shrink", "SoftshrinkBackward0": "soft shrink",
    "ThresholdBackward0": "threshold", "AbsBackward0": "absolute value", "ClampBackward0": "clamp", "ClampBackward1": "clamp",
    "ClampMinBackward0": "clamp", "ClampMaxBackward0": "clamp", "MaximumBackward0": "maximum", "MinimumBackward0": "minimum",
    "MaxBackward0": "maximum", "MaxBackward1": "maximum", "MinBackward0": "minimum", "AmaxBackward0": "maximum",
    "MaxPool2DWithIndicesBackward0": "max pooling", "MaxPool3DWithIndicesBackward0": "max pooling", "TopkBackward0": "top-k",
    "AdaptiveMaxPool2DBackward0": "max pooling", "AdaptiveMaxPool3DBackward0": "max pooling", "SortBackward0": "sorting",
    "FractionalMaxPool2DBackward0": "max pooling", "FractionalMaxPool3DBackward0": "max pooling", "L1LossBackward0": "L1 loss",
    "MultiMarginLossBackward0": "margin loss", "MultilabelMarginLossBackward0": "margin loss", "AminBackward0": "minimum",
    "AminmaxBackward0": "maximum", "FmaxBackward0": "maximum", "FminBackward0": "minimum", "KthvalueBackward0": "k-th value",
    "CummaxBackward0": "maximum", "CumminBackward0": "minimum", "MedianBackward0": "median", "MedianBackward1": "median",
    "NanmedianBackward0": "median", "NanmedianBackward1": "median",
}  # fmt: skip
JUMPS = {  # nodes whose function is in pieces itself
    "SignBackward0", "WhereBackward0", "WhereSelfBackward0", "FloorBackward0", "CeilBackward0", "RoundBackward0",
    "TruncBackward0", "HeavisideBackward0", "FracBackward0", "RemainderBackward0", "RemainderBackward1", "MaskedFillBackward0",
}  # fmt: skip


def nodes(field: Field, row: Tensor) -> list[torch.autograd.graph.Node]:
    """Return the nodes of the graph of a field's loss at one point, (1, P), first batch; empty where there is none.

    Of a vector field: of its rate.
    """
    gradients = getattr(field, "gradients", None)
    with torch.enable_grad():
        if gradients is not None:
            x, y, _ = gradients.batches.first()
            root = gradients.losses(gradients.leaves(row), x, y, many=False).grad_fn
        elif isinstance(field, Potential):
            root = field._values(row.detach().clone().requires_grad_()).grad_fn
        elif isinstance(field, VectorField):
            root = field._rate(row.detach().clone().requires_grad_()).grad_fn
        else:
            return []
    return list(_walk(root))


def _walk(root: torch.autograd.graph.Node | None) -> Iterator[torch.autograd.graph.Node]:
    seen, ahead = set(), [root]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead.extend(after for after, _ in node.next_functions)
            yield node


def kinks_of(field: Field, row: Tensor) -> list[str]:
    """Return which functions with kinks the loss of a field is made of, by its graph at one point, (1, P)."""
    return kinks(nodes(field, row)) if field.potential else []


def kinks(graph: list[torch.autograd.graph.Node]) -> list[str]:
    """Return which functions with kinks a graph holds."""
    return sorted({KINKS[node.name()] for node in graph if node.name() in KINKS})


def smooth(field: Field, row: Tensor) -> bool:
    """Return whether a vector field is made of smooth functions alone, by its graph at one point, (1, P); of others nothing is known."""
    if not isinstance(field, VectorField):
        return False
    names = {node.name() for node in nodes(field, row)}
    return bool(names) and not names & (KINKS.keys() | JUMPS)


def crooked(graph: list[torch.autograd.graph.Node], modules: dict[str, nn.Module]) -> dict[str, list[str]]:
    """Return where third derivatives are wrong in this PyTorch: "layer norm" or "batch norm" → names of modules.

    A kind is found in the graph, whoever calls it; the list is empty where it is no module of PyTorch's own.
    """
    found: dict[str, list[str]] = {}
    kinds = {node.name() for node in graph if trains(node)}
    if any("LayerNorm" in kind for kind in kinds) and third_error("layer norm") > 1e-3:
        found["layer norm"] = [n for n, m in modules.items() if isinstance(m, nn.LayerNorm)]
    if any("BatchNorm" in kind for kind in kinds) and third_error("batch norm") > 1e-3:
        found["batch norm"] = [
            n
            for n, m in modules.items()
            if is_instance_or_batch_norm(m) and (m.training or getattr(m, "running_mean", None) is None)
        ]
    return found


def third_warning(where: dict[str, list[str]]) -> str | None:
    """Return a sentence about what `crooked` found; None where it found nothing."""
    wrong, refused = list[str](), list[str]()
    for kind, names in where.items():
        told = f"{kind}{f' ({quoted(names)})' if names else ', called as a function,'}"
        if math.isfinite(error := third_error(kind)):
            wrong.append(f"{told} by {100 * error:.0f} % on a small example are wrong")
        else:
            refused.append(f"{told} are not to be had")
    said = " and ".join(wrong + refused)
    return f"third derivatives through {said} in PyTorch {torch.__version__}." if said else None


@functools.cache
def third_error(kind: str) -> float:
    """Return the relative error of PyTorch's ∇³(v, v) through a normalisation, against differences of ∇²v.

    Measured once, on fixed small tensors: about 0.5 and 1.2 in PyTorch 2.13; 1e-9 where it is right; infinite where PyTorch
    refuses to take one, as it does for batch norm since 2.14.

    Example:
        >>> third_error("group norm") < 1e-6
        True
    """
    maker = torch.Generator().manual_seed(0)
    x, v, c = torch.randn(3, 3, 5, generator=maker, dtype=torch.float64)
    normalise: Callable[[Tensor], Tensor] = {
        "layer norm": lambda z: nn.functional.layer_norm(z, (5,)),
        "batch norm": lambda z: nn.functional.batch_norm(z, None, None, training=True),
        "group norm": lambda z: nn.functional.group_norm(z, 1),
    }[kind]

    def derivatives(z: Tensor, order: int = 2) -> list[Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            out = [(normalise(z) * c).sin().sum()]
            for _ in range(order):
                out.append(torch.autograd.grad((out[-1] * (v if len(out) > 1 else 1.0)).sum(), z, create_graph=True)[0])
        return [t.detach() for t in out]

    step = 1e-5
    there, back = derivatives(x + step * v)[2], derivatives(x - step * v)[2]
    try:
        third = derivatives(x, 3)[3]
    except RuntimeError as problem:  # wrong ones are not even offered
        if "support" not in str(problem) and "not implemented" not in str(problem):
            raise
        return math.inf
    truth = (there - back) / (2 * step)
    return float((third - truth).norm() / truth.norm())
