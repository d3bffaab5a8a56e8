"""What a drop does in parameter space: paths, descents beside them, many drops, and the portrait of a plane.

`Flow` is written as JSON by `gradientflow flow --json` under the schema name in `FLOW_SCHEMA`. Times are flow time: one
gradient-descent step of learning rate η advances t by η. Where there was nothing to measure stands None (in JSON null).
"""

from __future__ import annotations

from typing import Any

import msgspec

from gradientflow.records.plane import Plane, Point2, Shadow

FLOW_SCHEMA = "gradientflow.flow/1"

Numbers = list[float | None]


class Check(msgspec.Struct):
    """One certificate: what was measured and what it may be at most. `ok` None: it could not be made, `text` says why."""

    name: str
    ok: bool | None
    value: float | None
    bound: float | None
    text: str


class Status(msgspec.Struct, frozen=True):
    """Why a path ended.

    Attributes:
        reason: one word: "reached", "event", "budget", "cancelled", "blow-up", "not-lipschitz", "sliding", "not-finite", "stuck";
            of a descent also "diverged".
        text: a sentence with the numbers.
        remedy: what to change, where something is to be changed; else empty.
    """

    reason: str
    text: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """True where the path went where it was asked to go: to the end time, or to an event."""
        return self.reason in ("reached", "event")

    def __str__(self) -> str:
        return self.reason + (f": {self.text}" if self.text else "") + (f" {self.remedy}" if self.remedy else "")


class Spent(msgspec.Struct):
    """What a path cost. `equivalents` are gradient equivalents: gradients + 2 HVPs + ⅓ of the losses."""

    gradients: int = 0
    hvps: int = 0
    losses: int = 0
    seconds: float = 0.0
    inside: float = 0.0  # seconds of it inside the field's own evaluations
    checking: float = 0.0  # gradient equivalents of all these that went into certificates
    equivalents: float = 0.0
    looking: float = 0.0  # gradient equivalents of all these that went into the sharpness


class Track(msgspec.Struct):
    """One path: the solved flow, or an optimizer's steps, with what was kept along it.

    Lists have one entry per kept moment; `moments` says how many there were where they were thinned out.
    """

    label: str  # "flow", or "SGD lr=0.1"
    kind: str  # "flow", "descent"
    method: str
    times: list[float]
    loss: Numbers | None
    grad_norm: Numbers
    sharpness: Numbers  # None at moments where it was not measured
    lambda_min: Numbers
    step: list[float]
    stages: list[int]
    ending: Status
    spent: Spent = msgspec.field(default_factory=Spent)
    checks: list[Check] = []
    points: list[Point2] = []  # the path in the plane, for fields of two parameters: of a flow drawn finer than its
    # moments by cubic Hermite interpolation, of a descent its steps, but for those that hardly move
    start: list[float] = []  # only for fields of a few parameters
    final: list[float] = []
    notes: list[str] = []
    settings: dict[str, Any] = {}
    conserved: dict[str, Point2] = {}  # what the exact flow keeps constant, where it is one number: at start and end
    moments: int = 0
    steps: int | None = None  # that were made; those between the moments, where it is not told
    sharpness_bound: Numbers = []  # how near to each sharpness an eigenvalue lies at least, from the residual
    threshold: float | None = None  # sharpness past which this descent is unstable, as 2/η for plain gradient descent
    threshold_name: str = ""  # how that threshold is written: "2/η", "(2 + 2β)/η"
    loss_floor: Numbers = []  # below these, loss and ‖∇L‖ are the solver's noise; empty where that is not known
    grad_floor: Numbers = []
    clock: list[float] = []  # flow time at each of `points`


class Apart(msgspec.Struct):
    """How far one descent is from the flow at equal flow time."""

    label: str
    times: list[float]
    distance: Numbers  # ‖θ_descent − θ_flow‖
    relative: Numbers = []  # the same over the flow's whole way, max ‖θ(t) − θ(0)‖
    predicted: Numbers = []  # leading term of the theory, η‖e(t)‖
    outputs: Numbers = []  # distance in the network's outputs
    loss: Numbers = []  # loss of the descent minus loss of the flow
    left: float | None = None  # flow time at which the descent left the flow; None: it did not, or it is not known
    crossed: Point2 | None = (
        None  # two measured times between which the flow's sharpness passes the descent's threshold
    )
    why: str = ""  # whether and why it left, a sentence


