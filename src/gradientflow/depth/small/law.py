"""What mean-field theory says of a small network before it is built, from its knobs alone.

The states of a wide network at its start are Gaussian. With weights of variance σ_w²/n and biases of variance σ_b² a layer takes
states of mean square q to pre-activations of variance σ_w² q + σ_b², and multiplies the gradient's norm by √(σ_w² E[φ'(z)²]) (Poole
et al. 2016; Schoenholz et al. 2017, eq. 7); a normalisation divides that by what it divides the pre-activation by, where batch
normalisation takes the mean away first (Yang et al. 2019: ×1.21 with ReLU); a skip path, x + W φ(x),
adds 1 to its square (Yang & Schoenholz 2017). A recurrence is the
same map, with the inputs in the place of the biases (Chen et al. 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from msgspec.structs import replace

from gradientflow.depth.small.acts import ACTS
from gradientflow.limits import Limit
from gradientflow.records import Knobs

_S = torch.linspace(-1.0, 1.0, 2001, dtype=torch.float64)
_Z = 8.0 * _S**3  # closest about 0, where a wide Gaussian meets the bend of an activation
_WEIGHT = torch.exp(-0.5 * _Z**2) * _S**2
_WEIGHT /= _WEIGHT.sum()
_STEP, _ENDS = 0.04, 5.0  # of the tables: decades of the spread, from 10⁻⁵ to 10⁵
_SPREAD = {"default": 1 / 3, "xavier": 1.0, "he": 2.0, "orthogonal": 1.0}  # σ_w² at gain 1, as many inputs as outputs
_WIDEST = 40.0  # decades that are told
STIFF = Limit(
    "decades_by_gain",
    0.05,
    "chosen: a gain that changes less than this from its smallest to its largest changes nothing",
)
_LEAST, _MOST = 0.05, 20.0
_TINY, _HUGE = 1e-30, 1e30


@dataclass(frozen=True, slots=True)
class _State:
    """Mean square of a layer's state, and of it what differs from sample to sample."""

    square: float
    apart: float


@dataclass(frozen=True, slots=True)
class _Moments:
    mean: float
    square: float
    slope: float  # mean square


def decades(knobs: Knobs) -> list[float]:
    """Return the gradient at each layer's output (or each time step's state), last first, in decades against the last."""
    factors = _factors(knobs)
    left = [0.0]
    for factor in reversed(factors[1:]):
        left.append(max(-_WIDEST, min(_WIDEST, left[-1] + 0.5 * math.log10(max(factor, 1e-80)))))
    return left


def critical(knobs: Knobs) -> float | None:
    """Return the gain at which theory keeps the gradient's size over the whole of the network; None where none does, or every."""

    def whole(log_gain: float) -> float:
        return decades(replace(knobs, gain=10**log_gain))[-1]

    low, high = math.log10(_LEAST), math.log10(_MOST)
    at_low, at_high = whole(low), whole(high)
    if abs(at_high - at_low) < STIFF or at_low >= 0:
        return None
    if at_high <= 0:  # saturating: it rises, and falls again where the states sit in the tails
        tries = [low + (high - low) * k / 24 for k in range(25)]
        high = max(tries, key=whole)
        if whole(high) < 0:
            return None
    for _ in range(15):  # to the third digit
        middle = 0.5 * (low + high)
        low, high = (middle, high) if whole(middle) < 0 else (low, middle)
    return float(f"{10 ** (0.5 * (low + high)):.3g}")


def _factors(knobs: Knobs) -> list[float]:
    """The square of what each layer multiplies the gradient's norm by, the first first."""
    spread, bias = _SPREAD[knobs.init] * knobs.gain**2, 1 / (3 * knobs.width) if knobs.init == "default" else 0.0
    taken = (
        1 / 3 + 1 / (3 * knobs.width) if knobs.time else 0.0
    )  # inputs of mean square 1 through a layer as PyTorch draws it
    bias = taken if knobs.time else bias
    state = _State(0.0, 0.0) if knobs.time else _State(1.0, 1.0)
    found: list[float] = []
    for _ in range(knobs.time or knobs.depth):
        step = _branch if knobs.skip else _plain
        factor, state = step(knobs, state, spread, bias, taken)
        found.append(factor)
    return found


def _plain(knobs: Knobs, now: _State, spread: float, bias: float, taken: float) -> tuple[float, _State]:
    """x = φ(norm(W x + b))."""
    whole = spread * now.square + bias
    scale = {"none": 1.0, "layer": whole, "batch": spread * now.apart + taken}[knobs.norm]
    m = _moments(knobs.activation, math.sqrt(whole / max(scale, _TINY)) if knobs.norm != "batch" else 1.0)
    return spread * m.slope / max(scale, _TINY), _State(m.square, m.square - m.mean**2)


def _branch(knobs: Knobs, now: _State, spread: float, bias: float, taken: float) -> tuple[float, _State]:
    """x = x + W φ(norm(x)) + b."""
    scale = {"none": 1.0, "layer": now.square, "batch": now.apart}[knobs.norm]
    m = _moments(knobs.activation, math.sqrt(now.square / max(scale, _TINY)) if knobs.norm == "none" else 1.0)
    square, apart = (spread * x + y for x, y in ((m.square, bias), (m.square - m.mean**2, taken)))
    return 1.0 + spread * m.slope / max(scale, _TINY), _State(
        min(now.square + square, _HUGE), min(now.apart + apart, _HUGE)
    )


def _moments(activation: str, std: float) -> _Moments:
    """Means over z ~ N(0, std²) of an activation, of its square, and of the square of its slope."""
    means, squares, slopes = _table(activation)
    at = (math.log10(min(max(std, 10**-_ENDS), 10 ** (_ENDS - 1e-9))) + _ENDS) / _STEP
    k = int(at)
    part = at - k
    square, slope = (math.exp((1 - part) * t[k] + part * t[k + 1]) for t in (squares, slopes))
    return _Moments(std * ((1 - part) * means[k] + part * means[k + 1]), square, slope)


@lru_cache
def _table(activation: str) -> tuple[list[float], list[float], list[float]]:
    """Over the logarithm of the spread: mean / spread, and the logarithms of both squares."""
    std = 10 ** torch.arange(-_ENDS, _ENDS + 2 * _STEP, _STEP, dtype=torch.float64)[:, None]
    z = (std * _Z).requires_grad_()
    with torch.enable_grad():
        value = ACTS[activation].apply(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    value = value.detach()
    means = (value @ _WEIGHT) / std[:, 0]
    squares, slopes = (torch.log(torch.clamp(x.square() @ _WEIGHT, min=_TINY)) for x in (value, slope))
    return means.tolist(), squares.tolist(), slopes.tolist()
