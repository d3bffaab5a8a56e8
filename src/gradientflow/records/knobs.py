"""A small network with knobs: what the page asks of it, and what it is told."""

from __future__ import annotations

from typing import Literal

import msgspec

from gradientflow.records.run_view import RunView, Way

Activation = Literal["relu", "gelu", "silu", "leaky_relu", "tanh", "sigmoid", "none"]
Init = Literal["default", "xavier", "he", "orthogonal"]


class Knobs(msgspec.Struct, frozen=True):
    """A network, its data and its training, as far as they can be turned."""

    depth: int = 20  # layers; a recurrence has one
    width: int = 64
    activation: Activation = "relu"
    init: Init = "default"
    gain: float = 1.0  # what the drawn weights are multiplied by
    skip: bool = False
    norm: Literal["none", "layer", "batch"] = "none"
    time: int = 0  # steps of a recurrence; 0: there is none
    loss: Literal["classes", "distance", "safe distance"] = "classes"
    lr: float = 0.05
    seed: int = 0


class KnobsAsk(msgspec.Struct):
    """Look at a network. lane: who asks; a later ask on a lane ends the earlier one."""

    knobs: Knobs
    lane: str


class TrainAsk(msgspec.Struct):
    """Train a network for so many steps."""

    knobs: Knobs
    lane: str
    steps: int = 60


class Law(msgspec.Struct):
    """The gradient at each layer (or time step), last first, in decades against the last: as it is, and as mean-field theory has it."""

    unit: Literal["layer", "time step"]
    measured: list[float | None]  # None: zero, or not finite
    theory: list[float]
    each_measured: float | None  # factor from one to the next, on the way back
    each_theory: float
    critical: float | None  # gain at which theory keeps the gradient's size; None: no gain does, or every
    text: str


class Turn(msgspec.Struct):
    """Knobs turned so that what was found first is mended."""

    text: str
    knobs: Knobs


class KnobsSeen(msgspec.Struct):
    """What one look at a network showed."""

    knobs: Knobs
    view: RunView
    way: Way
    law: Law
    script: str  # the network as a script of its own
    mend: Turn | None = None
    seconds: float = 0.0


class Preset(msgspec.Struct):
    """A network that is sick in a known way."""

    title: str
    text: str
    knobs: Knobs


class KnobsOpened(msgspec.Struct):
    """What the knobs start with: networks to try, and how far each number may be turned."""

    knobs: Knobs
    presets: list[Preset]
    ranges: dict[str, tuple[float, float]]
    steps: int


class Course(msgspec.Struct):
    """Losses of the first steps, as far as they are known; None: not finite, and training ended there."""

    losses: list[float | None]
    steps: int
    text: str = ""  # at the end


class FlowAsk(msgspec.Struct):
    """Solve the gradient flow of a network from its start."""

    knobs: Knobs
    lane: str


class Linked(msgspec.Struct):
    """Both rivers of a network: its flow through time, and how much of dθ/dt each layer has on the way.

    `shares[l][k]` is ‖∂L/∂layer‖² / ‖∂L/∂θ‖² of layer l at time k; over the layers they sum to 1.
    """

    times: list[float]
    loss: list[float]
    layers: list[str]
    shares: list[list[float]]
    until: float  # flow time that was asked for; as long as the training is
    text: str  # how the solver ended
    seconds: float = 0.0


class LinkedAt(msgspec.Struct):
    """The way back at one time of a flow."""

    index: int
    time: float
    way: Way
    law: Law
