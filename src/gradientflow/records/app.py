"""What the local app and its page say to each other. The page's own types are generated from these (`scripts/wire_types.py`).

What is asked comes as JSON. What is answered comes as frames (`app/wire.py`): one of these as a JSON header, and behind it
float32 arrays where there are any. Of paths and portraits the records of `records/flow.py` are sent as they are.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gradientflow.records.flow import Apart, Drops, FixedPoint, Track
from gradientflow.records.plane import Plane, Point2, Shadow

Box = tuple[float, float, float, float]


class Rival(msgspec.Struct):
    """An optimizer to run beside the flow, from the same drop."""

    kind: Literal["gd", "momentum", "adam"]
    lr: float


class Tale(msgspec.Struct):
    """A fixed story: one drop, its optimizers, and what there is to be seen."""

    key: str
    title: str
    target: str  # name of the field
    start: Point2
    t: float
    rivals: list[Rival]
    text: str


class Named(msgspec.Struct):
    """A field that can be chosen in the page."""

    name: str
    text: str


class Opened(msgspec.Struct):
    """A field as the page opens it."""

    target: str
    name: str
    about: str
    size: int
    potential: bool
    box: Box  # of a field of more parameters, which has none: what `PlaneSeen` says
    start: Point2
    t: float  # flow time by which what it shows has happened
    lr: float  # learning rate to begin with: descent follows the flow with it, visibly
    fields: list[Named]
    tales: list[Tale]
    planes: list[str] = []  # kinds of planes, of a field of more than two parameters; empty: it is drawn whole
    layers: bool = False  # a module, seen in a plane: the gradient's way back can be shown on its paths


class WaterAsk(msgspec.Struct):
    """Sample a box; look for what orders it too, where `structure`. On a plane coarsely at first, then up to n × n."""

    target: str
    box: Box
    n: int = 256
    structure: bool = True
    plane: str = ""  # of a field of more parameters: which one, as app/planes.py reads it
    ride: str = ""  # the foot of a flow: the plane is moved to where that flow is at the time `at`
    at: float = 0.0
    t: float = 0.0
    lane: str = ""


class Water(msgspec.Struct):
    """Samples of a box. Arrays: u, v, each n × n, rows of equal θ₂ from the bottom; loss likewise, and on a plane the leak.

    Where there is no loss there are two arrays, on a plane three. `shadow`: when the plane rides, the flow that it rides with.
    """

    name: str
    box: Box
    n: int
    notes: list[str] = []
    leaks: bool = False  # the last array is ‖f⊥‖/‖f‖ at each sample
    middle_leak: float | None = None
    shadow: Shadow | None = None


class PlaneAsk(msgspec.Struct):
    """Find a plane of a field of more than two parameters, and say where drops stand above it.

    plane, feet: as app/planes.py reads them.
    """

    target: str
    plane: str
    lane: str
    feet: list[str] = []


class PlaneSeen(msgspec.Struct):
    """A plane that was found."""

    text: str
    plane: Plane
    box: Box  # in which the flow that it is made of is seen
    feet: list[tuple[float, float, float]]  # of each foot both coordinates, and the distance from the plane
    leak: float | None  # the median over a few samples of the box
    notes: list[str] = []


class Order(msgspec.Struct):
    """What orders a box: points at rest, curves of them, separatrices."""

    box: Box
    fixed: list[FixedPoint]
    valleys: list[list[Point2]]
    ridges: list[list[Point2]]
    separatrices: list[list[Point2]]
    notes: list[str] = []


class BasinsAsk(msgspec.Struct):
    """Ask where the drops of a grid over a box end."""

    target: str
    box: Box
    t: float
    lane: str


class Basins(msgspec.Struct):
    """Where they end. Array: for each point of an n × n grid, rows from the bottom, the number of its place; −1: nowhere.

    places: where they are, the most visited first. shares: of the grid that ends there.
    """

    box: Box
    n: int
    places: list[Point2]
    shares: list[float]


class DropAsk(msgspec.Struct):
    """Solve a drop.

    lane: who asks; a later ask on a lane ends the earlier one. level: "drag" is answered coarsely and at once, "settled" as
    well as it can be. turn: which of the rivals a drag answers, counted on by the page. flow: whether a drag answers the flow
    too. back: follow the flow backwards too.
    """

    target: str
    start: Point2
    t: float
    lane: str
    rivals: list[Rival] = []
    level: Literal["drag", "settled"] = "settled"
    turn: int = 0
    flow: bool = True
    back: bool = False
    plane: str = ""  # of a field of more parameters: where the answer is seen from above, and where `start` lies
    foot: str = ""  # where the drop begins, where that is no point of this plane


class LineAsk(msgspec.Struct):
    """Solve many drops at once."""

    target: str
    starts: list[Point2]
    t: float
    lane: str


class Answer(msgspec.Struct):
    """One part of an answer.

    part: "flow", "back", a rival's kind, "apart" (flow and descents compared), "line" (many drops), or "refused".
    """

    part: str
    exact: bool = False  # solved to tolerance and certified; otherwise a first answer
    track: Track | None = None
    apart: list[Apart] = []
    drops: Drops | None = None
    text: str = ""
    seconds: float = 0.0  # that solving took
    shadow: Shadow | None = None  # on a plane: the track seen from above, with its distance from the plane
