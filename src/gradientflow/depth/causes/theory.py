"""What theory predicts for one layer, from the numbers a probe holds: pure functions of means and standard deviations.

In the mean-field picture a pre-activation z is Gaussian, and an activation φ multiplies the gradient's norm by
√E[φ'(z)²] (Poole et al. 2016; Schoenholz et al. 2017, eq. 7). A layer with weights W multiplies it by ‖W‖_F/√n_out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from gradientflow.ops import ACTIVATIONS

_POINTS = 1600
_REACH = 8.0  # standard deviations


def gaussian_mean(f: Callable[[float], float], mean: float, std: float) -> float:
    """Return E[f(z)] for z ~ N(mean, std²), by the midpoint rule over ±8 standard deviations.

    Example:
        >>> round(gaussian_mean(lambda z: z * z, 1.0, 2.0), 6)
        5.0
    """
    if std <= 0.0:
        return f(mean)
    width = 2 * _REACH / _POINTS
    total = weight = 0.0
    for i in range(_POINTS):
        u = -_REACH + (i + 0.5) * width
        w = math.exp(-0.5 * u * u)
        total += w * f(mean + std * u)
        weight += w
    return total / weight


@lru_cache(256)
def slope(activation: str, mean: float, std: float, parameter: float | None = None) -> float | None:
    """Return √E[φ'(z)²], the gain theory gives an activation on the way back; None for one that is not known.

    Args:
        activation: name of the operation.
        mean, std: of its input.
        parameter: slope of the negative side, for `leaky_relu`.

    Example:
        >>> round(slope("relu", 0.0, 1.0) ** 2, 2), round(slope("sigmoid", 0.0, 0.0), 2)
        (0.5, 0.25)
    """
    if activation == "leaky_relu" and parameter is not None:
        return math.sqrt(gaussian_mean(lambda z: 1.0 if z > 0 else parameter**2, mean, std))
    known = ACTIVATIONS.get(activation)
    f = known.slope if known is not None else None
    return math.sqrt(gaussian_mean(lambda z: f(z) ** 2, mean, std)) if f is not None else None


def unreachable(low: float, high: float, mean: float, std: float) -> float:
    """Return E[d(t)²], the squared distance of Gaussian targets to the interval [low, high]: the mean squared error that no
    network with this output range can go below.

    Example:
        >>> round(unreachable(0.0, math.inf, 0.0, 1.0), 2), unreachable(-1.0, 1.0, 3.0, 0.0)
        (0.5, 4.0)
    """
    return gaussian_mean(lambda t: max(low - t, t - high, 0.0) ** 2, mean, std)


def freezing(keys: int) -> float:
    """Return the spread of scores above which a softmax over `keys` entries falls onto a few of them: √(2 ln n), the
    freezing point of the random energy model (Derrida 1981).
    """
    return math.sqrt(2.0 * math.log(max(keys, 2)))


def chance(classes: int) -> float:
    """Return the cross-entropy of knowing nothing: ln K."""
    return math.log(max(classes, 2))
