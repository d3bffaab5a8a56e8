"""What was seen of a run: what the watcher writes and the rules judge.

`Run` = `Meta` + `Step` per optimizer step + `ParamNorms` + `Probe` (a graph of `Op`) + `Note` + `Rewrite`. Norms called `grad` are
Euclidean norms of ∂L/∂(tensor). Times are seconds since the run began.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from gradientflow.records.checks import Isolation, Linearity
from gradientflow.records.extras import Buffers, Descent, Isometry, Recurrence, Sharpness
from gradientflow.records.transit import Rewrite, Transit

ABSENT = -1.0


class Place(msgspec.Struct, frozen=True):
    """Where something is: a source line, the module it runs in, and the operation."""

    file: str | None = None
    line: int | None = None
    module: str | None = None
    op: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file else ""
        return "  ".join(part for part in (where, self.module or "", self.op or "") if part)


class ValueStat(msgspec.Struct, gc=False):
    """Statistics of one tensor in the forward pass (over its finite entries, counts over all entries).

    `units` counts channels (dimension 1 of a tensor with three or more dimensions that came from a convolution-like
    layout, else the last dimension); `dead` is the share of them that are zero in the whole batch.
    """

    shape: list[int]
    dtype: str
    mean: float
    std: float
    min: float
    max: float
    zeros: float  # share of exact zeros
    nan: int  # count
    inf: int  # count
    saturated: float | None = None  # share of entries past 95 % of the activation's range; None: op has no range
    dead: float | None = None  # share of units that are zero in the whole batch; None: op cannot die
    absmin: float | None = None  # smallest |entry|; only measured for what a singular operation consumes
    spread: float | None = (
        None  # layers: root mean square of what the rows (samples) differ by from their mean; None: not measured
    )
    scores: float | None = None  # attention kernels: standard deviation of the scores within a row, before the softmax

    @property
    def numel(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nonfinite(self) -> int:
        return self.nan + self.inf

    @property
    def absmax(self) -> float:
        return max(abs(self.min), abs(self.max))

    @property
    def rms(self) -> float:
        return math.hypot(self.mean, self.std)


class GradStat(msgspec.Struct, gc=False):
    """Statistics of the gradient at one tensor: norm, root mean square, largest entry, exact zeros, non-finite count."""

    norm: float  # over the finite entries
    rms: float
    max: float
    zeros: float  # share of exact zeros
    nan: int
    inf: int

    @property
    def nonfinite(self) -> int:
        return self.nan + self.inf


class Operand(msgspec.Struct, gc=False):
    """One tensor that an op consumed: the op that made it, or a parameter, or data; with the gradient sent to it."""

    op: int | None = None  # index of the producing Op in Probe.ops; None: a leaf (parameter or data)
    param: int | None = None  # index into Meta.params
    grad: GradStat | None = None  # the share of the gradient that THIS op sends to the operand; None: none was sent
    value: ValueStat | None = None  # its value, kept for leaves that are not parameters, and for singular operations
    file: str | None = None  # for data: the line that made it, as far back as could be followed
    line: int | None = None
    born: str | None = None  # for data that is not finite: the operation at that line that made it so from finite data
    shape: list[int] = []  # of data without a value (classes, masks), and of a result that is not the first of its op
    cut: int | None = None  # of data computed from weights: index into Probe.cuts of what took it out of the graph
    mask: bool = False  # it was given as a mask: it says where to look, and is no data
    own: bool = False  # made of the network's own parameters or values, without gradients: a target of its own making


class Op(msgspec.Struct):
    """One operation of the forward pass as the user wrote it, and the gradient at its output.

    `grad` is the whole gradient at the output (summed over everything that consumes it). `kind` groups operations for
    the budget: linear, conv, embedding, recurrent, attention, norm, activation, softmax, loss, reduce, elementwise,
    shape, singular, random, derivative, other.
    """

    index: int
    name: str  # "relu", "linear", "sqrt", ...
    kind: str
    file: str | None
    line: int | None
    function: str | None  # name of the user's function the line is in
    module: str | None  # path from the root module: "encoder.layers.3.fc1"
    module_class: str | None
    operands: list[Operand]
    value: ValueStat
    grad: GradStat | None = None
    inplace: bool = False
    scalars: list[float] = []  # python numbers among the arguments (a factor, an exponent, an eps)
    stack: list[tuple[str, int]] = []  # user frames, innermost first: (file, line)
    inside: bool = True  # the line is in a module's forward; False: it only calls the model, see `made_line`
    made_file: str | None = None  # where the innermost module (a layer of torch.nn) was made or put into its container
    made_line: int | None = None
    made_key: str | None = None  # its name in that container: "3" in a Sequential
    span: int | None = None  # normalisations: entries that each is over; 1: nothing but a constant comes out
    reads: list[int] = []  # recurrences and attention: (steps, batch) as the operation takes its input
    custom: Linearity | None = None  # of an autograd.Function of the script's
    ready: bool = (
        False  # the line only calls a container of ready-made layers, or a ready-made recurrence: see `made_line`
    )


class Cut(msgspec.Struct):
    """A call that takes a value out of the graph (`detach`, `numpy`, `argmax`): the operation it cuts, and the line."""

    op: int  # index of the Op whose value it takes; −1: a parameter was used with gradients switched off
    name: str
    file: str | None
    line: int | None
    param: int | None = None
    value: float | None = None  # what was taken out, where it is one number


class ParamState(msgspec.Struct, gc=False):
    """One parameter's weights at a probed step."""

    param: int
    norm: float
    mean: float
    std: float
    absmax: float
    alike: (
        float | None
    )  # how alike its units (rows, or columns) are: 0 for random ones, 1 when all are one and the same
    nonfinite: int
    grad: GradStat | None


