"""The wing of depth: the gradient's way back from the loss through the layers.

`run` watches an unmodified script; `judge` turns what was seen into a verdict (without torch, also for a run on disk);
`try_remedies` replays the script with the verdict's remedies, each beside a baseline; `attach` puts that into the verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradientflow.depth.causes import judge
from gradientflow.depth.replay.attach import attach
from gradientflow.depth.replay.race import DEFAULT_BUDGET
from gradientflow.depth.replay.race import replay as try_remedies

if TYPE_CHECKING:
    from gradientflow.depth.watch.session import Outcome
    from gradientflow.depth.watch.session import run_script as run

__all__ = ["DEFAULT_BUDGET", "Outcome", "attach", "judge", "run", "try_remedies"]


def __getattr__(name: str) -> Any:  # torch is imported only when something is to be run
    if name in ("run", "Outcome"):
        from gradientflow.depth.watch import session

        return session.run_script if name == "run" else session.Outcome
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
