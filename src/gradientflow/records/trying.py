"""A remedy that is tried from the page: what may be tried, and how a replay is going."""

from __future__ import annotations

from typing import Literal

import msgspec


class Offer(msgspec.Struct):
    """A remedy of a verdict, and what came of it where it was replayed."""

    kind: str
    text: str
    outcome: str = ""
    won: bool = False


class TrialCourse(msgspec.Struct):
    """The losses of one run of the script, thinned; None: not finite."""

    name: str  # of its folder
    text: str  # what is done in it, in words
    steps: list[int]
    losses: list[float | None]


class Trying(msgspec.Struct):
    """A replay that was started from the page, as it stands."""

    run: str
    kind: str
    state: Literal["going", "ended", "cancelled", "failed"]
    text: str  # what it does now, or what came of it
    trials: list[TrialCourse] = []  # the baseline first
    total: int = 0  # steps of each


class TryAsk(msgspec.Struct):
    """Replay one remedy of a run."""

    name: str
    kind: str


class Offers(msgspec.Struct):
    """What may be tried on a run, what that runs, and what is being tried."""

    remedies: list[Offer]
    runs: str  # what a click runs, in words
    refused: str = ""  # why nothing may be tried
    trying: Trying | None = None
