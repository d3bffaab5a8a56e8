"""The wing of depth: the gradient's way back from the loss through the layers.

`run` watches an unmodified script; `judge` turns what was seen into a verdict (without torch, also for a run on disk), `way_at` one probed step into its way back, `moment` both into what the screens take;
`try_remedies` replays the script with the verdict's remedies, each beside a baseline; `attach` puts that into the verdict, `added` beside
what was replayed before; `same_script` refuses a script that is not as it was watched; `course` reads a trial that still goes on.
From a notebook or a test: `diagnose` looks at a model once, `assert_flows` raises where its gradient does not flow,
`watching` watches a loop of the user's own (as `gradientflow.watch`). `small_look` builds a small network from knobs and looks at it;
`diagnose_alone` is `diagnose` where several threads may ask at once.
"""

from __future__ import annotations

import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradientflow.depth.causes import judge, looked_at, way_at
from gradientflow.depth.replay.stats import SEEDS
from gradientflow.records import REPLAY_BUDGET

if TYPE_CHECKING:
    from gradientflow.depth.look.alone import diagnose_alone
    from gradientflow.depth.look.assert_flows import GradientFault, assert_flows
    from gradientflow.depth.look.diagnose import diagnose
    from gradientflow.depth.look.diagnosis import Diagnosis
    from gradientflow.depth.look.watching import watching
    from gradientflow.depth.moments import moment
    from gradientflow.depth.replay.adding import added
    from gradientflow.depth.replay.attach import attach
    from gradientflow.depth.replay.course import course
    from gradientflow.depth.replay.race import replay as try_remedies
    from gradientflow.depth.replay.same import same_script
    from gradientflow.depth.small.knobs import opened as small_knobs
    from gradientflow.depth.small.look import small_field, small_look, small_training
    from gradientflow.depth.watch.session import Outcome
    from gradientflow.depth.watch.session import run_script as run

REPLAY_SEEDS = int(SEEDS)
_WHERE = {  # torch is imported only when something is to be run
    "Diagnosis": ("look.diagnosis", "Diagnosis"),
    "GradientFault": ("look.assert_flows", "GradientFault"),
    "Outcome": ("watch.session", "Outcome"),
    "added": ("replay.adding", "added"),
    "assert_flows": ("look.assert_flows", "assert_flows"),
    "attach": ("replay.attach", "attach"),
    "course": ("replay.course", "course"),
    "diagnose": ("look.diagnose", "diagnose"),
    "diagnose_alone": ("look.alone", "diagnose_alone"),
    "moment": ("moments", "moment"),
    "run": ("watch.session", "run_script"),
    "same_script": ("replay.same", "same_script"),
    "small_field": ("small.look", "small_field"),
    "small_knobs": ("small.knobs", "opened"),
    "small_look": ("small.look", "small_look"),
    "small_training": ("small.look", "small_training"),
    "try_remedies": ("replay.race", "replay"),
    "watching": ("look.watching", "watching"),
}

__all__ = [
    "REPLAY_BUDGET", "REPLAY_SEEDS", "Diagnosis", "GradientFault", "Outcome", "added", "assert_flows", "attach", "course", "diagnose", "diagnose_alone", "judge", "looked_at", "moment", "run", "same_script", "small_field", "small_knobs", "small_look", "small_training", "try_remedies", "watching", "way_at",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, found = _WHERE[name]
    drawn = random.getstate()  # rich draws a number when it is imported; the user's are his
    try:
        return getattr(import_module(f"{__name__}.{room}"), found)
    finally:
        random.setstate(drawn)
