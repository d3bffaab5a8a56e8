"""The sluice: the only types that leave the torch side.

Everything here is plain data (msgspec structs), so that causes and reports work, and are tested, on a machine without
PyTorch. Four families:

- `seen`     what was seen of a training run: `Run` = `Meta` + `Step` + `ParamNorms` + `Probe` (a graph of `Op`) + `Note`
- `verdict`  what it means: `Verdict`, written as `verdict.json` under the schema name in `SCHEMA`
- `replay`   what was tried: `Replay`, remedies on the same script beside a baseline
- `flow`     what a drop does in parameter space: `Flow`, written by `gradientflow flow --json` under `FLOW_SCHEMA`

Units: `grad` norms are Euclidean norms of ∂L/∂(tensor); a `gain` is ‖gradient at the input‖ / ‖gradient at the output‖
of an operation, and a *decade* is log10 of a gain. Times of a run are seconds since it began; times of a flow are flow
time, of which one gradient-descent step of learning rate η takes η.
"""

from gradientflow.records.flow import (
    FLOW_SCHEMA,
    Apart,
    Check,
    Drops,
    Ending,
    FixedPoint,
    Flow,
    Portrait,
    Rest,
    Spent,
    Story,
    Track,
)
from gradientflow.records.remedies import REMEDIES
from gradientflow.records.replay import BUDGET as REPLAY_BUDGET
from gradientflow.records.replay import FAILED, NO_WIN, NOT_TRIED, OUTCOMES, WIN, WORSE, Change, Outlook, Replay, Trial
from gradientflow.records.seen import (
    ABSENT,
    Cut,
    GradStat,
    Isometry,
    Meta,
    Noise,
    Note,
    Op,
    Operand,
    Optimizer,
    Param,
    ParamNorms,
    ParamState,
    Place,
    Probe,
    Recurrence,
    Run,
    Sharpness,
    Step,
    Stretch,
    ValueStat,
)
from gradientflow.records.verdict import (
    MARKS,
    SCHEMA,
    SYMPTOMS,
    Budget,
    Certificate,
    Finding,
    Loss,
    Remedy,
    Share,
    Trained,
    Verdict,
    Watch,
)

__all__ = [
    "ABSENT",
    "FAILED",
    "FLOW_SCHEMA",
    "MARKS",
    "NOT_TRIED",
    "NO_WIN",
    "OUTCOMES",
    "REMEDIES",
    "REPLAY_BUDGET",
    "SCHEMA",
    "SYMPTOMS",
    "WIN",
    "WORSE",
    "Apart",
    "Budget",
    "Certificate",
    "Change",
    "Check",
    "Cut",
    "Drops",
    "Ending",
    "Finding",
    "FixedPoint",
    "Flow",
    "GradStat",
    "Isometry",
    "Loss",
    "Meta",
    "Noise",
    "Note",
    "Op",
    "Operand",
    "Optimizer",
    "Outlook",
    "Param",
    "ParamNorms",
    "ParamState",
    "Place",
    "Portrait",
    "Probe",
    "Recurrence",
    "Remedy",
    "Replay",
    "Rest",
    "Run",
    "Share",
    "Sharpness",
    "Spent",
    "Step",
    "Story",
    "Stretch",
    "Track",
    "Trained",
    "Trial",
    "ValueStat",
    "Verdict",
    "Watch",
]
