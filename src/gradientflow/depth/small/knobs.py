"""How far the knobs may be turned, and networks that are sick in a known way."""

from __future__ import annotations

import math

from gradientflow.errors import UsageError
from gradientflow.records import Knobs, KnobsOpened, Preset

RANGES: dict[str, tuple[float, float]] = {
    "depth": (1, 64), "width": (2, 256), "time": (0, 100), "gain": (0.05, 20.0), "lr": (1e-5, 10.0), "seed": (0, 999),
}  # fmt: skip
STEPS = 60  # of a training
PRESETS = (
    Preset(
        "sigmoid stack",
        "Each sigmoid passes on a quarter of the gradient at most; after twelve of them the first layers hear nothing.",
        Knobs(depth=12, activation="sigmoid"),
    ),
    Preset(
        "default init",
        "PyTorch draws the weights of nn.Linear for no activation in particular: with ReLU ×0.41 of the gradient is left by each layer.",
        Knobs(depth=20, activation="relu"),
    ),
    Preset(
        "exploding RNN",
        "One matrix, applied at each time step: a little too large, and the gradient grows without bound on its way back in time.",
        Knobs(time=40, activation="tanh", init="orthogonal", gain=3.0),
    ),
    Preset(
        "√ at zero",
        "A distance is a square root, and one sample stands twice in the batch: the slope of √ at 0 is infinite.",
        Knobs(depth=4, activation="relu", init="he", loss="distance"),
    ),
)  # fmt: skip


def opened() -> KnobsOpened:
    """Return what the page starts with."""
    return KnobsOpened(PRESETS[0].knobs, list(PRESETS), RANGES, STEPS)


def checked(knobs: Knobs) -> Knobs:
    """Return knobs that may be built.

    Raises:
        UsageError: one is turned too far.
    """
    for name, (low, high) in RANGES.items():
        value = getattr(knobs, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise UsageError(f"{name}: expected {low:g} to {high:g}, got {value:g}.")
    return knobs


def steps(asked: int) -> int:
    """Return a number of training steps that is not too large.

    Raises:
        UsageError: it is.
    """
    if not 1 <= asked <= 4 * STEPS:
        raise UsageError(f"steps of training: expected 1 to {4 * STEPS}, got {asked}.")
    return asked
