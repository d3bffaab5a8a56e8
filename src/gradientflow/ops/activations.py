"""Activation functions: slope, range, family and names, one row each; every other list of them is derived from this one.

The slope φ' decides the family, and the family decides the gain that weights need:

- *saturating*: φ' falls to 0 on both sides, so a large input of either sign passes no gradient.
- *halving*: φ' falls to (almost) 0 on one side and tends to 1 on the other, so about half of the inputs pass; a gain of √2
  in the weights makes up for it (He et al. 2015, eq. 14).
- *other*: neither; the weights need no gain of their own. (SELU is made so: E[φ'(z)²] = 1.07 for z of unit variance,
  Klambauer et al. 2017.)

A rule asks what the weights alone do to a gradient, against √2 or 1; what a saturating slope takes is counted as the
activation's. The gain that is *planned* for tanh, 5/3, makes up for its slope as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SATURATES, HALVES, OTHER = "saturating", "halving", "other"


@dataclass(frozen=True)
class Activation:
    """What is known of one activation.

    Args:
        name: of the operation, in a record.
        family: "saturating", "halving" or "other"; see the head of this module.
        slope: φ'(z), with PyTorch's default parameters; None where there is no function of one number.
        low, high: range of the output.
        slopes: the least and the largest φ'(z).
        module: its class in `torch.nn`; empty where it has none.
        everywhere: `torch` and tensors have it too, not only `torch.nn.functional`.
        dies: its output is exactly constant, and its slope zero, on a half-line: a unit can stay there for a whole batch.
        alone: it takes one tensor and nothing else, so that another one can be written in its place.
    """

    name: str
    family: str
    slope: Callable[[float], float] | None
    low: float
    high: float
    slopes: tuple[float, float]
    module: str = ""
    everywhere: bool = False
    dies: bool = False
    alone: bool = True

    @property
    def bounded(self) -> bool:
        """Whether its range has two ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z > -700.0 else 0.0


def _bell(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _mish(z: float) -> float:
    squashed = math.tanh(math.log1p(math.exp(z)) if z < 30.0 else z)
    return squashed + z * (1.0 - squashed**2) * _sigmoid(z)


def _hardswish(z: float) -> float:
    return 0.0 if z < -3 else 1.0 if z > 3 else z / 3 + 0.5


_ELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, section 2
_RRELU_SLOPE = (1 / 8 + 1 / 3) / 2  # of the negative side outside of training; drawn between these in training
_INF = math.inf

ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("sigmoid", SATURATES, lambda z: _sigmoid(z) * _sigmoid(-z), 0.0, 1.0, (0.0, 0.25), "Sigmoid", True),
        Activation("tanh", SATURATES, lambda z: 1.0 - math.tanh(z) ** 2, -1.0, 1.0, (0.0, 1.0), "Tanh", True),
        Activation("softsign", SATURATES, lambda z: (1.0 + abs(z)) ** -2, -1.0, 1.0, (0.0, 1.0), "Softsign"),
        Activation("hardtanh", SATURATES, lambda z: float(-1 < z < 1), -1.0, 1.0, (0.0, 1.0), "Hardtanh", dies=True),
        Activation("hardsigmoid", SATURATES, lambda z: (-3 < z < 3) / 6, 0.0, 1.0, (0.0, 1 / 6), "Hardsigmoid"),
        Activation("relu", HALVES, lambda z: float(z > 0), 0.0, _INF, (0.0, 1.0), "ReLU", True, dies=True),
        Activation("relu6", HALVES, lambda z: float(0 < z < 6), 0.0, 6.0, (0.0, 1.0), "ReLU6", dies=True),
        Activation("leaky_relu", HALVES, lambda z: 1.0 if z > 0 else 0.01, -_INF, _INF, (0.01, 1.0), "LeakyReLU"),
        Activation("prelu", HALVES, lambda z: 1.0 if z > 0 else 0.25, -_INF, _INF, (0.25, 1.0), "PReLU", True, alone=False),
        Activation(
            "rrelu", HALVES, lambda z: 1.0 if z > 0 else _RRELU_SLOPE, -_INF, _INF, (_RRELU_SLOPE, 1.0), "RReLU"
        ),
        Activation("elu", HALVES, lambda z: 1.0 if z > 0 else math.exp(z), -1.0, _INF, (0.0, 1.0), "ELU"),
        Activation("celu", HALVES, lambda z: 1.0 if z > 0 else math.exp(z), -1.0, _INF, (0.0, 1.0), "CELU"),
        Activation(
            "selu", OTHER, lambda z: _ELU_SCALE * (1.0 if z > 0 else _SELU_ALPHA * math.exp(z)),
            -_ELU_SCALE * _SELU_ALPHA, _INF, (0.0, _ELU_SCALE * _SELU_ALPHA), "SELU",
        ),
        Activation("gelu", HALVES, lambda z: _below(z) + z * _bell(z), -0.17, _INF, (-0.129, 1.129), "GELU"),
        Activation(
            "silu", HALVES, lambda z: _sigmoid(z) * (1.0 + z * _sigmoid(-z)), -0.2785, _INF, (-0.0999, 1.0999), "SiLU"
        ),
        Activation("mish", HALVES, _mish, -0.3089, _INF, (-0.1133, 1.0885), "Mish"),
        Activation("hardswish", HALVES, _hardswish, -0.375, _INF, (-0.5, 1.5), "Hardswish"),
        Activation("softplus", HALVES, _sigmoid, 0.0, _INF, (0.0, 1.0), "Softplus"),
        Activation("logsigmoid", HALVES, lambda z: _sigmoid(-z), -_INF, 0.0, (0.0, 1.0), "LogSigmoid"),
        Activation("threshold", HALVES, None, -_INF, _INF, (0.0, 1.0), "Threshold", dies=True, alone=False),
        Activation("clamp", HALVES, None, -_INF, _INF, (0.0, 1.0), everywhere=True, dies=True, alone=False),
        Activation("clip", HALVES, None, -_INF, _INF, (0.0, 1.0), everywhere=True, dies=True, alone=False),
        Activation("clamp_min", HALVES, None, -_INF, _INF, (0.0, 1.0), everywhere=True, dies=True, alone=False),
        Activation("clamp_max", HALVES, None, -_INF, _INF, (0.0, 1.0), everywhere=True, alone=False),
        Activation("maximum", HALVES, None, -_INF, _INF, (0.0, 1.0), everywhere=True, dies=True, alone=False),
        Activation("tanhshrink", OTHER, lambda z: math.tanh(z) ** 2, -_INF, _INF, (0.0, 1.0), "Tanhshrink"),
        Activation("softshrink", OTHER, lambda z: float(abs(z) > 0.5), -_INF, _INF, (0.0, 1.0), "Softshrink"),
        Activation("hardshrink", OTHER, lambda z: float(abs(z) > 0.5), -_INF, _INF, (0.0, 1.0), "Hardshrink", True),
        Activation("glu", OTHER, None, -_INF, _INF, (-_INF, _INF), "GLU", alone=False),
    )
}  # fmt: skip

