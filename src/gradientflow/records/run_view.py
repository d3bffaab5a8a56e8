"""What the app tells its page of a run. What was seen and what it means travel as the records that they are; beside them stands
only what a page cannot know by itself: geometry that terminal and page share, spelled evidence, excerpts, thinned curves.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gradientflow.records.verdict import Budget, Verdict

Pairs = list[tuple[str, str]]
LineName = Literal["loss", "learning rate", "sharpness", "2/η", "update/weight", "gradient"]


class RunName(msgspec.Struct):
    """A run that a page may open."""

    name: str
    age: float  # seconds since its record was written to


class RunList(msgspec.Struct):
    """The runs that a page may open, the newest first, and which one it was started with."""

    runs: list[RunName]
    called: str | None = None


class Excerpt(msgspec.Struct):
    """Lines around a line of a source file that the run recorded: (number, text, whether it is the line itself)."""

    file: str
    line: int
    site: str  # as it is told
    path: str | None  # the file on this machine, for an editor; None: the run does not say where it stands
    lines: list[tuple[int, str, bool]]


class Tick(msgspec.Struct):
    """A probed step."""

    index: int  # among the run's probes
    step: int
    reason: str
    optimizer: int | None = None
    traced: bool = True  # it has a way back
    broken: bool = False  # something in it is not finite


class Told(msgspec.Struct):
    """A finding, spelled: its cause in one line, where, what was measured (name, value, threshold), the source."""

    cause: str
    where: list[str]
    sure: str
    facts: list[tuple[str, str, str]]
    excerpt: Excerpt | None = None
    replayed: list[str] = []  # of each remedy: what a replay measured, or that it is advice


class Fix(msgspec.Struct):
    """What to do about the first finding: the best that a replay proved, else the first remedy, which is then advice."""

    kind: str
    text: str
    proven: bool
    outcome: str  # in words
    before: str = ""  # the loss at the end, without and with it; empty where nothing was measured
    after: str = ""
    diff: str = ""
    checked: str = ""  # whether the edit was run
    reason: str = ""


class Stages(msgspec.Struct):
    """The way from the gradient to the step of one parameter group: rows of (name, a cell for each step, its decades)."""

    title: str
    steps: list[str]
    rows: list[tuple[str, list[str], list[float | None]]]
    boxed: bool = False


class Reach(msgspec.Struct):
    """The singular values of one Jacobian: on a log scale from 0 to 1 their range, mean and quantiles, and the same in numbers."""

    where: str
    name: str
    word: str
    mark: str
    symptom: str  # whose ink it has
    how: str  # it was measured
    numbers: tuple[str, str, str]  # mean σ², largest, least
    low: float
    high: float
    mean: float | None
    quantiles: list[float] = []
    off: str = ""  # all of it lies beyond that end of the scale: "<" or ">"
    whole: bool = False  # of the network, end to end


class Jacobians(msgspec.Struct):
    """The singular values from layer to layer in one probed step; `one` is where σ² = 1 lies, `ticks` are (place, decades)."""

    step: int
    summary: str
    one: float
    ticks: list[tuple[float, int]]
    rows: list[Reach]


class Own(msgspec.Struct):
    """One of several optimizers: what it trains, its steps and losses in words, and the probe that its own way back is from."""

    name: str
    course: str
    decades: float | None
    probe: int | None
    way: int | None = (
        None  # its number, where the way back of that probe is another's: both stepped after one backward pass
    )


class RunView(msgspec.Struct):
    """A run as the page opens it."""

    name: str
    version: int  # grows with the record
    state: Literal["ended", "going", "silent"]  # silent: it was killed, or writes nothing for a while
    headline: str
    script: str
    steps: int
    unit: str
    about: Pairs  # what was run, where and how it ended
    verdict: Verdict
    probes: list[Tick]
    at: int | None  # the probe that the verdict looks at
    told: list[Told]
    notes: Pairs
    fix: Fix | None = None
    crash: str = ""
    tried: list[list[str]] = []  # of a replay: sign, kind, what, loss, against the baseline, decades, symptom, outcome
    tried_title: str = ""
    tried_notes: list[str] = []
    edit: tuple[str, str] | None = (
        None  # the best that could be written, where that is not the fix: its title, and a diff
    )
    stages: list[Stages] = []
    adaptive: bool = False  # 2/η says nothing of the main optimizer
    optimizers: list[str] = []
    own: list[Own] = []  # where there are several optimizers
    error: str = ""  # how the script ended, as Python tells it
    mend: str = ""  # what to do about a run that was not measured
    jacobians: list[Jacobians] = []
    judged: bool = True  # otherwise the verdict stands in for one that is still being worked out


class Way(msgspec.Struct):
    """The gradient's way back at one probed step, and its geometry: decades before and after each row, and the common scale."""

    probe: int
    step: int
    budget: Budget
    spans: list[tuple[float | None, float | None]]
    low: float
    high: float
    first: int | None = None  # the row to look at first
    whose: str = "output"  # gradient that the bars are shares of: the output's, or the loss's
    took: str = ""  # where the decades went, in words
    sites: list[str] = []
    paths: list[str] = []  # of each row the module that holds it; empty where that is the root, which has no path
    folds: list[tuple[int, int, str]] = []  # rows from, to (not with) that are told in one line, and its text