class Probe(msgspec.Struct):
    """The graph of one forward and backward pass, with statistics at every op, loss last in `ops` order."""

    step: int
    at: float
    reason: str  # "first", "schedule", "trouble: ...", "known" (of a replay: the watched run had trouble there)
    loss: float | None
    root: int | None  # index of the op whose output `backward` was called on
    ops: list[Op]
    params: list[ParamState]
    optimizer: int | None = None
    sharpness: Sharpness | None = None
    carried: float | None = None  # norm of .grad left over from before this step's first backward (zero_grad missing?)
    batch: int | None = None  # samples in the batch, read off the first dimension of the data
    notes: list[str] = []  # what was not measured, and why
    without_grad: list[int] = []  # parameters that were used in this step with gradients switched off
    cost: float = 0.0  # seconds spent on measuring
    isolation: Isolation | str | None = (
        None  # whether samples mix between the network's input and its output; or why that was not seen
    )
    isometry: Isometry | None = None  # only on request
    recurrent: list[Recurrence] = []  # the gradient over time, per layer and direction
    cuts: list[Cut] = []  # where values were taken out of the graph
    hooks: list[Cut] = []  # of the script's own on what an operation gives
    buffers: Buffers | None = None  # None: none was looked at
    descent: Descent | str | None = None  # what the step did to the loss of this batch; or why that was not measured
    transit: Transit | None = None  # from backward to the weights; None: it was not measured


class Step(msgspec.Struct, gc=False):
    """One optimizer step as the cheap tier sees it. Norms are over all of the optimizer's parameters together."""

    step: int
    at: float
    optimizer: int
    lr: float | None
    loss: float | None  # the last tensor `backward` was called on before (or inside) this step
    grad: float | None
    weight: float | None
    update: float | None
    nonfinite: int = 0  # parameters whose gradient is not finite
    backwards: int = 1  # backward calls since the step before (gradient accumulation, closures, several losses)
    momentum: float | None = None
    along: float | None = None  # cosine between the update and −gradient; 1 downhill, −1 uphill; measured on some steps


class ParamNorms(msgspec.Struct):
    """Per-parameter norms at one step, kept for every step at first and thinned later.

    ABSENT (−1) stands where there was nothing to measure (a parameter without a gradient); NaN and Inf are what was seen.
    """

    step: int
    optimizer: int
    params: list[int]
    grad: list[float]
    weight: list[float]
    update: list[float]


class Param(msgspec.Struct, gc=False):
    """A parameter (or a leaf that requires grad): where it was made and last initialised, and who trains it."""

    index: int
    name: str
    shape: list[int]
    dtype: str
    requires_grad: bool
    is_parameter: bool  # torch.nn.Parameter, or a plain tensor
    optimizer: int | None = None
    file: str | None = None  # where it was made
    line: int | None = None
    init: str | None = None  # the call that initialised it last, e.g. "normal_"
    init_file: str | None = None
    init_line: int | None = None
    module_class: str | None = None
    graded: int = 0  # steps of its optimizer in which it had a gradient
    in_graph: bool = False  # a probed backward pass reached it


