"""The sluice: the only types that leave the torch side.

Everything here is plain data (msgspec structs), so that causes and reports work, and are tested, on a machine without
PyTorch. Five families:

- `seen`     what was seen of a training run: `Run` = `Meta` + `Step` + `ParamNorms` + `Probe` (a graph of `Op`) + `Note`
- `transit`  of it, the way from backward to the weights: `Transit` of a probed step, `Rewrite` between two steps
- `verdict`  what it means: `Verdict`, written as `verdict.json` under the schema name in `SCHEMA`
- `replay`   what was tried: `Replay`, remedies on the same script beside a baseline
- `flow`     what a drop does in parameter space: `Flow`, written by `gradientflow flow --json` under `FLOW_SCHEMA`

Units: `grad` norms are Euclidean norms of ∂L/∂(tensor); a `gain` is ‖gradient at the input‖ / ‖gradient at the output‖
of an operation, and a *decade* is log10 of a gain. Times of a run are seconds since it began; times of a flow are flow
time, of which one gradient-descent step of learning rate η takes η.
"""

from gradientflow.records.checks import Isolation, Linearity
from gradientflow.records.extras import Buffers, Isometry, Noise, Recurrence, Sharpness, Stretch
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
from gradientflow.records.replay import (
    FAILED,
    NO_WIN,
    NOT_TRIED,
    OUTCOMES,
    WIN,
    WORSE,
    Change,
    Doubt,
    Outlook,
    Replay,
    Trial,
)
from gradientflow.records.seen import (
    ABSENT,
    Cut,
    GradStat,
    Group,
    Meta,
    Note,
    Op,
    Operand,
    Optimizer,
    Other,
    Param,
    ParamNorms,
    ParamState,
    Place,
    Probe,
    Record,
    Run,
    Step,
    ValueStat,
)
from gradientflow.records.transit import REWRITES, Alteration, GroupStep, Passed, Rewrite, Stage, Transit
from gradientflow.records.verdict import (
    MARKS,
    SCHEMA,
    SYMPTOMS,
    Budget,
    Certificate,
    Factor,
    Finding,
    Loss,
    Remedy,
    Share,
    StepBudget,
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
    "REWRITES",
    "SCHEMA",
    "SYMPTOMS",
    "WIN",
    "WORSE",
    "Alteration",
    "Apart",
    "Budget",
    "Buffers",
    "Certificate",
    "Change",
    "Check",
    "Cut",
    "Doubt",
    "Drops",
    "Ending",
    "Factor",
    "Finding",
    "FixedPoint",
    "Flow",
    "GradStat",
    "Group",
    "GroupStep",
    "Isolation",
    "Isometry",
    "Linearity",
    "Loss",
    "Meta",
    "Noise",
    "Note",
    "Op",
    "Operand",
    "Optimizer",
    "Other",
    "Outlook",
    "Param",
    "ParamNorms",
    "ParamState",
    "Passed",
    "Place",
    "Portrait",
    "Probe",
    "Record",
    "Recurrence",
    "Remedy",
    "Replay",
    "Rest",
    "Rewrite",
    "Run",
    "Share",
    "Sharpness",
    "Spent",
    "Stage",
    "Step",
    "StepBudget",
    "Story",
    "Stretch",
    "Track",
    "Trained",
    "Transit",
    "Trial",
    "ValueStat",
    "Verdict",
    "Watch",
]
