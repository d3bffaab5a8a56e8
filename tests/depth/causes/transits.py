"""The way from backward to the weights, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradientflow.records import Alteration, GroupStep, Passed, Rewrite, Run, Stage, Transit
from tests.depth.causes.by_hand import Chain, linear, run, tail


def passed(factor: float | None = 1.0, delivered: float = 2.0, param: int = 0, **more: Any) -> Passed:
    return Passed(param, delivered, delivered * abs(factor or 0.0), factor, None, **more)


def call(name: str, factor: float | None, line: int = 7, params: Sequence[int] = (0,)) -> Alteration:
    return Alteration(name, "train.py", line, len(params), factor, None, list(params))


def group(**more: Any) -> GroupStep:
    """SGD on one group: a gradient of 2, a rate of a tenth."""
    stages = [Stage("gradient", 2.0), Stage("between", 2.0), Stage("learning rate", 0.2), Stage("rounding", 0.2)]
    plain: dict[str, Any] = {"stages": stages, "lost": 0.0, "lost_energy": 0.0, "unexplained": 0.0}
    return GroupStep(0, [0], 64, {"lr": 0.1}, **(plain | more))


def way(factor: float | None = 1.0, *calls: Alteration, groups: Sequence[GroupStep] = (), **more: Any) -> Transit:
    return Transit([passed(factor, **more)], list(calls), list(groups))


def seen(transits: Sequence[Transit], rewrites: Sequence[Rewrite] = (), **more: Any) -> Run:
    """A run with a probed step for each of these."""
    chains = [Chain([linear(), *tail()], step=k + 1) for k in range(max(len(transits), 1))]
    made = run(*chains, **more)
    for probe, transit in zip(made.probes, transits, strict=False):
        probe.transit = transit
    made.rewrites = list(rewrites)
    made.meta.compared = max(len(made.steps) - 1, 0) if made.meta.optimizers else 0
    return made


def back(step: int, undone: float | None = 1.0, **more: Any) -> Rewrite:
    plain: dict[str, Any] = {"optimizer": 0, "size": 0.1, "share": 1.0}
    return Rewrite(step, undone=undone, **(plain | more))
