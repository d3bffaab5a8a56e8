"""The protocol of interventions: a remedy as a mode on a running script, not an edit of it.

Rules for an intervention:

1. It is made from a `Change` and begins with `start`, before the script's first line; `stop` undoes what it hooked.
2. It acts from PyTorch's own hooks and function modes, and changes what the script computes only in the way its remedy says.
3. `acted` counts how often it did something; 0 at the end means that it never met its place.
4. `loss_factor` is what the script's losses must be multiplied with to be in the script's own unit again (a remedy that
   scales the targets changes the unit).
5. It raises nothing into the script: what fails is told in `problem`, and it acts no more.
"""

from __future__ import annotations

from typing import Protocol

from gradientflow.records import Change


class Intervention(Protocol):
    """A remedy that acts while a script runs; the rules are at the head of this module."""

    change: Change
    acted: int
    loss_factor: float
    problem: str | None

    def start(self) -> None: ...
    def stop(self) -> None: ...
