"""What was tried: remedies replayed on the same script, beside a baseline, and what they did.

A `Change` says what is done to a running script; a `Trial` what came of it; a `Replay` holds the baseline and all trials.
Losses are in the script's own unit. Decades are log10 of ‖gradient at the first layer‖ / ‖gradient at the last layer‖.
"""

from __future__ import annotations

import msgspec

from gradientflow.records.seen import Place

Setting = float | int | str | bool | list[float]

WIN, NO_WIN, WORSE, FAILED, NOT_TRIED = "win", "no-proven-win", "worse", "failed", "not-tried"
BUDGET = 300.0  # seconds that all trials of a replay may take, unless it is said otherwise
OUTCOMES = (WIN, NO_WIN, WORSE, FAILED, NOT_TRIED)


class Change(msgspec.Struct):
    """One remedy as an intervention on a running script: its kind, where it acts, and with which settings.

    `places` are the lines where it acts; empty where it acts on an optimizer, or everywhere. `text` says in words what is
    done ("tanh instead of sigmoid at net.py:24").
    """

    kind: str  # a word of the remedies
    text: str
    places: list[Place] = []
    settings: dict[str, Setting] = {}


class Outlook(msgspec.Struct):
    """How one run of the script went, judged as any run is: losses at the end, decades, symptom and cause on top."""

    steps: int
    loss_first: float | None
    loss_last: float | None  # mean of the last fifth; None: no finite loss there
    decades: float | None
    symptom: str
    cause: str | None = None
    summary: str = ""
    finite: bool = True


class Trial(msgspec.Struct):
    """One change (or several together), tried on the same script with the same seeds and batches as the baseline.

    `difference` is the mean of (a − b) / (|a| + |b|), a the loss with the change and b that of the baseline, over the last
    fifth of the steps, paired step by step and seed by seed; `low` and `high` are its 95 % interval. −1: nothing is left of the
    loss; 0: no difference; for positive losses a/b is (1 + d)/(1 − d). None where one of the two is not finite.
    """

    changes: list[Change]
    finding: int  # index into Verdict.findings
    outcome: str  # win, no-proven-win, worse, failed, not-tried
    reason: str  # in words: why this outcome
    seeds: int = 0
    after: Outlook | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    gone: bool = False  # whether the symptom that it is for is no longer there
    remains: str = ""  # what is still, or newly, wrong with the change in place
    diff: str | None = None  # the change as an edit of the source, a unified diff
    diff_tried: bool | None = None  # whether the edited source was run, and did as the intervention did; None: not run
    diff_equal: bool | None = None  # whether its losses were those of the intervention bit for bit; None: not run
    before: float | None = None  # the baseline's last loss in the trial's unit, where that is not the script's own


class Doubt(msgspec.Struct):
    """A finding whose cause was tested by remedies of which none made anything better, and what is left of its confidence."""

    finding: int  # index into Verdict.findings
    cause: str
    trials: int
    before: float  # 0..1
    after: float


class Replay(msgspec.Struct):
    """Remedies tried on the same script: the baseline, the trials, and which of them is best.

    `reproducible` says whether the baseline's losses were those of the watched run, step by step.
    """

    baseline: Outlook
    trials: list[Trial] = []
    best: int | None = None  # index into trials; None: no proven win
    steps: int = 0  # of each trial
    seeds: int = 0
    seconds: float = 0.0
    budget: float = 0.0  # seconds allowed
    reproducible: bool | None = None
    notes: list[str] = []
    doubts: list[Doubt] = []
