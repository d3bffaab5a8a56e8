"""Both rivers of a network of the user's own: on a path of its flow, the way back through its layers."""

from __future__ import annotations

import msgspec

from gradientflow.records.run_view import Way


class WayAsk(msgspec.Struct):
    """Look at a network where the flow of a drop is at a time; with `shares` say instead how much each layer moves, at all times."""

    target: str
    foot: str  # where the drop begins, as app/planes.py reads it
    at: float
    t: float  # flow time of the drop
    lane: str
    shares: bool = False


class WaySeen(msgspec.Struct):
    """The way back at the kept moment of a path that is nearest to the time that was asked for."""

    time: float
    moments: int  # that are kept of the path
    way: Way
    text: str = ""  # what is to be known of it: on which of the data it was measured


class LayerShares(msgspec.Struct):
    """How much of dθ/dt each layer has on a path: ‖∂L/∂layer‖² / ‖∂L/∂θ‖², which sum to 1 over the layers.

    Floats: layers × times.
    """

    times: list[float]
    layers: list[str]