class Group(msgspec.Struct):
    """A parameter group of an optimizer, as it was at its first step: its own options, and its parameters."""

    options: dict[str, Any]
    params: list[int]


class Optimizer(msgspec.Struct):
    """An optimizer: its class, its options, where it was made or first stepped."""

    index: int
    name: str
    options: dict[str, Any]
    params: list[int]
    file: str | None = None  # the line that calls step()
    line: int | None = None
    made_file: str | None = None  # the line that made it, where that could be found
    made_line: int | None = None
    steps: int = 0
    groups: list[Group] = []

    @property
    def adaptive(self) -> bool:
        """Whether it rescales each coordinate, so that plain sharpness says nothing of its stability."""
        return not self.name.upper().startswith(("SGD", "ASGD", "LBFGS"))


class Warned(msgspec.Struct):
    """A warning that the script was shown: what Python told of it, and the script's own line that led to it."""

    category: str
    message: str
    file: str  # as Python tells it: of a library, its own
    line: int
    steps: int = 0  # that were taken when it first came
    count: int = 1  # times it was shown; Python shows most of them once
    at_file: str | None = None  # the script's line
    at_line: int | None = None


class Note(msgspec.Struct):
    """Something to tell the user at the end. kind: "watcher" (an error of ours), "script" (how it ended), "advice",
    "record" (what of a damaged record was left out), "replay" (why it cannot be told),
    "processes" (which of several it was).
    """

    kind: str
    text: str
    at: float = 0.0


class Meta(msgspec.Struct):
    """One run: what was run, with what, and how it ended."""

    script: str
    argv: list[str]
    cwd: str
    started: str  # ISO time
    python: str
    torch: str
    params: list[Param] = []
    optimizers: list[Optimizer] = []
    sources: dict[str, str] = {}  # file -> text, only files that appear in the trace
    elapsed: float = 0.0
    overhead: float = 0.0  # seconds spent by the watcher
    steps: int = 0
    backwards: int = 0
    ended: str | None = (
        None  # finished, exception, exit, interrupted, max-steps, max-time; None: killed or still running
    )
    exit_code: int | None = None
    error: str | None = None
    unit: str = "optimizer"  # what a step is: "optimizer" step, or "backward" call where the script has no optimizer
    module: bool = False  # run as `python -m`
    compiled: bool = False  # PyTorch compiled something, and the watcher stepped aside
    compared: int = 0  # steps ahead of which the weights were held against what the step before left
    late: int = 0  # backward calls on what was computed ahead of the step before (of the steps that were looked at)
    warned: list[Warned] = []  # what the script was warned of, each once
    warned_more: int = 0  # warnings beyond those
    rank: int = 0  # of several processes that train together, which this one was
    ranks: int = 1  # and how many there were
    shared_out: bool = False  # parameters were shared out among them: norms are of the part in this one
    transformed: bool = False  # torch calls ran inside a transform of torch.func, where nothing is watched


Other = ParamNorms | Probe | Note | Rewrite
Record = Step | Other


class Run(msgspec.Struct):
    """Everything seen of one run; what the rules judge and the reports draw."""

    meta: Meta
    steps: list[Step] = []
    norms: list[ParamNorms] = []
    probes: list[Probe] = []
    notes: list[Note] = []
    rewrites: list[Rewrite] = []

    def losses(self) -> dict[int, list[float]]:
        """Return the losses of each optimizer's steps; a step without a backward call of its own stands on the loss of the call
        before it (two optimizers that step after one call).
        """
        found: dict[int, list[float]] = {}
        before: float | None = None
        for step in self.steps:
            before = step.loss if step.loss is not None or step.backwards else before
            if before is not None:
                found.setdefault(step.optimizer, []).append(before)
        return found

    def losses_of(self, optimizer: int) -> list[float]:
        """Return the losses of one optimizer's steps."""
        return self.losses().get(optimizer, [])

    def add(self, record: Record) -> None:
        """Put a record where it belongs."""
        match record:
            case Step():
                self.steps.append(record)
            case ParamNorms():
                self.norms.append(record)
            case Probe():
                self.probes.append(record)
            case Note():
                self.notes.append(record)
            case Rewrite():
                self.rewrites.append(record)