class HeatMap(msgspec.Struct):
    """Gradient norm of parameters over the steps, as codes: 0 nothing, 1 not finite, 2 exactly zero, else a level.

    Codes are bytes in base64, a row for each parameter; a level runs from `low` decades (3) to 0 (255), relative to the
    largest norm of its column.
    """

    names: list[str]
    params: list[int]
    steps: list[int]
    low: float
    codes: str
    left_out: int = 0
    kind: Literal["weights", "biases"] = "weights"
    others: int = 0  # parameters of the other kind


class Route(msgspec.Struct):
    """One of several ways that the gradient takes back to a tensor."""

    name: str
    norm: float
    share: float | None  # of the sum of squares over the routes
    gain: float | None = None  # of a residual block: against the gradient where trunk and branch join
    trunk: bool = False


class Branch(msgspec.Struct):
    """A tensor that several operations take: what comes back by each; `cosine` between the two where there are two."""

    site: str
    name: str
    module: str
    norm: float | None
    routes: list[Route]
    cosine: float | None = None
    residual: bool = False


class TimeRow(msgspec.Struct):
    """One layer and direction of a recurrence: the gradient at its states over time, and what that comes to."""

    name: str
    short: str  # layer and direction, or the quantity where there is only one
    values: list[float | None]  # norms by t; None: not finite
    first: int  # t of the first
    carried: str
    reach: str
    radius: str
    sigma: str
    exponent: str
    rows: str
    mark: str | None = None


class Routes(msgspec.Struct):
    """Of one probed step what a single way back does not show: where routes part, and the gradient over the time of recurrences."""

    step: int
    branches: list[Branch]
    times: list[TimeRow]
    maps: list[
        HeatMap
    ] = []  # of the rows with the same time steps, which are its columns; its parameters are the rows' numbers
    left_out: int = 0


class OpSeen(msgspec.Struct):
    """One row of a way back, in full: facts in groups, and its source."""

    name: str
    where: str
    groups: list[tuple[str, Pairs]]
    excerpt: Excerpt | None = None


class Line(msgspec.Struct):
    """One curve, thinned: so many points; behind the header stand its steps, less `Curves.first`, and then its values."""

    name: LineName
    count: int
    optimizer: int = 0
    log: bool = False


class Curves(msgspec.Struct):
    """A run over training. Steps at which loss or gradient are not finite are told apart, as (step, what)."""

    first: int
    last: int
    lines: list[Line]
    broken: list[tuple[int, str]] = []
    broken_more: int = 0


class Cell(msgspec.Struct):
    """One parameter at one step: what was measured of it, and where it stands in the way back."""

    param: int
    name: str
    step: int  # the recorded one that is nearest
    facts: Pairs
    marks: list[str]
    row: int | None = None  # of the way back at the nearest probe
    probe: int | None = None
