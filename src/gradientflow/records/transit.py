"""From backward to the weights, on a probed step: what became of the gradient on the way, and what the optimizer made of it.

A *stage* is one factor between ‖gradient that backward left‖ and ‖Δw‖; the norms behind them telescope, so that the decades
of all stages sum to those of the whole way.
"""

from __future__ import annotations

from typing import Any

import msgspec

HOOK = "hook"  # an alteration within backward
UNSCALE = "unscale_"  # one that takes a factor away which the loss was given, on purpose
# Names of stages.
GRADIENT, BETWEEN, DECAY, MOMENTUM = "gradient", "between", "decay", "momentum"
PRECONDITIONER, RULE, RATE, ROUNDING = "preconditioner", "rule", "learning rate", "rounding"
REWRITES = 100  # of weights, that are all on record; from there on every so many


class Passed(msgspec.Struct):
    """One parameter's gradient from the end of backward to the step.

    `factor` is ⟨before, after⟩ / ⟨before, before⟩, so that −1 is a turned sign, and `cosine` that of the angle between them.
    """

    param: int
    delivered: float  # norm
    arrived: float  # norm
    factor: float | None = None  # None: nothing was delivered, or it was not finite
    cosine: float | None = None
    sent: float | None = None  # norm of what the graph sent it, where hooks of the script's on it took that up
    inside: float | None = None  # what they made of it within backward, as `factor`


class Alteration(msgspec.Struct):
    """One call of the script's that wrote to gradients behind backward, or one hook of its on them within it."""

    name: str  # what was called: "clip_grad_norm_", "mul_", "zero_grad"; "hook"
    file: str | None
    line: int | None
    tensors: int  # whose gradients it changed
    factor: (
        float | None
    )  # of all of them together, as in `Passed`; None where there was nothing before, or nothing finite
    cosine: float | None = None
    params: list[int] = []  # the first of them


class Stage(msgspec.Struct):
    """One stage of the way, and the norm of what came out of it."""

    name: str  # one of those above
    norm: float


class Foreign(msgspec.Struct):
    """What moved weights within a step beside the optimizer's rule.

    `shape` is what it made of them where that is a constraint, which works on what the step left and would change nothing if it
    came again: "clamped", "zeroed", "kept", "rescaled"; "decayed" shrinks all of them a little, "noised" adds normal noise, "shared" is
    memory that other processes may write.
    """

    share: float  # ‖it‖ / ‖what the rule says‖, over the group; of 1 where the rule says that nothing moves
    params: list[int]  # the first of those it moved, most moved first
    shape: str = ""
    name: str | None = None  # the call that wrote, where it was seen
    file: str | None = None
    line: int | None = None


class GroupStep(msgspec.Struct):
    """One parameter group's way from the gradient to its update."""

    group: int
    params: list[int]
    entries: int  # that were looked at
    options: dict[str, Any]
    stages: list[Stage]  # the first is the gradient that backward left, the last the update that was made
    eps_rules: float | None = None  # share of entries whose √v is below eps
    lost: float | None = None  # share of entries with an update that is not zero, whose weight did not change
    lost_energy: float | None = None  # share of ‖Δw‖² in them
    unexplained: float | None = None  # ‖Δw − what the rule says‖ / ‖what the rule says‖; None: a box
    boxed: bool = False  # the optimizer's rule is not known: one stage stands for all of it
    apart: float | None = None  # as `unexplained`, with what rounding can do left in
    foreign: Foreign | None = None  # what did the unexplained part
    fresh: bool = False  # the optimizer has a memory, and it is that of a first step

    @property
    def update(self) -> float:
        return self.stages[-1].norm


class Transit(msgspec.Struct):
    """The way from backward to the weights on one probed step."""

    passed: list[Passed] = []
    alterations: list[Alteration] = []
    groups: list[GroupStep] = []
    again: int = 0  # backward calls on a tensor that backward was called on before, in the same step
    passes: int = 1  # backward calls ahead of the step
    cleared: int = 0  # of them, those whose gradient was cleared ahead of the next
    inner: list[Alteration] = []  # what hooks on tensors within the graph made of the gradient there


class Rewrite(msgspec.Struct):
    """Weights that are not, ahead of a step, what the step before left.

    `undone` is −⟨rewrite, update⟩ / ⟨update, update⟩ with the update of the step before: 1 takes it back. Measured on a sample of
    the weights.
    """

    step: int  # ahead of which it was seen
    optimizer: int
    size: float  # ‖rewrite‖ / ‖weights‖
    undone: float | None
    share: float  # of the sampled weights that changed
    name: str | None = None  # the call that wrote, where it was seen
    file: str | None = None
    line: int | None = None
