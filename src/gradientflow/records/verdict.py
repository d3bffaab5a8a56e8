"""What a run means: the verdict, written as `verdict.json` under the schema name in `SCHEMA`.

A `gain` is ‖gradient at the input‖ / ‖gradient at the output‖ of an operation, and a *decade* is log10 of a gain.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gradientflow.records.replay import Replay
from gradientflow.records.seen import Place, Warned

SCHEMA = "gradientflow.verdict/1"


class Remedy(msgspec.Struct):
    """What to do, in words; `replayed` holds the measured effect once it was tried on the same script."""

    kind: str
    text: str
    replayed: dict[str, Any] | None = None


class Finding(msgspec.Struct):
    """One thing that is wrong: symptom, cause, place, the numbers it rests on, and remedies."""

    symptom: str
    cause: str
    confidence: float  # 0..1
    place: Place | None
    summary: str
    evidence: dict[str, Any]
    remedies: list[Remedy]
    reason: str = ""  # of an alternative: why it ranks below the first finding; empty for the first


class Share(msgspec.Struct):
    """One row of the budget: what an op, module or kind did to the gradient on its way back.

    `gain` is this row's factor; `decades` its log10 (negative: taken); `norm` is the gradient that arrives at the row's
    tensor (the op's output, before the op acts), `left` its log10 relative to the gradient at the network's output. `share` marks rows at a branch: the fraction of
    the gradient that went this way. Rows of `by_module` and `by_kind` sum rows of `by_op`.
    """

    name: str
    kind: str
    decades: float | None
    gain: float | None
    left: float | None = None
    norm: float | None = None
    file: str | None = None
    line: int | None = None
    module: str | None = None
    op: int | None = None  # index into Probe.ops
    count: int = 1
    share: float | None = None
    mark: str | None = None  # "vanishing" ▼, "exploding" ▲, "not-finite" ✕, "dead" ○ where this row is to blame
    body: bool = True  # between the network's output and its first layer (the part that is judged), or loss side


class Budget(msgspec.Struct):
    """Decades from the loss back to the first layer; parts sum to the total, `residual` is parts minus total.

    `body_decades` leaves out the loss side, so that a factor on the loss changes nothing that is judged.
    """

    total_decades: float | None = None
    by_op: list[Share] = []
    by_module: list[Share] = []
    by_kind: list[Share] = []
    residual: float | None = None
    body_decades: float | None = None
    branched: bool = False
    step: int | None = None
    note: str = ""
    everywhere: list[
        Share
    ] = []  # by kind over all routes at once, each weighted by the gradient's energy that takes it
    worst_op: Share | None = None  # of all routes: the one operation that took (or added) most


class Loss(msgspec.Struct):
    """First and last loss seen."""

    first: float | None = None
    last: float | None = None


class Watch(msgspec.Struct):
    """What watching was and cost: probed steps, overhead as a fraction of the script's own time, errors of ours."""

    probed_steps: int = 0
    overhead: float = 0.0
    errors: list[str] = []


class Factor(msgspec.Struct):
    """One stage of the way from the gradient to the step: its factor, and the decades that it takes or adds."""

    name: str  # between, decay, momentum, preconditioner, rule, learning rate, rounding
    factor: float | None  # None: nothing came into it, or it was not finite
    decades: float | None


class StepBudget(msgspec.Struct):
    """The way from ∇L to Δw of one parameter group at one probed step; the decades of its stages sum to the total.

    `between` is what the script did to the gradient behind backward (clipping, scaling); `eps_rules` is the share of entries whose
    √v is below eps, `lost` the share of updates that rounding swallowed.
    """

    optimizer: str
    group: int
    step: int
    gradient: float  # ‖∇L‖ as backward left it, of the entries that were looked at
    update: float  # ‖Δw‖
    stages: list[Factor]
    total_decades: float | None = None
    eps_rules: float | None = None
    lost: float | None = None
    boxed: bool = False  # the rule of this optimizer is not known: it is one stage
    index: int = 0  # number of the optimizer, which tells two of one class apart


class Certificate(msgspec.Struct):
    """One link between the flow and a training run, checked: it held, it is broken, or it was not measured."""

    name: str  # finite, transmission, step, continuity, descent, isolation, terms
    state: str  # "held", "broken", "not-measured"
    why: str  # one sentence: what was checked, over how much, with the number that decided
    numbers: dict[str, Any] = {}


class Trained(msgspec.Struct):
    """What one of several optimizers did: its steps, its own loss, and the way its gradient takes back to what it trains."""

    name: str
    steps: int
    loss: Loss
    file: str | None = None  # the line that made it
    line: int | None = None
    decades: float | None = None  # between the last layer and the first that it trains
    index: int = 0  # its number, as in `StepBudget`
    trains: str = ""  # the modules whose parameters it holds: "G", or "net.body, net.head"
    budget: Budget = msgspec.field(default_factory=Budget)  # of the first probed step of its own, or the finding's


class Verdict(msgspec.Struct):
    """The judgement on one run; `symptom` is the top finding's, or "healthy", or "not-measured"."""

    script: str
    steps: int
    loss: Loss
    symptom: str
    findings: list[Finding]
    budget: Budget
    watch: Watch
    summary: str = ""  # one sentence: the verdict in words, with what was measured to say so
    certificates: list[Certificate] = []  # what was proven, by name, and what was not measured
    step_budgets: list[StepBudget] = []  # the second budget, by group and probed step, over training
    optimizers: list[Trained] = []  # where there are several
    warned: list[Warned] = []  # warnings that the script was shown while it ran
    replay: Replay | None = None  # remedies tried on the same script; None: nothing was tried
    schema: str = SCHEMA


SYMPTOMS = (
    "vanishing",
    "exploding",
    "not-finite",
    "dead",
    "disconnected",
    "oscillating",
    "diverging",
    "crawling",
    "stalled",
    "noisy",
    "healthy",
    "not-measured",
)

MARKS = {"vanishing": "▼", "exploding": "▲", "not-finite": "✕", "dead": "○"}
