"""Remedies as interventions: for each kind a class that acts on the running script, and `install`, which puts them in place.

install(changes) → Hand (a function mode, above the watcher's) + hooks around optimizer steps
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from gradientflow.depth.probe.frames import set_base
from gradientflow.depth.remedies.acting.base import Acting
from gradientflow.depth.remedies.acting.hand import Hand, OnCalls
from gradientflow.depth.remedies.acting.protocol import Intervention
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.depth.remedies.activations.act import FixOutput, SwapActivation
from gradientflow.depth.remedies.data.act import RepairRows, ScaleInput, ScaleTarget
from gradientflow.depth.remedies.operands.act import ClampOp
from gradientflow.depth.remedies.steps.act import (
    ClipGradient,
    LargerBatch,
    LowerDecay,
    ScaleStep,
    SkipBadStep,
    Together,
    Warmup,
    ZeroGrad,
)
from gradientflow.depth.remedies.structure.act import AddNorm, AddSkip, RemoveNorm
from gradientflow.depth.remedies.weights.act import BreakSymmetry, OpenGates, OrthogonalRecurrence, RescaleInit
from gradientflow.depth.remedies.wiring.act import Adopt, FlipSign, LowerPenalty, Reattach
from gradientflow.files import here
from gradientflow.records import Change
from gradientflow.torch_internals import compiler_disabled

__all__ = ["KINDS", "install"]


def _bad_batch(change: Change, sites: Sites) -> Acting:
    return Together(change, sites, SkipBadStep, RepairRows)


def _regularisation(change: Change, sites: Sites) -> Acting:
    return Together(change, sites, LowerDecay, LowerPenalty)


def _reconnect(change: Change, sites: Sites) -> Acting:
    return Together(change, sites, Adopt, Reattach)


KINDS: dict[str, Callable[[Change, Sites], Acting]] = {
    "swap-activation": SwapActivation,
    "fix-output": FixOutput,
    "rescale-init": RescaleInit,
    "break-symmetry": BreakSymmetry,
    "orthogonal-recurrence": OrthogonalRecurrence,
    "open-gates": OpenGates,
    "clamp-op": ClampOp,
    "scale-input": ScaleInput,
    "scale-target": ScaleTarget,
    "clip-gradient": ClipGradient,
    "lower-step": ScaleStep,
    "raise-step": ScaleStep,
    "warmup": Warmup,
    "zero-grad": ZeroGrad,
    "larger-batch": LargerBatch,
    "lower-regularisation": _regularisation,
    "reconnect": _reconnect,
    "flip-sign": FlipSign,
    "add-skip": AddSkip,
    "add-norm": AddNorm,
    "remove-norm": RemoveNorm,
    "drop-bad-batch": _bad_batch,
}


class _Unknown(Acting):
    """A kind that no intervention is written for: it says so."""

    def start(self) -> None:
        self.problem = f"{self.change.kind} cannot be tried on a running script: there is no intervention for it"


@contextmanager
def install(changes: Sequence[Change]) -> Iterator[list[Intervention]]:
    """Put the interventions of some changes in place, for the time of a block in which the script runs.

    Args:
        changes: what is to be done; those of one script act in the order given. With none, nothing at all is hooked.

    Yields:
        One intervention per change, in the same order; read `acted`, `problem` and `loss_factor` after the block.

    Example:
        >>> import torch
        >>> from gradientflow.records import Change
        >>> with install([Change("lower-step", "a tenth of the learning rate", settings={"factor": 0.1})]) as (lower,):
        ...     w = torch.nn.Parameter(torch.ones(1))
        ...     optimizer = torch.optim.SGD([w], lr=1.0)
        ...     w.sum().backward()
        ...     optimizer.step()
        >>> round(w.item(), 3), lower.acted
        (0.9, 1)
    """
    if not changes:
        yield []
        return
    set_base(str(here()))
    sites = Sites()
    made = [KINDS.get(change.kind, _Unknown)(change, sites) for change in changes]
    on_calls = [one for whole in made for one in getattr(whole, "parts", [whole]) if isinstance(one, OnCalls)]
    hand = Hand(on_calls) if on_calls else None
    sites.open()
    for one in made:
        one.start()
    if hand is not None:
        hand.lay()
    try:
        with _uncompiled() if hand is not None else nullcontext():
            yield list(made)
    finally:
        if hand is not None:
            hand.lift()
        for one in made:
            one.stop()
        sites.close()


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run what `torch.compile` made as it is written: compiled code passes by no mode."""
    before = os.environ.get("TORCH_COMPILE_DISABLE")
    os.environ["TORCH_COMPILE_DISABLE"] = "1"  # read when the compiler is loaded
    disabled = compiler_disabled(True)
    try:
        yield
    finally:
        compiler_disabled(disabled)
        if before is None:
            os.environ.pop("TORCH_COMPILE_DISABLE", None)
        else:
            os.environ["TORCH_COMPILE_DISABLE"] = before