class Story(msgspec.Struct):
    """One drop: its path by the flow, and by each optimizer from the same point."""

    drop: int  # counted from 1
    flow: Track
    descents: list[Track] = []
    apart: list[Apart] = []


class Rest(msgspec.Struct):
    """A place where drops came to rest, and how many: closer together than 5 ‰ of the spread of all is one place."""

    count: int
    loss: float | None
    grad_norm: float | None
    at: list[float] = []  # only for fields of a few parameters


class Drops(msgspec.Struct):
    """The paths of many drops."""

    count: int
    method: str
    ending: Status
    reasons: dict[str, int]
    ends: list[float]  # flow time at which each drop ended
    loss: Numbers | None  # at each drop's end
    grad_norm: Numbers
    steps: list[int]
    spent: Spent = msgspec.field(default_factory=Spent)
    checks: list[Check] = []
    rests: list[Rest] = []
    basin: list[int] = []  # for each drop the index into `rests`, −1 where it did not come to one of them
    start: list[Point2] = []  # only for fields of two parameters
    final: list[Point2] = []
    trails: list[list[Point2]] = []  # the solved path of each drop, where it was kept
    notes: list[str] = []
    settings: dict[str, Any] = {}

    @property
    def scattered(self) -> bool:
        """Whether they came to rest in so many places that a list of them says nothing: a valley, or a large network."""
        return len(self.rests) > 12 and self.rests[0].count < 0.15 * self.count


class FixedPoint(msgspec.Struct):
    """A point where the field is zero, typed by the eigenvalues of its Jacobian.

    kind: sink, spiral-sink, source, spiral-source, saddle, centre, valley, ridge, degenerate.
    """

    at: Point2
    kind: str
    eigenvalues: list[Point2]  # real and imaginary part of each
    loss: float | None = None


class Portrait(msgspec.Struct):
    """A field over a box, of two parameters or in a plane of more: samples on a grid, and what orders them.

    The samples are a sketch, good for the eye; a path is solved. `u`, `v`, `loss` and `leak` are rows of equal second
    coordinate from the bottom, n entries each, row after row. Where a sample is not finite, loss and leak are None, and the
    rates NaN; in JSON all of them are null.
    """

    name: str
    box: tuple[float, float, float, float]  # first coordinate from, to; second from, to
    n: int
    u: Numbers  # rate along the first coordinate: dθ₁/dt
    v: Numbers  # along the second
    loss: Numbers | None
    fixed: list[FixedPoint] = []
    valleys: list[list[Point2]] = []  # curves of minima, each point of which is at rest
    ridges: list[list[Point2]] = []  # curves of points at rest that the flow leaves
    separatrices: list[list[Point2]] = []  # stable lines of the saddles: between basins
    notes: list[str] = []
    plane: Plane | None = None  # None: the field has two parameters, and nothing leaves the picture
    leak: Numbers = []  # ‖f⊥‖/‖f‖, how much of the rate leaves the plane; None also where the rate is zero
    shadows: list[Shadow] = []
    near: float = 0.0  # a shadow is dashed where its path is farther from the plane than this
    spent: Spent | None = None  # on a plane: finding it and sampling it

    @property
    def middle_leak(self) -> float | None:
        """The median of the leak over the samples; None where there is none."""
        known = sorted(x for x in self.leak if x is not None)
        return known[len(known) // 2] if known else None


class Flow(msgspec.Struct):
    """All that one `gradientflow flow` has to tell."""

    target: str
    field: str
    size: int
    dtype: str
    potential: bool  # dθ/dt = −∇L(θ)
    t: float
    description: str = ""
    stories: list[Story] = []
    drops: Drops | None = None
    comparing: Spent | None = None  # what setting the descents beside the flow took, all of them together
    fixed: list[FixedPoint] = []
    portrait: Portrait | None = None  # of a plane, where one was asked for
    notes: list[str] = []
    schema: str = FLOW_SCHEMA

    @property
    def broken(self) -> list[tuple[str, Check]]:
        """Every certificate that is broken, with the path it belongs to."""
        found = [
            (track.label if len(self.stories) == 1 else f"drop {s.drop}, {track.label}", c)
            for s in self.stories
            for track in (s.flow, *s.descents)
            for c in track.checks
            if c.ok is False
        ]
        return found + [("drops", c) for c in (self.drops.checks if self.drops else []) if c.ok is False]
