"""A run and its verdict as the screens take them: with what makes the way back of any of its probes."""

from __future__ import annotations

from typing import Any

from gradientflow.depth.causes import looked_at, way_at
from gradientflow.records import Run, Verdict
from gradientflow.report import Moment


def moment(run: Run, verdict: Verdict, **more: Any) -> Moment:
    """Return a run as it stands; `more` are further attributes of `Moment`: version, state, judged, kept."""
    return Moment(run, verdict, way_at, looked_at(run, verdict), **more)
