"""Records made by hand, for what a rule does just below and just above a number; no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradientflow.depth.causes.case import Case
from gradientflow.records import (
    Finding,
    GradStat,
    Meta,
    Op,
    Operand,
    Optimizer,
    Param,
    ParamState,
    Probe,
    Run,
    Sharpness,
    Step,
    ValueStat,
)

Rule = Callable[[Case], list[Finding]]


def value(rms: float = 1.0, shape: Sequence[int] = (64, 16), **more: Any) -> ValueStat:
    """A tensor of mean zero."""
    plain: dict[str, Any] = {"min": -2 * rms, "max": 2 * rms, "zeros": 0.0, "nan": 0, "inf": 0}
    return ValueStat(list(shape), "float32", 0.0, rms, **(plain | more))


def grad(norm: float = 1.0, **more: Any) -> GradStat:
    """A gradient spread over a hundred entries."""
    plain: dict[str, Any] = {"rms": norm / 10, "max": norm / 5, "zeros": 0.0, "nan": 0, "inf": 0}
    return GradStat(norm, **(plain | more))


@dataclass
class Row:
    """One operation of a chain. `gain` is what it does to the gradient on its way back, `weight` what its weights pass on."""

    name: str
    kind: str
    gain: float = 1.0
    weight: float | None = None
    value: ValueStat = field(default_factory=value)
    alike: float | None = None
    scalars: list[float] = field(default_factory=list)
    leaf: ValueStat | None = None  # a second operand that is data
    tied: str = ""  # rows of one tie have one weight
    came: GradStat | None = None  # the gradient at its output, and
    sent: GradStat | None = None  # the share of it that goes to its input, where they are told in full
    into: ValueStat | None = None  # what a singular operation takes in


def linear(gain: float = 1.0, weight: float | None = None, **more: Any) -> Row:
    return Row("linear", "linear", gain, gain if weight is None else weight, **more)


def tail() -> list[Row]:
    """A layer of four units and a loss over them."""
    return [linear(value=value(shape=(64, 4))), Row("cross_entropy", "loss", value=value(shape=()))]


@dataclass
class Chain:
    """Operations one behind the other, data first, loss last; the gradient of the loss is 1."""

    rows: list[Row]
    data: ValueStat = field(default_factory=value)
    step: int = 1
    batch: int | None = 64
    sharpness: float | None = None
    loss: float | None = 1.0

    def probe(self) -> Probe:
        ops: list[Op] = []
        states: list[ParamState] = []
        norm = 1.0
        norms = [norm := norm * row.gain for row in reversed(self.rows)][::-1]  # sent to the input of each
        held = indices(self.rows)
        for index, row in enumerate(self.rows):
            sent = row.sent or grad(norms[index])
            first = Operand(value=self.data) if index == 0 else Operand(op=index - 1, grad=sent, value=row.into)
            operands = [first]
            at = norms[index + 1] if index + 1 < len(self.rows) else 1.0
            if row.weight is not None:
                got = grad(float(at > 0))
                operands.append(Operand(param=held[index], grad=got))
                size = row.weight * math.sqrt(row.value.shape[-1])
                states.append(ParamState(held[index], size, 0.0, 1.0, 1.0, row.alike, 0, got))
            if row.leaf is not None:
                operands.append(Operand(value=row.leaf))
            ops.append(
                Op(index, row.name, row.kind, "net.py", index + 1, "forward", f"m{index}", None, operands, row.value,
                   row.came or grad(at), scalars=row.scalars)
            )  # fmt: skip
        sharp = Sharpness(self.sharpness, 0.0, 0.0, 1) if self.sharpness is not None else None
        return Probe(
            self.step,
            0.0,
            "first",
            self.loss,
            len(ops) - 1,
            ops,
            states,
            optimizer=0,
            sharpness=sharp,
            batch=self.batch,
        )


def indices(rows: Sequence[Row]) -> dict[int, int]:
    """Row -> its parameter."""
    found: dict[int, int] = {}
    tied: dict[str, int] = {}
    for index, row in enumerate(rows):
        if row.weight is not None:
            found[index] = tied.get(row.tied, len(set(found.values())))
            if row.tied:
                tied[row.tied] = found[index]
    return found


def params(rows: Sequence[Row]) -> list[Param]:
    """The weights of a chain."""
    widths = {param: rows[index].value.shape[-1] for index, param in indices(rows).items()}
    return [
        Param(i, f"m{i}.weight", [width, 16], "float32", True, True, 0, graded=9, in_graph=True)
        for i, width in widths.items()
    ]


def series(value: float | Sequence[float | None] | None, length: int) -> list[float | None]:
    if value is None or isinstance(value, (int, float)):
        return [value] * length
    return list(value) + [value[-1]] * (length - len(value))


def run(
    *chains: Chain,
    losses: Sequence[float | None] = (1.0,) * 60,
    updates: float | Sequence[float | None] | None = 1e-3,
    weights: float | Sequence[float | None] | None = 1.0,
    grads: float | Sequence[float | None] | None = 1.0,
    lr: float | Sequence[float | None] | None = 0.1,
    along: float | None = None,
    optimizer: str | None = "SGD",
    options: dict[str, Any] | None = None,
    optimizers: int = 1,
) -> Run:
    """A run with these probes and one step per loss; by default its loss stands still and its weights hardly move."""
    held = params(chains[0].rows) if chains else []
    length = len(losses)
    made = [
        Optimizer(k, optimizer, options or {}, [p.index for p in held], "train.py", 9, "train.py", 5, length)
        for k in range(optimizers)
        if optimizer is not None
    ]
    meta = Meta("train.py", [], "", "", "", "", params=held, optimizers=made, steps=length, backwards=length)
    columns = zip(
        losses, *(series(x, length) for x in (lr, grads, weights, updates)), strict=True
    )  # fmt: skip
    steps = [
        Step(i + 1, 0.0, k, rate, loss, g, w, u, along=along)
        for i, (loss, rate, g, w, u) in enumerate(columns)
        for k in range(optimizers)
    ]
    return Run(meta, steps, [], [chain.probe() for chain in chains])


def falling(start: float, end: float, length: int = 60) -> list[float]:
    """Losses that fall at an even rate."""
    return [start * (end / start) ** (k / (length - 1)) for k in range(length)]


def progressed(progress: float, length: int = 60) -> list[float]:
    """Losses that stand at 1 and then lower, with (start − end)/(start + end) = progress."""
    half = length // 2
    return [1.0] * half + [(1 - progress) / (1 + progress)] * (length - half)


def zigzag(turns: float, length: int, level: float = 1.0, size: float = 0.01) -> list[float]:
    """Losses about a level, of whose neighbouring changes this share turns around."""
    found, change, due = [level], size, 0.0
    while len(found) < length:
        due += turns
        if due >= 1.0:
            due, change = due - 1.0, -change
        found.append(found[-1] + change)
    return found


def causes(rule: Rule, seen: Run) -> list[str]:
    """What a rule finds in a run."""
    return [f.cause for f in rule(Case(seen))]


def only(found: Iterable[Finding]) -> Finding:
    (finding,) = found
    return finding


def flips(decide: Callable[[float], object], without: float, beyond: float) -> None:
    """Hold a boundary from both sides: what is decided is nothing at `without`, and something at `beyond`."""
    assert not decide(without), f"decided at {without}, where it should not yet"
    assert decide(beyond), f"not decided at {beyond}, where it should"


def turns(decide: Callable[[float], object], one: float, two: float, answers: tuple[object, object]) -> None:
    """Hold a boundary at which one answer turns into another."""
    assert (decide(one), decide(two)) == answers
