"""What a self-contained page holds of a run: every answer that its reader may ask for, within bounds that it tells."""

from __future__ import annotations

import msgspec

from gradientflow.records.run_view import Curves, Excerpt, HeatMap, OpSeen, Routes, RunView, Way


class InlinedWay(msgspec.Struct):
    """One probed step. Its operations carry no source: `sources` are their numbers among the page's excerpts."""

    way: Way
    routes: Routes | None
    ops: list[OpSeen]
    sources: list[int | None]
    users: dict[str, int]  # of a parameter (its number, as JSON has only texts there) the row that uses it


class InlinedMap(msgspec.Struct):
    """The map of gradients, with the largest norm of each column, from which a cell's own follows."""

    map: HeatMap
    largest: list[float | None]


class Inlined(msgspec.Struct):
    """A run in a page. `ways` are by the number of the probe; `floats` are those of the curves, float32 in base64."""

    view: RunView
    ways: list[InlinedWay | None]
    owns: list[InlinedWay | None]  # of each optimizer whose way is not its probe's
    excerpts: list[Excerpt]
    curves: Curves | None
    floats: str
    weights: InlinedMap | None
    biases: InlinedMap | None
    thinned: list[str] = []  # what the record holds, and the page does not
    problems: list[str] = []  # what could not be made
