"""Where a watcher's records go."""

from __future__ import annotations

from typing import Protocol

from gradientflow.records import Other, Step


class Sink(Protocol):
    """Where records go: 1. `step` once per step; 2. `add` for anything rarer; 3. neither may raise."""

    def step(self, step: Step) -> None: ...
    def add(self, record: Other) -> None: ...
