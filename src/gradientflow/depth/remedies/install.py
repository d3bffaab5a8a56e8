"""Remedies as interventions on the running script: `install` puts them in place.

install(changes) → Hand (a function mode, above the watcher's) + hooks around optimizer steps
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from gradientflow.depth.probe.frames import set_base
from gradientflow.depth.remedies.acting.base import Acting
from gradientflow.depth.remedies.acting.hand import Hand, OnCalls
from gradientflow.depth.remedies.acting.protocol import Intervention
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.depth.remedies.row import Never
from gradientflow.depth.remedies.table import TABLE
from gradientflow.files import here
from gradientflow.records import Change
from gradientflow.torch_internals import compiler_disabled


class _Idle(Acting):
    """A kind without an act: it does nothing and says why."""

    def start(self) -> None:
        row = TABLE.get(self.change.kind)
        why = row.act.why if row is not None and isinstance(row.act, Never) else "it is no remedy that is known"
        self.problem = f"{self.change.kind} cannot be tried on a running script: {why}"


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
    made = [_acting(change, sites) for change in changes]
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


def _acting(change: Change, sites: Sites) -> Acting:
    row = TABLE.get(change.kind)
    made = row.acting() if row is not None else None
    return _Idle(change, sites) if made is None or isinstance(made, Never) else made(change, sites)


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