# Classes of torch.nn.modules.activation that are no function of one number, and what they count as instead.
NOT_ELEMENTWISE = {
    "MultiheadAttention": "attention: a layer with weights of its own",
    "Softmax": "softmax: normalises over a dimension",
    "Softmax2d": "softmax over channels",
    "LogSoftmax": "softmax, its logarithm",
    "Softmin": "softmax of what is negated",
}

# Made of straight pieces: the second derivative is zero wherever there is one.
STRAIGHT = frozenset({
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "hardtanh", "threshold", "clamp", "clip", "clamp_min", "clamp_max", "maximum",
    "minimum", "hardsigmoid", "hardshrink", "softshrink", "abs",
})  # fmt: skip
STEPS = frozenset({"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"})  # the first one is

SATURATING = frozenset(a.name for a in ACTIVATIONS.values() if a.family == SATURATES)
HALVING = frozenset(a.name for a in ACTIVATIONS.values() if a.family == HALVES)
SWAPPABLE = frozenset(
    a.name for a in ACTIVATIONS.values() if a.alone or a.module
)  # those that are a thing of their own
DYING = frozenset(a.name for a in ACTIVATIONS.values() if a.dies)
RANGES = {a.name: (a.low, a.high) for a in ACTIVATIONS.values() if a.bounded}
HALVING_GAIN = math.sqrt(2.0)  # He et al. 2015, eq. 14
_SATURATING_GAINS = {"tanh": 5.0 / 3.0}  # PyTorch's own, `torch.nn.init.calculate_gain`; 1 for the rest


def output_range(name: str) -> tuple[float, float] | None:
    """Return the range of what an operation gives, where it has at least one end; None for all others.

    Example:
        >>> output_range("relu"), output_range("softmax"), output_range("leaky_relu")
        ((0.0, inf), (0.0, 1.0), None)
    """
    if name == "softmax":
        return 0.0, 1.0
    found = ACTIVATIONS.get(name)
    return None if found is None or (math.isinf(found.low) and math.isinf(found.high)) else (found.low, found.high)


def critical_gain(names: list[str]) -> float:
    """Return the gain of the weights that keeps the size of a gradient through these activations: √2 where most are of the
    halving family (He et al. 2015, eq. 14), 5/3 for tanh, 1 otherwise.

    Example:
        >>> critical_gain(["celu", "celu", "tanh"]) == critical_gain(["relu"]), critical_gain(["sigmoid"])
        (True, 1.0)
    """
    saturating = [n for n in names if n in SATURATING]
    if sum(n in HALVING for n in names) > len(saturating):
        return HALVING_GAIN
    return _SATURATING_GAINS.get(saturating[0], 1.0) if saturating else 1.0
